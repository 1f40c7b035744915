"""The one place that touches Hypercorn's internals: HTTP/1.1 on a socket that can be taken away.

Written against Hypercorn 0.18 and held by tests/server/test_hypercorn.py. Only Hypercorn's
`H11Protocol` and its streams are used; socket, timeouts and the end of a connection are ours.
What this relies on: the connection's `state` mapping reaches the ASGI scope; `H11Protocol.stream`
is the request's and tells whether it is `closed`; `_create_stream` is called once for each request,
`_send_error_response` for what h11 refuses, `stream_send` for each answer; a WebSocket's
`handshake` holds the `extensions` on offer; all output goes through `send`, which gets `Updated`
when a request begins and when the next may come, and `Closed` when none may.
"""

import asyncio
import logging
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import h11
from hypercorn.asyncio.task_group import TaskGroup
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.events import Request, Response
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol, H11WSConnection
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.protocol.ws_stream import Handshake, WSStream
from hypercorn.typing import AppWrapper, ConnectionState, LifespanState

from ..gateway.handover import STATE_KEY
from ..http.problems import MEDIA_TYPE, Problem, encode
from ..settings import HttpSettings
from .http1 import LenientConnection

logger = logging.getLogger(__name__)

NEWCOMER_SECONDS = 1.0
"""So long after it was accepted a connection may ask something, even if the worker is stopping."""

READ_BYTES = 65_536
"""Unread input at which the socket is not read any more."""

LINGER_SECONDS = 2.0
"""Silence after which a client that was answered before it had sent everything is hung up on."""

LINGER_BYTES = 16 * 2**20
"""What such a client may go on sending: closing earlier could cost it the answer."""

_READ_BY_HYPERCORN = re.compile(rb"connection|upgrade|sec-websocket-.*|content-length", re.DOTALL)
_ABSOLUTE_FORM = re.compile(rb"https?://([^/?#]*)", re.IGNORECASE)


class _Refusal(Exception):
    """A request that is answered here, because nothing behind could read it."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class _Http1(H11Protocol):
    """Hypercorn's HTTP/1.1, without HTTP/2, and strict about what the parts behind it read."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        bound = self.config.h11_max_incomplete_size
        self.connection = LenientConnection(h11.SERVER, max_incomplete_event_size=bound)

    async def handle(self, event: Event) -> None:
        """Take what came."""
        try:
            await super().handle(event)
        except _Refusal as refusal:
            await self._send_error_response(refusal.status, str(refusal))
            await self.send(Closed())

    async def stream_send(self, event: StreamEvent) -> None:
        """Send a part of an answer; say so in it if the connection ends behind it."""
        if (
            isinstance(event, Response)
            and event.status_code >= 200
            and not (self.received_all and self._may_recycle())
        ):
            others = [header for header in event.headers if header[0].lower() != b"connection"]
            event = replace(event, headers=[*others, (b"connection", b"close")])
        await super().stream_send(event)

    @property
    def received_all(self) -> bool:
        """Whether nothing of a request is still to come."""
        websocket = isinstance(self.connection, H11WSConnection)
        return websocket or self.connection.their_state not in (h11.SEND_BODY, h11.ERROR)

    def discard(self, data: bytes = b"") -> bool:
        """Pass over what comes after the answer, and return whether that is all of the request."""
        if self.connection.their_state is h11.ERROR:
            return False
        try:
            if data:
                self.connection.receive_data(data)
            while not self.received_all:
                if self.connection.next_event() is h11.NEED_DATA:
                    return False
        except h11.RemoteProtocolError:
            return False
        return True

    def _may_recycle(self) -> bool:
        refused_websocket = isinstance(self.connection, H11WSConnection)
        return not (refused_websocket or self.context.terminated.is_set())

    async def _check_protocol(self, event: h11.Request) -> None:
        # In place of Hypercorn's, which would go on in HTTP/2: none of our bounds holds there.
        if event.http_version not in (b"1.0", b"1.1"):
            raise _Refusal(505, "only HTTP/1.1 is spoken here")
        names = {name for name, _ in event.headers}
        # Who reads them otherwise than whoever is in front takes a part of one request for another.
        if b"transfer-encoding" in names and (
            b"content-length" in names or event.http_version == b"1.0"
        ):
            raise _Refusal(400, "Transfer-Encoding: not with Content-Length, nor in HTTP/1.0")
        for name, value in event.headers:
            if not value.isascii() and _READ_BY_HYPERCORN.fullmatch(name):
                raise _Refusal(400, f"{name.decode('latin-1')}: must be ASCII")

    async def _create_stream(self, request: h11.Request) -> None:
        """Begin a WebSocket, or with anything that is no whole handshake a request of HTTP."""
        path, headers = _take_target(request)
        version = request.http_version.decode()
        kind: type[HTTPStream] | type[_WebSocket] = HTTPStream
        if _is_handshake(request) and Handshake(headers, version).is_valid():
            kind = _WebSocket
            self.connection = H11WSConnection(cast(h11.Connection, self.connection))
        self.stream = kind(
            self.app,
            self.config,
            self.context,
            self.task_group,
            self.ssl,
            self.client,
            self.server,
            self.stream_send,
            STREAM_ID,
        )
        await self.stream.handle(
            Request(
                stream_id=STREAM_ID,
                headers=headers,
                http_version=version,
                method=request.method.decode("ascii").upper(),
                raw_path=path,
                state=self.connection_state,
            )
        )
        self.keep_alive_requests += 1

    async def _send_error_response(self, status_code: int, detail: str = "") -> None:
        detail = detail or "this is no HTTP/1.1 request"
        logger.debug("%s: %d, %s", self.client and self.client[0], status_code, detail)
        title = "Bad request" if status_code < 500 else "HTTP version not supported"
        body = encode(Problem(title, status_code, detail, "bad_request"))
        headers = [
            (b"content-length", b"%d" % len(body)),
            (b"content-type", MEDIA_TYPE.encode()),
            (b"connection", b"close"),
            *self.config.response_headers("h11"),
        ]
        await self._send_h11_event(h11.Response(status_code=status_code, headers=headers))
        await self._send_h11_event(h11.Data(data=body))
        await self._send_h11_event(h11.EndOfMessage())


