"""TCP proxies on 127.0.0.1 that simulate network faults on demand."""

import asyncio
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Self

import hiredis

from .sockets import connected_socket

CHUNK_BYTES = 4_096
SEGMENT_BYTES = 1_400

Change = Callable[[bytes], bytes]
"""Transforms the bytes that a proxy forwards."""


class ProxiedConnection:
    """A connection through a proxy.

    Attributes:
        up: while set, bytes pass from the client to the target.
        down: while set, bytes pass from the target to the client.
    """

    def __init__(self, near: asyncio.StreamWriter, far: asyncio.StreamWriter) -> None:
        self._writers = (near, far)
        self.up = asyncio.Event()
        self.down = asyncio.Event()
        self.up.set()
        self.down.set()

    def cut(self) -> None:
        """Reset the connection on both sides."""
        for writer in self._writers:
            writer.transport.abort()


class Proxy:
    """Listens on 127.0.0.1 and forwards all bytes to another local port.

    Args:
        target: the target port. Tests may change it; new connections then go to the new port.
        small_buffers: True limits the kernel's buffers, so a stalled reader is detected soon.

    Attributes:
        connections: number of connections that reached the target.
        refused: number of connections reset at once.
    """

    def __init__(self, target: int, *, small_buffers: bool = False) -> None:
        self.target = target
        self.connections = 0
        self.refused = 0
        self._receive_buffer = CHUNK_BYTES if small_buffers else None
        self._segment = SEGMENT_BYTES if small_buffers else None
        self._refusing = 0
        self._open: dict[ProxiedConnection, asyncio.Task[None]] = {}
        self._server: asyncio.Server

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=CHUNK_BYTES)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # What was accepted just now is reset when its turn comes.
        self._refusing += 1
        self._server.close()
        tasks = list(self._open.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def port(self) -> int:
        """The listening port, after entering."""
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def pick(self, share: float, rng: random.Random) -> list[ProxiedConnection]:
        """Return a share of the connections, at least one of them if there are any."""
        connections = list(self._open)
        count = min(len(connections), max(1, round(share * len(connections))))
        return rng.sample(connections, count)

    def cut(self) -> None:
        """Reset all connections."""
        for connection in self._open:
            connection.cut()

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """Reset every new connection during this context."""
        self._refusing += 1
        try:
            yield
        finally:
            self._refusing -= 1

    def _changes(self) -> tuple[Change, Change]:
        """Return the transformations of one connection's bytes, up and down."""
        return bytes, bytes

    def _refuse(self, near: asyncio.StreamWriter) -> bool:
        """Reset a connection while the proxy refuses; return True after a reset."""
        if self._refusing:
            self.refused += 1
            near.transport.abort()
        return self._refusing > 0

    async def _serve(self, reader: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        if self._refuse(near):
            return
        try:
            far_reader, far = await self._connect()
        except OSError:
            near.transport.abort()
            return
        if self._refuse(near):  # The proxy may have begun to refuse meanwhile.
            far.transport.abort()
            return
        self.connections += 1
        connection = ProxiedConnection(near, far)
        task = asyncio.current_task()
        assert task is not None
        self._open[connection] = task
        up, down = self._changes()
        pumps = [
            asyncio.create_task(_pump(reader, far, connection.up, up)),
            asyncio.create_task(_pump(far_reader, near, connection.down, down)),
        ]
        # Python 3.11's streams would take a cancelled task for a fault.
        with suppress(asyncio.CancelledError):
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        del self._open[connection]
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        near.close()
        far.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        far = await connected_socket(
            "127.0.0.1", self.target, receive_buffer=self._receive_buffer, segment=self._segment
        )
        return await asyncio.open_connection(sock=far, limit=CHUNK_BYTES)


async def _pump(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    gate: asyncio.Event,
    change: Change,
) -> None:
    """Forward bytes while the gate is open, until either side ends."""
    with suppress(OSError):
        while data := await reader.read(CHUNK_BYTES):
            await gate.wait()
            writer.write(change(data))
            await writer.drain()
        await gate.wait()


class RedisProxy(Proxy):
    """A proxy in front of a Redis that parses Redis's replies.

    Attributes:
        muted: True drops the messages of Pub/Sub; other replies pass.
    """

    def __init__(self, target: int) -> None:
        super().__init__(target)
        self.muted = False

    @property
    def url(self) -> str:
        """The address of the proxy."""
        return f"redis://127.0.0.1:{self.port}/0"

    def _changes(self) -> tuple[Change, Change]:
        parser = hiredis.Reader(notEnoughData=_INCOMPLETE)

        def without_messages(data: bytes) -> bytes:
            parser.feed(data)
            passed = b""
            while (reply := parser.gets()) is not _INCOMPLETE:
                if not (self.muted and isinstance(reply, list) and reply[:1] == [b"message"]):
                    passed += _pack(reply)
            return passed

        return bytes, without_messages


_INCOMPLETE: Any = object()


def _pack(reply: Any) -> bytes:
    """Return a reply in Redis's wire format."""
    if isinstance(reply, list):
        return b"*%d\r\n" % len(reply) + b"".join(map(_pack, reply))
    if isinstance(reply, bytes):
        return b"$%d\r\n%s\r\n" % (len(reply), reply)
    if isinstance(reply, int):
        return b":%d\r\n" % reply
    return b"$-1\r\n" if reply is None else b"-%s\r\n" % str(reply).encode()
