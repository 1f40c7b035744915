#!/usr/bin/env bash
# Hypercorn 0.18.0 (HTTP/1.1): an application that answers before the request's body is there gets its
# connection closed, and the answer does not say so.
#
# Expected (RFC 9112, 9.6): a sender that will close the connection puts "Connection: close" in the answer.
# Observed: the answer has no such header, and what the client sends next is not answered.
# It matters to who refuses uploads early (401, 413): a client or proxy takes the connection for a
# kept one, sends the body and its next request there, and reports a lost connection for the latter.
# The application can send the header itself when it answers without having read the body.
# Exits with 1 when that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder"
"$folder/bin/pip" install --quiet hypercorn==0.18.0 h11==0.16.0
"$folder/bin/python" - <<'PYTHON'
import asyncio
import sys
from importlib.metadata import version

from hypercorn.asyncio import serve
from hypercorn.config import Config

HEAD = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n"


async def application(scope, receive, send) -> None:
    if scope["type"] == "lifespan":
        return
    if scope["path"] == "/read":
        await receive()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


async def two_requests(port: int, path: bytes) -> tuple[bytes, bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = HEAD.replace(b"/", path, 1)
    body_first = path == b"/read"
    writer.write(head + b"hello" if body_first else head)
    first = await reader.readuntil(b"\r\n\r\nok")
    try:
        writer.write((b"" if body_first else b"hello") + head + b"hello")
        second = await asyncio.wait_for(reader.read(4096), 10)
    except ConnectionError:
        second = b""
    writer.close()
    return first, second


async def main() -> int:
    config = Config()
    config.bind, config.loglevel = ["127.0.0.1:0"], "WARNING"
    sockets = config.create_sockets()
    sockets.insecure_sockets[0].listen()  # so that a client may connect before serve() is ready
    port = sockets.insecure_sockets[0].getsockname()[1]
    config.create_sockets = lambda: sockets
    stop = asyncio.Event()
    server = asyncio.create_task(serve(config=config, app=application, shutdown_trigger=stop.wait))
    read, unread = await two_requests(port, b"/read"), await two_requests(port, b"/")
    stop.set()
    await server
    print("Hypercorn", version("hypercorn"))
    for name, (first, second) in {"body read": read, "body not read": unread}.items():
        print(f"{name}: says close: {b'connection: close' in first.lower()}, next answer: {second[:15]}")
    return int(not (read[1] and b"connection: close" not in unread[0].lower() and not unread[1]))


sys.exit(asyncio.run(main()))
PYTHON
