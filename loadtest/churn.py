"""Churn: checks that short-lived connections leave no memory behind."""

import asyncio
import base64
import itertools
import os
import socket
import ssl
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct

from tests.rig.certificates import make_certificate
from tests.rig.ports import free_port

from .accounting import usage
from .server import UNLIMITED, Target, launched, server_cores

MOST_GROWTH = 1.1
"""Factor: memory at the end divided by the memory after the first connections, at most."""

AT_ONCE = 20
"""Connections opened and closed concurrently."""

SUBSCRIBE = b'{"type":"subscribe","id":1,"topic":"room:churn"}'


class Round(Struct, frozen=True):
    """Short-lived connections of one kind.

    Args:
        transport: direct or asgi.
        tls: True for TLS.
        connections: number of short-lived connections.
        held: number of connections open all the time.
        seconds: the duration.
        first_bytes: memory of the server after the first connections.
        last_bytes: memory of the server after all connections.
    """

    transport: str
    tls: bool
    connections: int
    held: int
    seconds: float
    first_bytes: int
    last_bytes: int

    @property
    def growth(self) -> float:
        """Memory at the end, divided by the memory after the first connections."""
        return self.last_bytes / self.first_bytes

    @property
    def passed(self) -> bool:
        """True if ended connections left nothing behind."""
        return self.growth <= MOST_GROWTH


async def churn(
    transport: str,
    *,
    tls: bool,
    connections: int,
    held: int,
    first: int,
    tell: Callable[[str], None],
) -> Round:
    """Open and close connections at a server of our own.

    Args:
        transport: direct or asgi.
        tls: True for TLS.
        connections: number of short-lived connections.
        held: number of connections open all the time.
        first: number of short-lived connections before the first look at memory.
        tell: called with the progress.
    """
    with _server(transport, tls=tls) as target:
        head = _head(target)
        context = _trusting() if tls else None
        staying = [await _open(target, head, context) for _ in range(held)]
        began = time.monotonic()
        await _come_and_go(target, head, context, first, tell)
        first_bytes = await _memory(target)
        await _come_and_go(target, head, context, connections - first, tell)
        last_bytes = await _memory(target)
        seconds = time.monotonic() - began
        for writer in staying:
            writer.close()
    return Round(transport, tls, connections, held, round(seconds, 1), first_bytes, last_bytes)


async def _come_and_go(
    target: Target,
    head: bytes,
    context: ssl.SSLContext | None,
    count: int,
    tell: Callable[[str], None],
) -> None:
    numbers = itertools.count()

    async def client() -> None:
        while (number := next(numbers)) < count:
            writer = await _open(target, head, context)
            writer.transport.abort() if number % 2 else writer.close()
            if number % 100 == 0:
                tell(f"{number:,} of {count:,}")

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(client())


def _head(target: Target) -> bytes:
    key = base64.b64encode(os.urandom(16)).decode()
    return (
        f"GET /ws HTTP/1.1\r\nHost: {target.host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Authorization: Bearer {target.mint('churn', 'room:churn')}\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    ).encode()


async def _open(
    target: Target, head: bytes, context: ssl.SSLContext | None
) -> asyncio.StreamWriter:
    """Open a WebSocket, and subscribe to a topic."""
    reader, writer = await asyncio.open_connection(target.host, target.port, ssl=context)
    writer.write(head)
    await reader.readuntil(b'"welcome"')
    # The mask of zeros leaves the payload unchanged.
    writer.write(bytes((0x81, 0x80 | len(SUBSCRIBE), 0, 0, 0, 0)) + SUBSCRIBE)
    await reader.readuntil(b'"ok"')
    return writer


async def _memory(target: Target) -> int:
    await asyncio.sleep(1.0)  # by then the last connections have ended
    used = usage(target.pid)
    return used.memory_bytes if used is not None else 0


@contextmanager
def _server(transport: str, *, tls: bool) -> Iterator[Target]:
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        environ = {
            **UNLIMITED,
            "CHAT_GATEWAY__TRANSPORT": transport,
            "CHAT_LIMITS__MAX_CONNECTIONS_PER_USER": "1000000",
        }
        if tls:
            environ["CHAT_SERVER__TLS_CERTIFICATE_FILE"] = str(make_certificate(Path(folder)))
        command = ["-m", "chat_server", "serve", "--bind", f"127.0.0.1:{port}"]
        with launched(
            [sys.executable, *command],
            ready=lambda: _accepts(port),
            environ=environ,
            to=server_cores(),
        ) as pid:
            yield Target("chat_server", "chat", port, pid=pid)


def _accepts(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0):
            return True
    except OSError:
        return False


def _trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # the server is our own, started just now
    return context