class _WebSocket(WSStream):
    """Hypercorn's WebSocket, which ends behind a message that is too big."""

    async def _handle_events(self) -> None:
        """Take what came.

        Hypercorn closes with 1009 at a part of a message that passes its bound, and leaves what
        stands behind that part unread, also the client's close frame; then both wait for ever.
        """
        await super()._handle_events()
        while self.buffer.length > self.buffer.max_length:
            self.scope["state"][STATE_KEY].limit_end()
            self.buffer.clear()
            self.buffer.max_length = 0  # no later part is a message any more
            await super()._handle_events()


def _is_handshake(request: h11.Request) -> bool:
    upgrade = b""
    connection: list[bytes] = []
    for name, value in request.headers:
        if name == b"upgrade":
            upgrade = value.strip().lower()
        elif name == b"connection":
            connection = [token.strip() for token in value.lower().split(b",")]
    return request.method == b"GET" and upgrade == b"websocket" and b"upgrade" in connection


def _take_target(request: h11.Request) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """Return a request's path with its query, and its headers.

    A target may be the whole address, whose host then stands for the header: RFC 9112, 3.2.2.

    Raises:
        _Refusal: the target has another form.
    """
    target: bytes = request.target
    headers = list(request.headers)
    if absolute := _ABSOLUTE_FORM.match(target):
        target = target[absolute.end() :].partition(b"#")[0]
        target = target if target.startswith(b"/") else b"/" + target
        others = [header for header in headers if header[0] != b"host"]
        headers = [(b"host", absolute[1]), *others]
    if not target.startswith(b"/") and target != b"*":
        raise _Refusal(400, "the target of the request must be a path")
    return target, headers


