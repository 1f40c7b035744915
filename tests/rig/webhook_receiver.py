"""An endpoint for webhooks in this process, with answers that a test chooses."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, NamedTuple, Self

import msgspec


class Received(NamedTuple):
    """A request: its target, its headers by lower-case name, its body."""

    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def events(self) -> list[dict[str, Any]]:
        """The events of a message."""
        events: list[dict[str, Any]] = msgspec.json.decode(self.body)["data"]["events"]
        return events


Answerer = Callable[[Received, asyncio.StreamWriter], Awaitable[None]]


def answering(status: int, *headers: str, body: bytes = b"") -> Answerer:
    """Return an answerer that answers every request alike."""
    head = "\r\n".join([f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *headers])

    async def answer(request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(f"{head}\r\n\r\n".encode() + body)
        await writer.drain()

    return answer


class WebhookReceiver:
    """An HTTP server; listens on a port of 127.0.0.0/8 while entered.

    Args:
        answer: called with each request; writes the answer, or raises to close the connection.
        tls: the TLS context for https.
        port: the port; a free one if 0.

    Attributes:
        requests: the received requests, in order.
        connections: number of connections.
    """

    def __init__(
        self, answer: Answerer | None = None, *, tls: ssl.SSLContext | None = None, port: int = 0
    ) -> None:
        self.answer = answer or answering(204)
        self.requests: list[Received] = []
        self.connections = 0
        self.port = port
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """An address of the endpoint."""
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self.port}/hook"

    @property
    def events(self) -> list[dict[str, Any]]:
        """The events of all requests, in order."""
        return [event for request in self.requests for event in request.events]

    async def start(self) -> None:
        """Begin to listen."""
        self._server = await asyncio.start_server(
            self._serve, ["0.0.0.0"], self.port, ssl=self._tls, limit=2**20
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening, and abort all connections."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._server is None:
            # The connection was accepted just before `stop` closed the listener.
            writer.transport.abort()
            return
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while True:
                    request = await _read(reader)
                    self.requests.append(request)
                    await self.answer(request, writer)
        finally:
            self._tasks.discard(task)
            writer.transport.abort()


async def _read(reader: asyncio.StreamReader) -> Received:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.strip().split("\r\n")
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Received(first.split(" ")[1], headers, body)
