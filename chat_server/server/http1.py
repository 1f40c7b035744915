"""Hypercorn's HTTP/1.1 without HTTP/2, strict about input that Quart could not handle.

Only this module and `hypercorn.py` use Hypercorn's internals; `hypercorn.py` lists them.
"""

import logging
import re
from dataclasses import replace
from typing import Any, cast

import h11
from hypercorn.events import Closed, Event
from hypercorn.protocol.events import Body, Data, Request, Response, StreamClosed
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol, H11WSConnection
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.protocol.ws_stream import ASGIWebsocketState, Handshake, WSStream

from ..http.problems import MEDIA_TYPE, Problem, encode
from ..transports.handover import STATE_KEY

logger = logging.getLogger(__name__)

_READ_BY_HYPERCORN = re.compile(rb"connection|upgrade|sec-websocket-.*|content-length", re.DOTALL)
_ABSOLUTE_FORM = re.compile(rb"https?://([^/?#]*)", re.IGNORECASE)


class LenientConnection(h11.Connection):
    """Accepts a line break behind a body, and ignores a request behind the last one.

    RFC 9112, section 2.2, asks for the former. h11 has an error for both. Its error would overtake
    the answer of an executed request, and the client would repeat the request.
    """

    def receive_data(self, data: bytes) -> None:
        """Buffer received bytes, unless the last request has come."""
        if self.their_state is not h11.MUST_CLOSE:
            super().receive_data(data)

    def next_event(self) -> Any:
        """Return the next event; no event comes after the last request."""
        if self.their_state is h11.MUST_CLOSE:
            return h11.NEED_DATA
        if self.their_state is h11.IDLE:
            self._skip_empty_lines()
        return super().next_event()

    @property
    def answers_head(self) -> bool:
        """True if the present request is HEAD, so h11 refuses a body of the answer."""
        return self._request_method == b"HEAD"

    def _skip_empty_lines(self) -> None:
        buffered = self.trailing_data[0]
        if empty := len(buffered) - len(buffered.lstrip(b"\r\n")):
            self._receive_buffer.maybe_extract_at_most(empty)


class _Unreadable(Exception):
    """A request that Quart could not read; this module sends the answer."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class Http1(H11Protocol):
    """Hypercorn's HTTP/1.1 without HTTP/2, strict about input that Quart could not handle."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._websocket: _WebSocket | None = None
        bound = self.config.h11_max_incomplete_size
        self.connection = LenientConnection(h11.SERVER, max_incomplete_event_size=bound)

    async def handle(self, event: Event) -> None:
        """Process received bytes."""
        try:
            await super().handle(event)
        except _Unreadable as error:
            await self._send_error_response(error.status, str(error))
            await self.send(Closed())

    async def stream_send(self, event: StreamEvent) -> None:
        """Send a part of an answer; the last answer gets `Connection: close`."""
        if (
            isinstance(event, Response)
            and event.status_code >= 200
            and not (self.received_all and self._may_recycle())
        ):
            others = [header for header in event.headers if header[0].lower() != b"connection"]
            event = replace(event, headers=[*others, (b"connection", b"close")])
        await super().stream_send(event)

    def release(self) -> None:
        """Break the reference cycles through Hypercorn's objects; see server/gc_policy.py."""
        if self._websocket is not None:
            self._websocket.release()
        self.__dict__.clear()

    @property
    def received_all(self) -> bool:
        """True if the current request has arrived completely."""
        websocket = isinstance(self.connection, H11WSConnection)
        return websocket or self.connection.their_state not in (h11.SEND_BODY, h11.ERROR)

    def discard(self, data: bytes = b"") -> bool:
        """Discard input after the answer; return True if the request is complete."""
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
        # Replaces Hypercorn's method, which would switch to HTTP/2: our limits do not apply there.
        if event.http_version not in (b"1.0", b"1.1"):
            raise _Unreadable(505, "only HTTP/1.1 is spoken here")
        names = {name for name, _ in event.headers}
        # If a proxy and this server read these headers differently, a part of one request becomes
        # another request (request smuggling).
        if b"transfer-encoding" in names and (
            b"content-length" in names or event.http_version == b"1.0"
        ):
            raise _Unreadable(400, "Transfer-Encoding: not with Content-Length, nor in HTTP/1.0")
        for name, value in event.headers:
            if not value.isascii() and _READ_BY_HYPERCORN.fullmatch(name):
                raise _Unreadable(400, f"{name.decode('latin-1')}: must be ASCII")

    async def _create_stream(self, request: h11.Request) -> None:
        """Start a WebSocket for a complete handshake, otherwise an HTTP request."""
        path, headers = _take_target(request)
        version = request.http_version.decode()
        arguments = (
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
        if _is_handshake(request) and Handshake(headers, version).is_valid():
            self.stream = self._websocket = _WebSocket(*arguments)
            self.connection = H11WSConnection(cast(h11.Connection, self.connection))
        else:
            self.stream = HTTPStream(*arguments)
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
        if status_code == 431:
            bound = self.config.h11_max_incomplete_size
            detail = f"the request's line and its headers may have {bound} bytes together"
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
        if not (isinstance(self.connection, LenientConnection) and self.connection.answers_head):
            await self._send_h11_event(h11.Data(data=body))
        await self._send_h11_event(h11.EndOfMessage())


class _WebSocket(WSStream):
    """Hypercorn's WebSocket, with a proper end in two cases that Hypercorn leaves open.

    The cases are a close frame behind a message that is too big, and frames before the answer to
    the handshake.
    """

    async def handle(self, event: StreamEvent) -> None:
        """Handle an event of the connection.

        Hypercorn refuses frames that come before the answer to the handshake, and then waits for
        ever: Hypercorn drops every later answer of the application, and with the answer the end.
        """
        early = isinstance(event, (Body, Data)) and not (self.closed or self.handshake.accepted)
        if not early:
            await super().handle(event)
        elif self.state is ASGIWebsocketState.HANDSHAKE:
            await self._send_error_response(400)
            await self.send(StreamClosed(stream_id=STREAM_ID))

    async def _handle_events(self) -> None:
        """Handle buffered frames.

        Hypercorn closes with 1009 at a part of a message beyond its limit. The bytes behind this
        part stay unread, including the client's close frame. Then both sides wait for ever.
        """
        await super()._handle_events()
        while self.buffer.length > self.buffer.max_length:
            self.scope["state"][STATE_KEY].limit_end()
            self.buffer.clear()
            self.buffer.max_length = 0  # No later part can form a message.
            await super()._handle_events()

    def release(self) -> None:
        """End wsproto's parser, a generator in a reference cycle; see server/gc_policy.py."""
        # The connection is missing if the handshake was refused, or the socket was handed over.
        if (connection := getattr(self, "connection", None)) is not None:
            connection._proto._parse_more.close()


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

    A target may be a complete URL; its host then replaces the header `Host`: RFC 9112, 3.2.2.

    Raises:
        _Unreadable: the target has another form.
    """
    target: bytes = request.target
    headers = list(request.headers)
    if absolute := _ABSOLUTE_FORM.match(target):
        target = target[absolute.end() :].partition(b"#")[0]
        target = target if target.startswith(b"/") else b"/" + target
        others = [header for header in headers if header[0] != b"host"]
        headers = [(b"host", absolute[1]), *others]
    if not target.startswith(b"/") and target != b"*":
        raise _Unreadable(400, "the target of the request must be a path")
    return target, headers
