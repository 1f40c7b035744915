#!/usr/bin/env bash
# websockets 17.4 and httpx-ws 0.9.0 (Python): a client that awaits something else for a while, with messages waiting,
# closes its own healthy connection with 1011 "keepalive ping timeout".
#
# Expected: pings and pongs are handled in the background, as long as the event loop is free: it is, the handler awaits.
# Observed: websockets stops reading at 16 unread messages, and the asynchronous session of httpx-ws at the first, whatever its queue_size
# (512) says. The pong stands behind them and is not read, so the client takes a server that answers all pings for dead. With 2 messages
# nothing happens to websockets; aiohttp 3.14.5, which reads on, keeps its connection.
# It matters to bots that await a model or a database for each message: with the default times of websockets a busy room cuts off who is
# away for 40 s, and what the room says until the bot is back is missed. Read in a task of its own, or set ping_timeout=None where the server pings.
# Exits with 1 when that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder"
"$folder/bin/pip" install --quiet websockets==17.4 httpx-ws==0.9.0 httpx==0.28.1 aiohttp==3.14.5
"$folder/bin/python" - <<'PYTHON'
import asyncio
import sys

import aiohttp
import httpx
import httpx_ws
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve

PING, AWAY = 2, 10  # seconds
closed = []


async def room(connection) -> None:
    for number in range(int(connection.request.path[1:])):
        await connection.send(f"message {number}")
    await connection.wait_closed()
    closed.append(f"{connection.close_code} {connection.close_reason}".strip())


async def of_websockets(url: str, count: int) -> None:
    async with connect(url, ping_interval=PING, ping_timeout=PING) as socket:
        await asyncio.sleep(AWAY)
        for _ in range(count):
            await socket.recv()


async def of_httpx_ws(url: str, count: int) -> None:
    times = {"keepalive_ping_interval_seconds": PING, "keepalive_ping_timeout_seconds": PING}
    async with httpx.AsyncClient() as client, httpx_ws.aconnect_ws(url, client, **times) as socket:
        await asyncio.sleep(AWAY)
        for _ in range(count):
            await socket.receive_text()


async def of_aiohttp(url: str, count: int) -> None:
    async with aiohttp.ClientSession() as client, client.ws_connect(url, heartbeat=PING) as socket:
        await asyncio.sleep(AWAY)
        for _ in range(count):
            await socket.receive_str()


async def main() -> int:
    seen = {}
    async with serve(room, "127.0.0.1", 0, ping_interval=None) as server:
        port = server.sockets[0].getsockname()[1]
        for client in (of_websockets, of_httpx_ws, of_aiohttp):
            for count in (2, 1000):
                closed.clear()
                try:
                    await client(f"ws://127.0.0.1:{port}/{count}", count)
                    outcome = "all read"
                except Exception as error:
                    while isinstance(error, ExceptionGroup):
                        error = error.exceptions[0]
                    outcome = type(error).__name__
                while not closed:
                    await asyncio.sleep(0.05)
                seen[client.__name__, count] = f"{outcome}, the server saw {closed[0].lower()}"
                print(f"{client.__name__}, {count} messages wait: {seen[client.__name__, count]}")
    fine = "all read, the server saw 1000"
    cut = "the server saw 1011 keepalive ping timeout"
    kept = {("of_websockets", 2), ("of_aiohttp", 2), ("of_aiohttp", 1000)}
    return int(not all(seen[case] == fine if case in kept else seen[case].endswith(cut) for case in seen))


sys.exit(asyncio.run(main()))
PYTHON
