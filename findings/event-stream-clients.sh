#!/usr/bin/env bash
# Four of six clients for event streams read valid streams otherwise than the HTML standard says.
#
# Expected: lines of `data` are joined with line breaks, a block without `data` is no event, and a block that the end of the stream cuts off
# is discarded.
# Observed: @microsoft/fetch-event-source 2.0.1 and extended-eventsource 2.1.0 lose line breaks at the beginning of a text. Both and httpx-sse
# 0.4.3 make a message without text of a block that has only `retry`. sseclient-py 1.9.0 delivers what has come of a block that was cut
# off. eventsource 5.1.5 and undici 7.30.2 do as the standard says.
# It matters to who streams the answer of a model piece by piece: pieces begin with line breaks, so paragraphs run together. Send each piece
# as JSON, which has no line breaks of its own, ignore messages without text, and do not parse the last one before it is known to be whole.
# Exits with 1 when that changes, and with 77 without npm.
set -euo pipefail
command -v npm >/dev/null || { echo "npm is missing"; exit 77; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv python
python/bin/pip install --quiet httpx-sse==0.4.3 httpx==0.28.1 sseclient-py==1.9.0 requests==2.34.2
npm install --silent --no-audit --no-fund @microsoft/fetch-event-source@2.0.1 extended-eventsource@2.1.0 eventsource@5.1.5 undici@7.30.2
cat >read.mjs <<'JAVASCRIPT'
const [name, url] = process.argv.slice(2);
const texts = [];
if (name === "@microsoft/fetch-event-source") {
  // It is written for pages, and looks whether the page is hidden.
  globalThis.window = globalThis;
  globalThis.document = { hidden: false, addEventListener() {}, removeEventListener() {} };
  const { fetchEventSource } = await import(name);
  await fetchEventSource(url, { onmessage: (event) => texts.push(event.data) });
} else {
  const { EventSource } = await import(name);
  console.error = () => {};
  const source = new EventSource(url, { disableRetry: true });
  source.onmessage = (event) => texts.push(event.data);
  await new Promise((resolve) => (source.onerror = resolve));
  source.close();
}
console.log(JSON.stringify(texts));
process.exit(0);
JAVASCRIPT
cat >read.py <<'PYTHON'
import json
import sys

name, url = sys.argv[1:]
texts = []
if name == "httpx-sse":
    import httpx
    import httpx_sse

    with httpx.Client() as client, httpx_sse.connect_sse(client, "GET", url) as source:
        texts += [event.data for event in source.iter_sse()]
else:
    import requests
    import sseclient

    texts += [event.data for event in sseclient.SSEClient(requests.get(url, stream=True)).events()]
print(json.dumps(texts))
PYTHON
python/bin/python -u - <<'PYTHON'
import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

STREAMS = {
    "line breaks": b"data: one\n\ndata: \ndata: \ndata: two\n\n",
    "retry alone": b"data: one\n\nretry: 1000\n\ndata: two\n\n",
    "cut off": b'data: one\n\ndata: {"half":',
}
STANDARD = (["one", "\n\ntwo"], ["one", "two"], ["one"])
NO_BREAKS, EMPTY, HALF = ["one", "two"], ["one", "", "two"], ["one", '{"half":']
CLIENTS = {
    "eventsource": STANDARD,
    "undici": STANDARD,
    "@microsoft/fetch-event-source": (NO_BREAKS, EMPTY, ["one"]),
    "extended-eventsource": (NO_BREAKS, EMPTY, ["one"]),
    "httpx-sse": (STANDARD[0], EMPTY, ["one"]),
    "sseclient-py": (STANDARD[0], STANDARD[1], HALF),
}
seen_paths = set()


class Server(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        again = self.path in seen_paths
        seen_paths.add(self.path)
        self.send_response(204 if again else 200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        if not again:
            self.wfile.write(list(STREAMS.values())[int(self.path[-1])])

    def log_message(self, *_: object) -> None:
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
as_described = True
for number, (name, expected) in enumerate(CLIENTS.items()):
    command = ["node", "read.mjs"] if number < 4 else ["python/bin/python", "read.py"]
    got = []
    for index in range(len(STREAMS)):
        url = f"http://127.0.0.1:{server.server_port}/{number}/{index}"
        read = subprocess.run([*command, name, url], capture_output=True, text=True, timeout=60)
        if read.returncode:
            print(read.stderr)
        got.append(json.loads(read.stdout.splitlines()[-1]))
    print(f"{name}: " + "; ".join(f"{stream}: {json.dumps(texts)}" for stream, texts in zip(STREAMS, got)))
    as_described &= tuple(got) == expected
sys.exit(not as_described)
PYTHON
