#!/usr/bin/env bash
# granian 2.8.9: a refusal of a WebSocket whose body comes in two events is answered as a bare 403.
#
# Documented: the ASGI extension websocket.http.response sends the body as one or more events, with
# more_body set in all but the last.
# Observed: with one event the client gets the status, headers and body of the application; with two
# it gets 403 without them. Quart 0.22 always sends two at least.
# Exits with 1 when that changes.
set -euo pipefail
folder=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -rf "$folder"' EXIT
python3 -m venv "$folder"
"$folder/bin/pip" install --quiet granian==2.8.9

cat > "$folder/refusing.py" <<'PYTHON'
async def app(scope, receive, send):
    """Refuse each WebSocket, in as many events as its path says."""
    if scope["type"] == "lifespan":
        while True:
            event = await receive()
            await send({"type": f"{event['type']}.complete"})
            if event["type"] == "lifespan.shutdown":
                return
    assert "websocket.http.response" in scope["extensions"]
    await receive()
    headers = [(b"content-length", b"4")]
    await send({"type": "websocket.http.response.start", "status": 429, "headers": headers})
    bodies = [b"slow"] if scope["path"] == "/one" else [b"sl", b"ow"]
    for number, body in enumerate(bodies, 1):
        more = number < len(bodies)
        await send({"type": "websocket.http.response.body", "body": body, "more_body": more})
PYTHON

port=$("$folder/bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
cd "$folder"
"$folder/bin/granian" --interface asgi --host 127.0.0.1 --port "$port" refusing:app > log 2>&1 &
server=$!

"$folder/bin/python" - "$port" <<'PYTHON'
import socket
import sys
import time

PORT = int(sys.argv[1])


def refused(path: str) -> tuple[str, str]:
    """Return the status line and the body of the answer to a handshake."""
    deadline = time.monotonic() + 60
    while True:
        try:
            connection = socket.create_connection(("127.0.0.1", PORT), timeout=20)
            break
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
    with connection:
        connection.sendall(
            f"GET {path} HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
        )
        answer = b""
        while b"\r\n\r\n" not in answer or (b"slow" not in answer and b" 429 " in answer):
            if not (data := connection.recv(4096)):
                break
            answer += data
    head, _, body = answer.decode().partition("\r\n\r\n")
    return head.splitlines()[0], body


one, two = refused("/one"), refused("/two")
print("one event: ", *one)
print("two events:", *two)
as_described = " 429 " in one[0] and one[1] == "slow" and " 403 " in two[0] and two[1] == ""
sys.exit(0 if as_described else 1)
PYTHON
