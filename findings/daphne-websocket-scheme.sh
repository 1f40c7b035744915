#!/usr/bin/env bash
# daphne 4.2.3 gives a WebSocket's ASGI scope no "scheme", and Quart 0.22.0 requires one: under daphne
# each WebSocket of a Quart application fails.
#
# Expected: the handshake succeeds, since "scheme" is optional in ASGI and then means "ws".
# Observed: KeyError 'scheme' in Quart, and the client's handshake is refused.
# It is known (issue 538 of django/daphne).
# It matters to who writes ASGI applications or middleware for more than one server: read the optional
# keys of a scope with their defaults. A middleware of one line that sets the key makes the two agree.
# Exits with 1 when that changes.
set -euo pipefail
folder=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" || true; wait; rm -rf "$folder"' EXIT
python3 -m venv "$folder"
"$folder/bin/pip" install --quiet daphne==4.2.3 quart==0.22.0 websockets==17.4
cat >"$folder/application.py" <<'PYTHON'
from quart import Quart, websocket

app = Quart(__name__)


@app.websocket("/")
async def greet() -> None:
    await websocket.send("hello")


async def application(scope, receive, send) -> None:
    if scope["path"] == "/with-scheme":
        scope = {"scheme": "ws", **scope, "path": "/"}
    await app(scope, receive, send)
PYTHON
cd "$folder"
port=$(python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
bin/daphne -b 127.0.0.1 -p "$port" application:application >log 2>&1 &
server=$!
for _ in $(seq 300); do (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break; sleep 0.1; done

told() { # the path
  bin/python - "ws://127.0.0.1:$port$1" <<'PYTHON'
import sys
from websockets.sync.client import connect

try:
    with connect(sys.argv[1], proxy=None) as client:
        print(client.recv())
except Exception as error:
    print(type(error).__name__, error)
PYTHON
}
bin/python -c 'from importlib.metadata import version as v; print("daphne", v("daphne"), "Quart", v("quart"))'
plain=$(told /)
reason=$(grep -m1 "KeyError: 'scheme'" log || true)
with=$(told /with-scheme)
echo "as it is: expected hello, observed $plain (log: $reason)"
echo "with scope['scheme'] set: $with"
[[ "$plain" != hello && -n "$reason" && "$with" = hello ]]
