"""Connections without a socket: one to fakeredis, and one that does what a test says."""

import asyncio
from collections.abc import Callable
from typing import Any

from fakeredis import FakeServer
from fakeredis.aioredis import FakeAsyncRedisConnection
from redis.exceptions import ConnectionError

from chat_server.broker.redis.connection import RedisConnection


class FakeConnection:
    """A connection to fakeredis, which hands over parsed replies: `BatchParser` is not involved."""

    def __init__(self, server: FakeServer) -> None:
        self._connection: Any = FakeAsyncRedisConnection(
            server=server, protocol=2, driver_info=None
        )

    async def open(self, seconds: float) -> None:
        async with asyncio.timeout(seconds):
            await self._connection.connect()
        self._socket = self._connection._sock

    @property
    def dead(self) -> bool:
        return not self._connection.is_connected

    def write(self, data: bytes) -> None:
        self._socket.sendall(data)

    async def drain(self) -> None:
        pass

    async def read(self) -> list[Any]:
        queue: asyncio.Queue[Any] = self._socket.responses
        replies = [await queue.get()]
        while not queue.empty():
            replies.append(queue.get_nowait())
        if any(reply is _ABORTED for reply in replies):
            raise ConnectionError("aborted")
        return replies

    def abort(self) -> None:
        self._socket.responses.put_nowait(_ABORTED)

    async def close(self) -> None:
        await self._connection.disconnect()


class ScriptedConnection:
    """A connection whose other side is the test.

    Attributes:
        written: what was written, one item per call.
        dead, closed: what the connection says of itself, and whether it was closed.
        failures: what `open`, `drain` or `read` raise, once per call.
        hanging: whether a step that was told to `hang` does.
    """

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.dead = False
        self.closed = False
        self.hanging = False
        self.failures: dict[str, Exception] = {}
        self._hang = ""
        self._reads: asyncio.Queue[list[Any] | Exception] = asyncio.Queue()

    def answer(self, *replies: Any) -> None:
        """Let one `read` return these."""
        self._reads.put_nowait(list(replies))

    def fail(self, error: Exception) -> None:
        """Let `read` raise once everything before was read."""
        self._reads.put_nowait(error)

    def hang(self, step: str) -> None:
        """Let `open`, `drain` or `read` never return."""
        self._hang = step

    async def open(self, seconds: float) -> None:
        await self._step("open")

    def write(self, data: bytes) -> None:
        self.written.append(data)

    async def drain(self) -> None:
        await self._step("drain")

    async def read(self) -> list[Any]:
        await self._step("read")
        result = await self._reads.get()
        if isinstance(result, Exception):
            raise result
        return result

    def abort(self) -> None:
        self.fail(ConnectionError("aborted"))

    async def close(self) -> None:
        await asyncio.sleep(0)
        self.closed = True

    async def _step(self, name: str) -> None:
        await asyncio.sleep(0)
        if name in self.failures:
            raise self.failures[name]
        if name == self._hang:
            self.hanging = True
            await asyncio.get_running_loop().create_future()


_ABORTED = object()


def fake_connector() -> Callable[[], RedisConnection]:
    """Return what makes connections to one new fakeredis server."""
    server = FakeServer(version=(7, 0))
    return lambda: FakeConnection(server)
