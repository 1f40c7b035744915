#!/usr/bin/env bash
# Werkzeug 3.1.9 leaves a reference cycle for each request that it routes, asyncio (CPython 3.11) one
# for each connection that it closes, and wsproto 1.3.2 one for each WebSocket on which something came
# and that ended without a close frame. uvloop 0.23.0 leaves none for a connection.
#
# Expected: reference counting frees what a request or a connection held, as soon as it ends.
# Observed: 8 objects a request, 8 a connection and 7 a WebSocket wait for the cyclic garbage collector.
# gc.collect() does not count those of wsproto, nor does gc.DEBUG_SAVEALL show them: their cycle runs
# through a suspended generator, whose end, which the collector asks for, breaks it.
# It matters to who tunes or switches off the collector in a server (gc.freeze, gc.disable, a high
# threshold): the memory grows with the requests, although the application has no cycle itself.
# Exits with 1 when that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder"
"$folder/bin/pip" install --quiet werkzeug==3.1.9 uvloop==0.23.0 wsproto==1.3.2
"$folder/bin/python" - <<'PYTHON'
import asyncio
import gc
import platform
import socket
import sys
from importlib.metadata import version

import uvloop
from werkzeug.routing import Map, Rule
from wsproto.connection import Connection, ConnectionType


def routing(rounds: int) -> float:
    adapter = Map([Rule("/", endpoint="page")]).bind("localhost")
    adapter.match("/")
    gc.collect()
    for _ in range(rounds):
        adapter.match("/")
    return gc.collect() / rounds


async def connections(rounds: int) -> float:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    gc.collect()
    for _ in range(rounds):
        socket.create_connection(address).close()
    await asyncio.sleep(1)  # the server takes them all and sees them close
    left = gc.collect() / rounds
    server.close()
    return left


def websockets(rounds: int) -> float:
    gc.collect()
    for _ in range(rounds):
        connection = Connection(ConnectionType.SERVER)
        connection.receive_data(b"\x81\x80\0\0\0\0")
        list(connection.events())
    del connection
    before = len(gc.get_objects())
    gc.collect()
    return (before - len(gc.get_objects())) / rounds


gc.disable()
routed = routing(100)
plain, fast = asyncio.run(connections(100)), uvloop.run(connections(100))
framed = websockets(100)
print(f"Werkzeug {version('werkzeug')}: {routed:.2f} objects a request left to the collector")
print(f"asyncio of Python {platform.python_version()}: {plain:.2f} objects a connection")
print(f"uvloop {version('uvloop')}: {fast:.2f} objects a connection")
print(f"wsproto {version('wsproto')}: {framed:.2f} objects a WebSocket")
sys.exit(not (routed >= 1 and plain >= 1 and fast < 1 and framed >= 1))
PYTHON
