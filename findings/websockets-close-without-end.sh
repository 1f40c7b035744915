#!/usr/bin/env bash
# websockets 17.4: recv() does not return after the peer's close frame while the peer keeps TCP open.
#
# Documented: close_timeout bounds how long closing the connection takes.
# Observed: it bounds only a close() of one's own. After a close frame of the peer recv() waits for
# the end of the TCP connection, here ten times as long as close_timeout, and then raises
# ConnectionClosedOK; `state` is CLOSING meanwhile.
# Exits with 1 when that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder"
"$folder/bin/pip" install --quiet websockets==17.4

"$folder/bin/python" - <<'PYTHON'
import asyncio
import base64
import hashlib
import time

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedOK

CLOSE_TIMEOUT, LINGERING = 0.5, 5.0
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3


async def linger(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Upgrade, send a close frame, read the answer, and hang up a while later."""
    head = await reader.readuntil(b"\r\n\r\n")
    [key] = [
        line.partition(b":")[2].strip()
        for line in head.split(b"\r\n")
        if line.lower().startswith(b"sec-websocket-key:")
    ]
    accept = base64.b64encode(hashlib.sha1(key + GUID).digest())
    writer.write(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )
    writer.write(b"\x88\x02\x03\xe8")  # 1000
    answer = await reader.readexactly(8)
    assert answer[0] == 0x88, answer
    await asyncio.sleep(LINGERING)
    writer.close()


async def main() -> int:
    async with await asyncio.start_server(linger, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        url = f"ws://127.0.0.1:{port}"
        async with connect(url, ping_interval=None, close_timeout=CLOSE_TIMEOUT) as websocket:
            began = time.monotonic()
            waiting = asyncio.create_task(websocket.recv())
            await asyncio.sleep(CLOSE_TIMEOUT * 3)
            state, waits = websocket.state.name, not waiting.done()
            try:
                await waiting
                error = "nothing"
            except ConnectionClosedOK as closed:
                error = type(closed).__name__
            seconds = time.monotonic() - began
    print(f"close_timeout={CLOSE_TIMEOUT}: after {CLOSE_TIMEOUT * 3} s state={state}, recv() waits: {waits}")
    print(f"recv() raised {error} after {seconds:.1f} s")
    return 0 if waits and seconds > LINGERING * 0.9 else 1


raise SystemExit(asyncio.run(main()))
PYTHON
