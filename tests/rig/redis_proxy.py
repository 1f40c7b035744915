"""A man in the middle: carries bytes between a server and Redis until a test tells it otherwise."""

import asyncio
from types import TracebackType
from typing import Any, Self

import hiredis


class RedisProxy:
    """A port that leads to a Redis.

    Args:
        port: where Redis listens on 127.0.0.1.

    Attributes:
        port: as given; later connections lead to where it points then.
        muted: whether messages to subscribers are swallowed, and everything else passes.
        connections: how many were made so far.
    """

    def __init__(self, port: int) -> None:
        self.muted = False
        self.connections = 0
        self.port = port
        self._server: asyncio.Server
        self._open: dict[asyncio.Task[Any], list[asyncio.StreamWriter]] = {}

    @property
    def url(self) -> str:
        """Where the proxy listens."""
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/0"

    def cut(self) -> None:
        """Drop every connection, on both sides and without a goodbye."""
        for writers in self._open.values():
            for writer in writers:
                writer.transport.abort()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.close()
        self.cut()
        if self._open:
            await asyncio.wait(list(self._open))

    async def _carry(self, near_in: asyncio.StreamReader, near_out: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.connections += 1
        self._open[task] = [near_out]
        try:
            far_in, far_out = await asyncio.open_connection("127.0.0.1", self.port)
            self._open[task].append(far_out)
            there = asyncio.create_task(self._copy(near_in, far_out))
            await self._filter(far_in, near_out)
            there.cancel()
            await asyncio.wait([there])
        except OSError:
            pass
        finally:
            for writer in self._open.pop(task):
                writer.transport.abort()

    @staticmethod
    async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.transport.abort()

    async def _filter(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parser = hiredis.Reader(notEnoughData=_INCOMPLETE)
        while data := await reader.read(65_536):
            parser.feed(data)
            while (reply := parser.gets()) is not _INCOMPLETE:
                if not (self.muted and isinstance(reply, list) and reply[:1] == [b"message"]):
                    writer.write(_pack(reply))
            await writer.drain()


_INCOMPLETE: Any = object()


def _pack(reply: Any) -> bytes:
    """Return a reply as Redis writes it."""
    if isinstance(reply, list):
        return b"*%d\r\n" % len(reply) + b"".join(map(_pack, reply))
    if isinstance(reply, bytes):
        return b"$%d\r\n%s\r\n" % (len(reply), reply)
    if isinstance(reply, int):
        return b":%d\r\n" % reply
    return b"$-1\r\n" if reply is None else b"-%s\r\n" % str(reply).encode()
