#!/usr/bin/env bash
# uvloop 0.23.0: a transport's low-water mark is 16 bytes by default, its high-water mark 64 KiB.
#
# Expected: 16 KiB and 64 KiB, as asyncio's own transports have.
# Observed: get_write_buffer_limits() answers (16, 65536).
# It matters to who relies on pause_writing and drain(): a writer that has been paused is resumed
# only when the buffer is practically empty, so the link to a slow reader may idle between two writes.
# transport.set_write_buffer_limits(high=65536) sets the marks that asyncio has.
# Exits with 1 when that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder"
"$folder/bin/pip" install --quiet uvloop==0.23.0
"$folder/bin/python" - <<'PYTHON'
import asyncio
import sys

import uvloop


async def limits() -> list[tuple[int, int]]:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
    transport, _ = await loop.create_connection(asyncio.Protocol, *server.sockets[0].getsockname())
    found = [transport.get_write_buffer_limits()]
    transport.set_write_buffer_limits(high=65536)
    found.append(transport.get_write_buffer_limits())
    transport.close()
    server.close()
    return found


plain, fast = asyncio.run(limits()), uvloop.run(limits())
print("low and high water in bytes, by default and after set_write_buffer_limits(high=65536)")
print("asyncio", sys.version.split()[0], *plain)
print("uvloop", uvloop.__version__, *fast)
sys.exit(not (plain[0] == (16384, 65536) and fast == [(16, 65536), (16384, 65536)]))
PYTHON