class HttpConnection(asyncio.Protocol):
    """A connection from its accept until it ends or is handed over; a `gateway.handover.Socket`.

    Args:
        app: the ASGI application.
        config: Hypercorn's.
        context: what the worker's connections share.
        state: the application's lifespan state.
        settings: how long a request's head may take, and how long the next one may be waited for.
        on_waiting: told whether the connection has no request under way.
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
        self._http: _Http1
        self._accepted_at = self._loop.time()
        self._inbox = bytearray()
        self._eof = False
        self._wake_reader: asyncio.Future[None] | None = None
        self._reading: asyncio.Task[Any] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._lost = asyncio.Event()
        self._handed_over = False
        # Between requests, and of these the time before the next one has begun to come.
        self._waiting = True
        self._untouched = True
        self._lingering = False
        self._discarded = 0
        self._deadline: asyncio.TimerHandle | None = None
        self._cut: asyncio.TimerHandle | None = None

    # asyncio.Protocol ----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, below TLS once its handshake is done."""
        self._transport = cast(asyncio.Transport, transport)  # a socket's is no mere base

    def data_received(self, data: bytes) -> None:
        """Keep bytes until they are read."""
        self._inbox += data
        if len(self._inbox) > READ_BYTES and self._transport is not None:
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        """Take the client's end; return whether the socket can go on in the other direction."""
        self._eof = True
        self._wake()
        return self._transport is not None and self._transport.can_write_eof()

    def pause_writing(self) -> None:
        """Note that the client does not read."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Note that it does again."""
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Take the end of the connection."""
        self._eof = True
        self._lost.set()
        self._writable.set()
        self._wake()

    # The connection's life -----------------------------------------------------------------

    async def run(self) -> None:
        """Serve requests until the connection ends or is handed over."""
        transport = self._transport
        assert transport is not None  # noqa: S101 - it has been made
        group = TaskGroup(self._loop)
        self._http = _Http1(
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
            for timer in (self._deadline, self._cut):
                if timer is not None:
                    timer.cancel()
            if not (self._handed_over or self._lost.is_set()):
                transport.abort()
            # These refer to us, the timers by the context of a request: without them everything
            # goes at once, and nothing waits for the garbage collector.
            self._deadline = self._cut = None
            self._on_waiting = lambda waiting: None
            self._http.__dict__.clear()

    def retire(self) -> None:
        """End once nothing is under way; the worker stops."""
        if self._waiting:
            # Whoever has just connected could not know, and must not find a dead connection.
            self._expect(max(0.0, self._accepted_at + NEWCOMER_SECONDS - self._loop.time()))

    # gateway.handover.Socket ---------------------------------------------------------------

    @property
    def is_over(self) -> bool:
        """See `gateway.handover.Socket`."""
        if self._transport is None or self._transport.is_closing():
            return True
        # Hypercorn refuses a client that sends frames before it has the answer, but goes on here.
        stream = self._http.stream
        return (self._eof and not self._inbox) or stream is None or stream.closed

    def hand_over(self) -> asyncio.Transport | None:
        """See `gateway.handover.Socket`."""
        if self._inbox:  # to be refused: see `is_over`
            return None
        self._handed_over = self._eof = True
        self._wake()  # ends `run`, which must find nothing to do any more
        transport, self._transport = self._transport, None
        return transport

    def forgo_compression(self) -> None:
        """See `gateway.handover.Socket`."""
        if isinstance(self._http.stream, WSStream):
            self._http.stream.handshake.extensions = None

    def abort(self) -> None:
        """See `gateway.handover.Socket`."""
        if self._transport is not None:
            self._transport.abort()

    def limit_end(self) -> None:
        """See `gateway.handover.Socket`."""
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
            assert task is not None  # noqa: S101 - it runs in the connection's
            task.uncancel()  # it was `_cut_off`
        self._reading = None

    async def _next(self) -> bytes:
        """Return what has come, or nothing at the end."""
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
        """Do what the HTTP protocol wants, unless the socket is not ours any more."""
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
        # What the next request begins with may have come with the last one.
        self._untouched = not self._http.connection.trailing_data[0]
        self._expect(self._keep_alive_seconds if self._untouched else self._head_seconds)

    # The end -------------------------------------------------------------------------------

    def _expect(self, seconds: float | None) -> None:
        """Hang up unless a request comes within that time."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if seconds is not None:
            self._deadline = self._loop.call_later(seconds, self._hang_up)

    def _hang_up(self) -> None:
        self._limit_end()
        if self._transport is not None:
            self._transport.close()

    def _end(self) -> None:
        """Close, but let a client that is still sending see its answer first.

        The system answers what comes to a closed socket with a reset, at which a client, or a proxy
        that has other users' requests to send, may drop an answer that it has not read.
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
        # A client that does not read the rest of its answer would keep the connection for ever.
        if self._cut is None:
            self._cut = self._loop.call_later(self._head_seconds, self._cut_off)

    def _cut_off(self) -> None:
        self.abort()
        # Hypercorn may wait for an application that has ended to take what the client sent.
        if self._reading is not None:
            reading, self._reading = self._reading, None
            reading.cancel()


def _address(name: Any) -> tuple[str, int] | None:
    return (name[0], name[1]) if isinstance(name, tuple) else None
