"""The front door: serves hot requests on a connection, and passes all others to Hypercorn.

The connection keeps the bytes of a request until the decision. Hypercorn gets its requests
unchanged, as if they had come to Hypercorn first. Between two requests the front door owns the
connection again (docs/design/front-door.md).
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from .hot_publications import Request
from .hot_requests import HotRequests
from .hypercorn import NEWCOMER_SECONDS, READ_BYTES, HttpConnection
from .request_head import Head, Unusual, read_head

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 0.25
"""Seconds in which a request must arrive completely for the front door to serve it."""


class FrontDoor(HttpConnection):
    """A connection whose hot requests bypass Hypercorn; see `HttpConnection`.

    Args:
        hot: executes the hot requests of the worker.
        arguments: the arguments of `HttpConnection`.
    """

    def __init__(self, hot: HotRequests, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._hot = hot
        # True while the front door owns the next bytes; then the bytes without a decision yet.
        self._ours = True
        self._undecided = b""
        # Number of bytes required before the next attempt to decide.
        self._wanted = 0
        # The last publication; the next one may have the same head.
        self._request: Request | None = None
        # True while a hot request is under way.
        self._busy = False
        # One timer serves many requests: the timer looks when the last request ended.
        self._watches_idleness = False
        self._idle_since = 0.0
        self._work: asyncio.Task[None] | None = None
        # The result is True if Hypercorn must continue, and False if the connection ended first.
        self._decided: asyncio.Future[bool] = self._loop.create_future()

    async def run(self) -> None:
        """Serve requests until the connection ends or is handed over."""
        if self._deadline is None and not self._busy:
            stopping = self._context.terminated.is_set()
            self._expect(NEWCOMER_SECONDS if stopping else self._head_seconds)
        try:
            if await self._decided:
                await super().run()
        finally:
            self._cancel_timers()
            if self._work is not None:
                self._work.cancel()
            if not (self._handed_over or self._lost.is_set()):
                self.abort()

    # asyncio.Protocol ----------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Serve the request at the start of the data, or pass the data to Hypercorn."""
        if not self._ours:
            super().data_received(data)
            return
        self._undecided = self._undecided + data if self._undecided else data
        self._decide()
        # The rest of an incomplete request has its own limit.
        if self._ours and len(self._undecided) > max(READ_BYTES, self._wanted):
            self._pause_reading()

    def eof_received(self) -> bool:
        """Note the client's end of stream; return True if the socket can still send."""
        if self._ours and self._undecided and not self._busy:
            self._leave()
        can_send = super().eof_received()
        return can_send and (self._busy or not self._ours)

    def pause_writing(self) -> None:
        """Note that the client reads slowly, or not at all."""
        if not self._ours:
            super().pause_writing()
            return
        self._writable.clear()
        if self._waiting:
            self._set_waiting(False)  # The client's answer is under way.
        if self._transport is not None:
            self._watch_for_stall(self._transport)

    def resume_writing(self) -> None:
        """Note that the client reads again."""
        super().resume_writing()
        self._loop.call_soon(self._go_on)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note the end of the connection."""
        super().connection_lost(exc)
        self._resolve(needs_hypercorn=False)

    # Requests ------------------------------------------------------------------------------

    @property
    def _waits(self) -> bool:
        """True if new input waits for an answer under way, or for a slow client."""
        return self._ours and (self._busy or not self._writable.is_set())

    def _decide(self) -> None:
        """Serve the next request, pass it to Hypercorn, or wait for its missing bytes."""
        data = self._undecided
        if self._waits or len(data) < self._wanted or self._lost.is_set():
            return
        try:
            if self._context.terminated.is_set():
                raise Unusual
            request = self._request
            if request is not None and (body := self._hot.repeats(request, data)) is not None:
                if len(data) < body[1]:
                    self._expect_rest(body[1])
                else:
                    self._publish(request, *body)
                return
            head = read_head(data)
            end = 0 if head is None else head.end + self._hot.length_of(head)
            if head is None or len(data) < end:
                self._expect_rest(end)
            elif head.path == b"/ws":
                self._connect(head)
            elif head.method == b"GET":
                self._send_file(head)
            else:
                address = self._hot.address_of(head, self._peer())
                self._request = Request(head, data, address)
                self._publish(self._request, head.end, end)
        except Unusual:
            self._leave()

    def _expect_rest(self, wanted: int) -> None:
        if not self._wanted:
            self._expect(PATIENCE_SECONDS, self._leave)
        self._wanted = max(wanted, len(self._undecided) + 1)
        # Hypercorn too regards a request as under way once the head is complete.
        self._waiting = not wanted
        self._on_waiting(self._waiting)

    def _leave(self) -> None:
        """Pass the request to Hypercorn, together with all bytes until its answer."""
        self._ours = False
        self._wanted = 0
        self._waiting = True  # True until Hypercorn has found the request.
        data, self._undecided = self._undecided, b""
        if self._decided.done():
            super().data_received(data)
        else:
            self._inbox += data
            self._resolve(needs_hypercorn=True)
        self._resume_reading()

    def _resolve(self, *, needs_hypercorn: bool) -> None:
        if not self._decided.done():
            self._decided.set_result(needs_hypercorn)

    def _connect(self, head: Head) -> None:
        if self._transport is None or self._eof or len(self._undecided) > head.end:
            raise Unusual  # Hypercorn refuses frames that come before the handshake's answer.
        connect = self._hot.admit(head, self._peer())
        if isinstance(connect, bytes):
            self._undecided, self._wanted = b"", 0
            self._respond(connect)
            return
        transport = self.hand_over()
        assert transport is not None  # noqa: S101 - nothing is in Hypercorn's inbox
        self._on_waiting(False)
        self._resolve(needs_hypercorn=False)
        try:
            connect(transport)
        except Exception:
            logger.exception("a WebSocket could not be opened")
            transport.abort()

    def _send_file(self, head: Head) -> None:
        response = self._hot.files.answer(head)
        self._undecided, self._wanted = self._undecided[head.end :], 0
        self._respond(response)

    def _peer(self) -> str | None:
        """Return the peer address of the socket; None without an address."""
        peer = None if self._transport is None else self._transport.get_extra_info("peername")
        return peer[0] if isinstance(peer, tuple) else None

    def _publish(self, request: Request, begin: int, end: int) -> None:
        data = self._undecided
        self._busy, self._undecided, self._wanted = True, data[end:], 0
        try:
            work = self._hot.publications.carry_out(request, data[begin:end], self._respond)
        except Unusual:
            self._busy, self._undecided = False, data
            raise
        if work is not None:
            self._work = self._loop.create_task(work, name="publish a batch")
        if self._busy:
            self._set_waiting(False)

    def _respond(self, response: bytes) -> None:
        """Send the answer of the present request, and continue with the next one."""
        self._busy = False
        self._work = None
        if self._transport is None or self._transport.is_closing():
            return
        self._transport.write(response)
        if self._waiting:
            self._on_waiting(False)  # Otherwise the connection would stay the longest idle one.
        self._set_waiting(not self._undecided and self._writable.is_set())
        # No request is executed after `Connection: close`.
        if (self._eof and not self._undecided) or self._hot.draining:
            self._hang_up()
        elif self._undecided:
            self._loop.call_soon(self._go_on)

    def _pause_reading(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def _go_on(self) -> None:
        if not self._ours or self._transport is None or self._transport.is_closing():
            return
        if self._undecided:
            self._decide()
        elif not (self._waiting or self._waits):
            self._set_waiting(True)
        if self._ours and len(self._undecided) <= READ_BYTES:
            self._resume_reading()

    def _set_waiting(self, waiting: bool) -> None:
        if self._ours:
            self._waiting = waiting
            self._on_waiting(waiting)
            self._idle_since = self._loop.time()
            self._wanted = 0  # ends a timer for missing bytes; the next request may start one
            if not self._watches_idleness:
                self._watch_idleness(self._keep_alive_seconds)
        else:
            super()._set_waiting(waiting)
            # The bytes behind the request belong to Hypercorn as well.
            self._ours = waiting and self._untouched and not (self._inbox or self._eof)

    def _expect(self, seconds: float | None, otherwise: Callable[[], None] | None = None) -> None:
        super()._expect(seconds, otherwise)
        self._watches_idleness = False

    def _watch_idleness(self, seconds: float) -> None:
        self._expect(seconds, self._check_idleness)
        self._watches_idleness = True

    def _check_idleness(self) -> None:
        left = self._idle_since + self._keep_alive_seconds - self._loop.time()
        if not self._waiting:
            left = self._keep_alive_seconds
        if left <= 0:
            self._hang_up()
        else:
            self._watch_idleness(left)
