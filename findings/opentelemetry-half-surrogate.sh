#!/usr/bin/env bash
# opentelemetry-exporter-otlp-proto-http 1.45.2: a span that ends with an exception whose text has half a surrogate pair
# takes all spans of its batch with it.
#
# Expected: the text is mended or left out, as the exporter leaves out an attribute that it cannot encode.
# Observed: the SDK copies the exception's text into the status of the span. The exporter cannot write it in UTF-8, logs one
# line, and drops the whole batch, up to 512 spans. force_flush() returns True, and the collector gets no request.
# It matters to who opens files (Python has such halves in names that are not UTF-8) or reads JSON (json.loads() makes one of "\ud83d"):
# one odd file name hides what else happened then. Names of spans and of events do the same. The texts of attributes do not.
# start_as_current_span(set_status_on_exception=False) keeps the text out of the status.
# Exits with 1 when that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder"
"$folder/bin/pip" install --quiet opentelemetry-sdk==1.45.2 opentelemetry-exporter-otlp-proto-http==1.45.2
"$folder/bin/python" - <<'PYTHON'
import gzip
import logging
import sys
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from threading import Thread

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

received: list[str] = []


class Collector(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers["Content-Encoding"] == "gzip":
            body = gzip.decompress(body)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            received.extend(span.name for scope in resource.scope_spans for span in scope.spans)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def exported(file: str, **options: bool) -> tuple[bool, list[str]]:
    """Make three spans, of which the second cannot open a file, and tell what came of them."""
    received.clear()
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint)))
    tracer = provider.get_tracer("finding")
    with tracer.start_as_current_span("before"):
        pass
    with suppress(OSError), tracer.start_as_current_span("open", **options):
        raise FileNotFoundError(f"no such file: {file}")
    with tracer.start_as_current_span("after"):
        pass
    flushed = provider.force_flush()
    provider.shutdown()
    return flushed, list(received)


logging.disable()
collector = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
Thread(target=collector.serve_forever, daemon=True).start()
endpoint = f"http://127.0.0.1:{collector.server_port}/v1/traces"
name = b"caf\xe9".decode(errors="surrogateescape")  # as os.listdir() gives it
observed = {
    "an ordinary name": exported("cafe"),
    "a name in Latin-1": exported(name),
    "the same with set_status_on_exception=False": exported(name, set_status_on_exception=False),
}
print("opentelemetry-exporter-otlp-proto-http", version("opentelemetry-exporter-otlp-proto-http"))
for case, (flushed, spans) in observed.items():
    print(f"{case}: force_flush() {flushed}, received {spans}")
whole = (True, ["before", "open", "after"])
sys.exit([*observed.values()] != [whole, (True, []), whole])
PYTHON
