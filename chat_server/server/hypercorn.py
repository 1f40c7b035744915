"""The one place that touches Hypercorn's internals: a connection whose socket a route can take.

Written against Hypercorn 0.18 and held by tests/server/test_hypercorn.py. What it relies on: the
connection's `state` mapping reaches the ASGI scope, `protocol.protocol` is an `H11Protocol` for
HTTP/1.1 whose `stream` is the request's and tells whether it is `closed`, a WebSocket's `handshake`
holds the `extensions` on offer, all output goes through `protocol_send`, and `run` ends when the
reader is at its end. An idle connection runs `_idle_timeout` in `idle_task`, which is cancelled
when a request comes, and which `_read_data` leaves behind.
"""

import asyncio
from contextlib import suppress
from typing import Any

from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config
from hypercorn.events import Event, RawData, Updated
from hypercorn.protocol.h2 import H2Protocol
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.protocol.ws_stream import WSStream
from hypercorn.typing import AppWrapper, LifespanState

from ..gateway.handover import STATE_KEY

NEWCOMER_SECONDS = 1.0
"""So long after it was accepted a connection may ask something, even if the worker is stopping."""


class _ReleasedWriter(asyncio.StreamWriter):
    """A writer whose transport belongs to somebody else; the base class closes it when it goes."""

    def __del__(self, *args: object) -> None:
        pass


class HandoverServer(TCPServer):
    """One connection of Hypercorn's; a `gateway.handover.Socket` for the routes it serves."""

    def __init__(
        self,
        app: AppWrapper,
        loop: asyncio.AbstractEventLoop,
        config: Config,
        context: WorkerContext,
        state: LifespanState,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        own_state: dict[str, Any] = {**state, STATE_KEY: self}
        super().__init__(app, loop, config, context, LifespanState(own_state), reader, writer)
        self._handed_over = False
        self._accepted_at = loop.time()
        self._cut: asyncio.TimerHandle | None = None
        self._reading: asyncio.Task[Any] | None = None

    async def run(self) -> None:
        """Serve until the connection ends or is handed over."""
        try:
            await super().run()
        finally:
            if self._cut is not None:
                self._cut.cancel()
            # Its parts refer to one another; taken apart they go now, and not when the garbage
            # collector finds them after stopping the loop for it.
            self.__dict__.clear()

    @property
    def is_over(self) -> bool:
        """See `gateway.handover.Socket`."""
        if self.reader.at_eof() or self.writer.transport.is_closing():
            return True
        # Hypercorn refuses a client that sends frames before it has the answer, but goes on here.
        protocol = self.protocol.protocol
        return isinstance(protocol, H11Protocol) and (
            protocol.stream is None or protocol.stream.closed
        )

    def hand_over(self) -> asyncio.Transport | None:
        """See `gateway.handover.Socket`."""
        if not self._is_exclusive():
            return None
        self._handed_over = True
        # Ends `run`, which must find nothing to do any more.
        self.reader.feed_eof()
        self.writer.__class__ = _ReleasedWriter
        return self.writer.transport  # type: ignore[return-value]  # a socket's is no mere writer

    def forgo_compression(self) -> None:
        """See `gateway.handover.Socket`; under HTTP/2 it is that of all handshakes under way."""
        protocol = self.protocol.protocol
        if isinstance(protocol, H11Protocol):
            streams = [protocol.stream]
        else:
            streams = list(protocol.streams.values())
        for stream in streams:
            if isinstance(stream, WSStream):
                stream.handshake.extensions = None

    def abort(self) -> None:
        """See `gateway.handover.Socket`."""
        if self._is_exclusive():
            self.writer.transport.abort()

    def limit_end(self) -> None:
        """See `gateway.handover.Socket`."""
        if self._is_exclusive():
            self._limit_end()

    async def protocol_send(self, event: Event) -> None:
        """Write what the HTTP protocol wants to send, unless the socket is not ours any more."""
        if self._handed_over:
            return
        await super().protocol_send(event)
        protocol = self.protocol.protocol
        if (
            isinstance(event, RawData)
            and isinstance(protocol, H2Protocol)
            and protocol.idle
            and not protocol.closed
            and self.idle_task._handle is None
        ):
            # Hypercorn takes the preface of HTTP/2 for a request, and waits for the next for ever.
            await super().protocol_send(Updated(idle=True))

    async def _read_data(self) -> None:
        self._reading = task = asyncio.current_task()
        assert task is not None  # noqa: S101 - it runs in the connection's
        try:
            await super()._read_data()
        except asyncio.CancelledError:
            if self._reading is not None:
                raise
            task.uncancel()  # it was `_cut_off`
        self._reading = None
        # Else one that is gone would last until it had been idle for long enough.
        await self.idle_task.stop()

    async def _close(self) -> None:
        if self._handed_over:
            await self.idle_task.stop()
        else:
            self._limit_end()
            await super()._close()

    async def _idle_timeout(self) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self.context.terminated.wait(), self.config.keep_alive_timeout)
            # Whoever has just connected could not know, and must not find a dead connection.
            await asyncio.sleep(self._accepted_at + NEWCOMER_SECONDS - self.loop.time())
        await asyncio.shield(self._initiate_server_close())

    async def _initiate_server_close(self) -> None:
        if not self._handed_over:
            self._limit_end()
            await super()._initiate_server_close()

    def _limit_end(self) -> None:
        # A client that does not read the rest of its answer would keep the connection for ever.
        if self._cut is None:
            self._cut = self.loop.call_later(self.config.keep_alive_timeout, self._cut_off)

    def _cut_off(self) -> None:
        self.writer.transport.abort()
        # Hypercorn may wait for an application that has ended to take what the client sent.
        if self._reading is not None:
            reading, self._reading = self._reading, None
            reading.cancel()

    def _is_exclusive(self) -> bool:
        """Whether the socket carries one request at a time: not under HTTP/2."""
        return isinstance(self.protocol.protocol, H11Protocol)
