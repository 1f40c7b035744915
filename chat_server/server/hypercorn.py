"""Hypercorn's HTTP/1.1 on a socket that can be handed over.

Only this module and `http1.py` touch Hypercorn's internals. Both are written for Hypercorn 0.18 and
tested by tests/server/test_hypercorn.py. Both use `H11Protocol` and its streams; socket, timeouts
and the end of a connection are our own. Both rely on these facts: the connection's `state` mapping
reaches the ASGI scope; `H11Protocol.stream` is the request's stream and has a flag `closed`;
`_create_stream` is called once for each request, `_send_error_response` for requests that h11
refuses, `stream_send` for each answer; a WebSocket's `handshake` holds the offered `extensions`,
and its `buffer` an incomplete message; a message beyond `max_length` is dropped with 1009; its
`connection` is wsproto's, and the generator `_proto._parse_more` yields its frames; all output goes
through `send`; `send` gets `Updated` when a request begins and when the next may come, and `Closed`
when no further request may come.
"""

import asyncio
from collections.abc import Callable
from typing import Any, cast

from hypercorn.asyncio.task_group import TaskGroup
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.ws_stream import WSStream
from hypercorn.typing import AppWrapper, ConnectionState, LifespanState

from ..settings import HttpSettings
from ..transports.handover import STATE_KEY
from .http1 import Http1

NEWCOMER_SECONDS = 1.0
"""Seconds after its accept in which a connection may send a request even to a stopping worker."""

READ_BYTES = 65_536
"""Bytes of unprocessed input at which reading from the socket pauses."""

STALL_SECONDS = 30.0
"""Seconds after which a client that reads nothing of its answers is disconnected."""

LINGER_SECONDS = 2.0
"""Seconds of silence after which a client is disconnected that got its answer in mid-request."""

LINGER_BYTES = 16 * 2**20
"""Bytes that the client may still send after such an answer: an earlier close could destroy the
answer.
"""


