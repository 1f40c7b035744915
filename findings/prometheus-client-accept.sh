#!/usr/bin/env bash
# prometheus-client 0.26.0 ignores the weights of the header Accept, and answers in a format that the request refuses.
#
# Expected: `application/openmetrics-text;q=0` says that OpenMetrics is not acceptable (RFC 9110, 12.4.2), and a higher weight of
# text/plain that it is preferred.
# Observed: any mention of OpenMetrics gets OpenMetrics, by make_wsgi_app(), make_asgi_app() and start_http_server() alike, which all use
# choose_encoder(). With text/plain;q=1 and OpenMetrics;q=0 the answer is OpenMetrics.
# It matters to who scrapes with something else than Prometheus, which prefers OpenMetrics anyway: leave the name out of the header.
# Exits with 1 when that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet prometheus-client==0.26.0
"$folder/venv/bin/python" - <<'PYTHON'
import sys
import urllib.request
from importlib.metadata import version

from prometheus_client import CollectorRegistry, start_http_server

ACCEPTED = {
    "text/plain": "text/plain",
    "application/openmetrics-text; version=1.0.0": "application/openmetrics-text",
    "text/plain; version=0.0.4; q=1, application/openmetrics-text; version=1.0.0; q=0.1": "application/openmetrics-text",
    "text/plain; version=0.0.4; q=1, application/openmetrics-text; version=1.0.0; q=0": "application/openmetrics-text",
}
print("prometheus-client", version("prometheus-client"))
server, _ = start_http_server(0, "127.0.0.1", CollectorRegistry())
answered = {}
for accept in ACCEPTED:
    request = urllib.request.Request(f"http://127.0.0.1:{server.server_port}/metrics", headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=10) as response:
        answered[accept] = response.headers.get_content_type()
    print(f"{accept} gets {answered[accept]}")
server.shutdown()
server.server_close()
sys.exit(answered != ACCEPTED)
PYTHON
