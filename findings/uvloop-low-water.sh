#!/usr/bin/env bash
# uvloop 0.23.0: a transport's low-water mark is 16 bytes by default, its high-water mark 64 KiB.
#
# Expected: 16 KiB and 64 KiB, as asyncio's own transports have.
# Observed: get_write_buffer_limits() answers (16, 65536), and a paused writer with a slow reader is
# resumed when nothing at all is left to send.
# It matters to who relies on pause_writing and drain(): the link may idle until the next write.
# transport.set_write_buffer_limits(high=65536) sets the marks that asyncio has.
# Exits with 1 when that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder"
"$folder/bin/pip" install --quiet uvloop==0.23.0
"$folder/bin/python" - <<'PYTHON'
import asyncio
import socket
import sys

import uvloop


class Writer(asyncio.Protocol):
    left: int | None = None

    def connection_made(self, transport) -> None:
        self.transport = transport

    def resume_writing(self) -> None:
        self.left = self.transport.get_write_buffer_size()


async def observe() -> tuple[tuple[int, int], int]:
    """Tell the default marks, and how many bytes were left when a paused writer was resumed."""
    loop = asyncio.get_running_loop()
    near, far = socket.socketpair()
    far.setblocking(False)
    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    transport, writer = await loop.create_connection(Writer, sock=near)
    limits = transport.get_write_buffer_limits()
    for _ in range(400):
        transport.write(bytes(1000))
    while writer.left is None:
        await loop.sock_recv(far, 1000)
    transport.abort()
    far.close()
    return limits, writer.left


plain, fast = asyncio.run(observe()), uvloop.run(observe())
print("(low, high) water in bytes by default, and bytes left when a paused writer was resumed")
print("asyncio", sys.version.split()[0], *plain)
print("uvloop", uvloop.__version__, *fast)
sys.exit(not (plain[0] == (16384, 65536) and plain[1] > 16 and fast == ((16, 65536), 0)))
PYTHON