class HttpConnection(asyncio.Protocol):
    """A connection from its accept until it ends or is handed over; a `transports.handover.Socket`.

    Args:
        app: the ASGI application.
        config: Hypercorn's configuration.
        context: the state shared by the worker's connections.
        state: the application's lifespan state.
        settings: the deadlines of a request's head and of the next request.
        on_waiting: called with True when the connection becomes idle, False when a request begins.
    """

    def __init__(
        self,
        app: AppWrapper,
        config: Config,
        context: WorkerContext,
        state: LifespanState,
        settings: HttpSettings,
        on_waiting: Callable[[bool], None] = lambda waiting: None,
    ) -> None:
        self._app = app
        self._config = config
        self._context = context
        self._state = state
        self._head_seconds = settings.head_timeout_seconds
        self._keep_alive_seconds = settings.keep_alive_seconds
        self._on_waiting = on_waiting
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._http: Http1
        self._accepted_at = self._loop.time()
        self._inbox = bytearray()
        self._eof = False
        self._wake_reader: asyncio.Future[None] | None = None
        self._reading: asyncio.Task[Any] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._lost = asyncio.Event()
        self._handed_over = False
        # `_waiting`: between requests. `_untouched`: no byte of the next request has come yet.
        self._waiting = True
        self._untouched = True
        self._lingering = False
        self._discarded = 0
        self._deadline: asyncio.TimerHandle | None = None
        self._cut: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None

    # asyncio.Protocol ----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the connection; with TLS, after the handshake."""
        self._transport = cast(asyncio.Transport, transport)  # a socket's transport

    def data_received(self, data: bytes) -> None:
        """Buffer bytes until they are processed."""
        self._inbox += data
        if len(self._inbox) > READ_BYTES and self._transport is not None:
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        """Note the client's end of stream; return whether the socket can still send."""
        self._eof = True
        self._wake()
        return self._transport is not None and self._transport.can_write_eof()

    def pause_writing(self) -> None:
        """Note that the client reads slowly, or not at all."""
        self._writable.clear()
        # The session decides how slowly a WebSocket's client may read.
        if self._transport is not None and not isinstance(self._http.stream, WSStream):
            self._watch_for_stall(self._transport)

    def resume_writing(self) -> None:
        """Note that the client reads again."""
        self._writable.set()
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Note the end of the connection."""
        self._eof = True
        self._lost.set()
        self._writable.set()
        self._wake()

    # The connection's life -----------------------------------------------------------------

    async def run(self) -> None:
        """Serve requests until the connection ends or is handed over."""
        transport = self._transport
        assert transport is not None  # noqa: S101 - `connection_made` sets it
        group = TaskGroup(self._loop)
        self._http = Http1(
            self._app,
            self._config,
            self._context,
            group,
            ConnectionState({**self._state, STATE_KEY: self}),
            transport.get_extra_info("ssl_object") is not None,
            _address(transport.get_extra_info("peername")),
            _address(transport.get_extra_info("sockname")),
            self._send,
        )
        try:
            async with group:
                stopping = self._context.terminated.is_set()
                self._expect(NEWCOMER_SECONDS if stopping else self._head_seconds)
                self._reading = asyncio.current_task()
                await self._read()
            if not self._handed_over:
                self._limit_end()
                transport.close()
                await self._lost.wait()
        finally:
            self._cancel_timers()
            if not (self._handed_over or self._lost.is_set()):
                transport.abort()
            self._release()

    def _cancel_timers(self) -> None:
        for timer in (self._deadline, self._cut, self._stall):
            if timer is not None:
                timer.cancel()
        self._deadline = self._cut = self._stall = None

    def _release(self) -> None:
        """Break reference cycles, including those of timers' contexts; see server/gc_policy.py."""
        self._on_waiting = lambda waiting: None
        self._http.release()

    def retire(self) -> None:
        """End as soon as no request is under way: the worker stops."""
        if self._waiting:
            # A client that has just connected could not know, and must not find a dead connection.
            self._expect(max(0.0, self._accepted_at + NEWCOMER_SECONDS - self._loop.time()))

    # transports.handover.Socket ---------------------------------------------------------------

    @property
    def is_over(self) -> bool:
        """See `transports.handover.Socket`."""
        if self._transport is None or self._transport.is_closing():
            return True
        # Hypercorn refuses a client that sends frames before the answer, but continues here.
        stream = self._http.stream
        return (self._eof and not self._inbox) or stream is None or stream.closed

    def hand_over(self) -> asyncio.Transport | None:
        """See `transports.handover.Socket`."""
        if self._inbox:  # Hypercorn will refuse this input: see `is_over`.
            return None
        self._handed_over = self._eof = True
        self._wake()  # Ends `run`; nothing must be left for `run` to do.
        transport, self._transport = self._transport, None
        return transport

    def forgo_compression(self) -> None:
        """See `transports.handover.Socket`."""
        if isinstance(self._http.stream, WSStream):
            self._http.stream.handshake.extensions = None

    def abort(self) -> None:
        """See `transports.handover.Socket`."""
        if self._transport is not None:
            self._transport.abort()

    def limit_end(self) -> None:
        """See `transports.handover.Socket`."""
        self._limit_end()

    # Reading -------------------------------------------------------------------------------

    async def _read(self) -> None:
        try:
            while data := await self._next():
                if self._lingering:
                    self._discard(data)
                    continue
                if self._waiting and self._untouched:
                    self._untouched = False
                    self._expect(self._head_seconds)
                await self._http.handle(RawData(data))
            await self._http.handle(Closed())
        except asyncio.CancelledError:
            if self._reading is not None:
                raise
            task = asyncio.current_task()
            assert task is not None  # noqa: S101 - the connection's task
            task.uncancel()  # The cause was `_cut_off`.
        self._reading = None

    async def _next(self) -> bytes:
        """Return the bytes received, or b"" at the end."""
        while not self._inbox and not self._eof:
            self._wake_reader = self._loop.create_future()
            await self._wake_reader
        data = bytes(self._inbox)
        self._inbox.clear()
        transport = self._transport
        if len(data) > READ_BYTES and transport is not None and not transport.is_closing():
            transport.resume_reading()
        return data

    def _wake(self) -> None:
        if self._wake_reader is not None and not self._wake_reader.done():
            self._wake_reader.set_result(None)

    # Writing -------------------------------------------------------------------------------

    async def _send(self, event: Event) -> None:
        """Handle an event of the HTTP protocol, unless the socket was handed over."""
        if self._handed_over:
            return
        if isinstance(event, RawData):
            if self._lost.is_set():
                await self._http.handle(Closed())
            elif self._transport is not None:
                self._transport.write(event.data)
                await self._writable.wait()
        elif isinstance(event, Updated):
            self._set_waiting(event.idle)
        elif isinstance(event, Closed):
            self._end()

    def _set_waiting(self, waiting: bool) -> None:
        self._waiting = waiting
        self._on_waiting(waiting)
        if not waiting:
            self._expect(None)
            return
        # The beginning of the next request may have come with the last one.
        self._untouched = not self._http.connection.trailing_data[0]
        self._expect(self._keep_alive_seconds if self._untouched else self._head_seconds)

    # The end -------------------------------------------------------------------------------

    def _expect(self, seconds: float | None, otherwise: Callable[[], None] | None = None) -> None:
        """Close the connection, or call `otherwise`, unless a request comes within `seconds`."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if seconds is not None:
            self._deadline = self._loop.call_later(seconds, otherwise or self._hang_up)

    def _hang_up(self) -> None:
        self._limit_end()
        if self._transport is not None:
            self._transport.close()

    def _end(self) -> None:
        """Close, but give a client that is still sending time to read its answer.

        The system answers bytes for a closed socket with a reset. A client may then drop an unread
        answer. So may a proxy that has requests of other users to send.
        """
        transport = self._transport
        if self._lingering or transport is None:
            return
        if self._eof or self._http.discard():
            self._hang_up()
            return
        self._lingering = True
        self._on_waiting(True)
        self._limit_end()
        self._expect(LINGER_SECONDS)
        if transport.can_write_eof() and not transport.is_closing():
            transport.write_eof()

    def _discard(self, data: bytes) -> None:
        self._discarded += len(data)
        if self._http.discard(data) or self._discarded > LINGER_BYTES:
            self._hang_up()
        else:
            self._expect(LINGER_SECONDS)

    def _limit_end(self) -> None:
        # Without a limit a client that does not read its answer would keep the connection for ever.
        if self._cut is None:
            self._cut = self._loop.call_later(self._head_seconds, self._cut_off)

    def _watch_for_stall(self, transport: asyncio.Transport) -> None:
        left = transport.get_write_buffer_size()
        self._stall = self._loop.call_later(STALL_SECONDS, self._check_stall, transport, left)

    def _check_stall(self, transport: asyncio.Transport, left: int) -> None:
        if transport.get_write_buffer_size() < left:
            self._watch_for_stall(transport)
        else:
            self._cut_off()

    def _cut_off(self) -> None:
        self.abort()
        # Hypercorn may still wait until an ended application accepts the client's input.
        if self._reading is not None:
            reading, self._reading = self._reading, None
            reading.cancel()


def _address(name: Any) -> tuple[str, int] | None:
    return (name[0], name[1]) if isinstance(name, tuple) else None
