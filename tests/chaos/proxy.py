"""A TCP proxy that can be made to fail as networks do."""

import asyncio
import random
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Self

from loadtest.crowd import socket_with_small_buffer

CHUNK_BYTES = 4_096


class Link:
    """A connection through the proxy."""

    def __init__(self, near: asyncio.StreamWriter, far: asyncio.StreamWriter) -> None:
        self._writers = (near, far)
        self.up = asyncio.Event()
        self.down = asyncio.Event()
        self.up.set()
        self.down.set()

    def cut(self) -> None:
        """Reset both connections."""
        for writer in self._writers:
            writer.transport.abort()


class Proxy:
    """Listens on 127.0.0.1 and passes everything on to a port there, except what it is told not to.

    Args:
        port: where to pass it to.

    Attributes:
        refused: connections that were, since the start.
    """

    def __init__(self, port: int) -> None:
        self.port = 0
        self.refused = 0
        self._target = port
        self._refusing = 0
        self._links: dict[Link, asyncio.Task[None]] = {}
        self._server: asyncio.Server

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=CHUNK_BYTES)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.close()
        tasks = list(self._links.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def pick(self, share: float, rng: random.Random) -> list[Link]:
        """Return a share of the connections, at least one of them if there are any."""
        links = list(self._links)
        return rng.sample(links, min(len(links), max(1, round(share * len(links)))))

    def cut(self) -> None:
        """Reset all connections."""
        for link in self._links:
            link.cut()

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """Reset whatever connects meanwhile."""
        self._refusing += 1
        try:
            yield
        finally:
            self._refusing -= 1

    def _refused(self, near: asyncio.StreamWriter) -> bool:
        """Reset a connection if none is wanted now; return whether that is so."""
        if self._refusing:
            self.refused += 1
            near.transport.abort()
        return self._refusing > 0

    async def _serve(self, reader: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        if self._refused(near):
            return
        try:
            far_reader, far = await self._connect()
        except OSError:
            near.transport.abort()
            return
        if self._refused(near):  # by now
            far.transport.abort()
            return
        link = Link(near, far)
        task = asyncio.current_task()
        assert task is not None
        self._links[link] = task
        pumps = [
            asyncio.create_task(_pump(reader, far, link.up)),
            asyncio.create_task(_pump(far_reader, near, link.down)),
        ]
        # Python 3.11's streams would take a cancelled task for a fault.
        with suppress(asyncio.CancelledError):
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        del self._links[link]
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        near.close()
        far.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        loop = asyncio.get_running_loop()
        far = await socket_with_small_buffer(loop, "127.0.0.1", self._target)
        return await asyncio.open_connection(sock=far, limit=CHUNK_BYTES)


async def _pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gate: asyncio.Event
) -> None:
    """Pass on what comes while the gate is open, until either side ends."""
    with suppress(OSError):
        while data := await reader.read(CHUNK_BYTES):
            await gate.wait()
            writer.write(data)
            await writer.drain()
        await gate.wait()
