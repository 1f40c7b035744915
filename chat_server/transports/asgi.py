"""The transport for any ASGI server: `websocket.receive` and `websocket.send`, nothing else.

A connection costs two tasks and a queue. The direct transport costs neither, but needs a server
that hands over its sockets.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import TypeAlias, cast

from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, ASGISendEvent, WebsocketScope
from quart import Quart
from quart.asgi import ASGIWebsocketConnection
from quart.wrappers import Websocket

from ..protocol.close_codes import CloseCode, fit_reason
from ..realtime.ports import Encoder, Receiver
from .lifecycle import ConnectionState, Hold, ReadGate

logger = logging.getLogger(__name__)


INBOX_KEY = "chat_server.inbox"
"""The key of the route's `Inbox` in the ASGI scope's `state`."""

Inbox: TypeAlias = "asyncio.Queue[str | bytes | None]"
"""A queue of a client's messages, at most one of which waits; None marks their end."""


QUIET_TURNS = 20
"""Turns of the loop without a message after which the ASGI server has passed on all read messages.
ASGI does not report this. A message waits one turn in each of a few queues before the transport."""


class AsgiConnection(ASGIWebsocketConnection):
    """Quart's side of a WebSocket, with a bounded queue, so that flow control reaches the server.

    Quart's own queue is unbounded and makes a text of an empty binary message. A disconnect also
    cancels Quart's route before the route has read the messages that came earlier. A refusal leaves
    in one piece, because granian makes a bare 403 of one that comes in several.
    """

    def __init__(self, app: Quart, scope: WebsocketScope) -> None:
        self._inbox: Inbox = asyncio.Queue(maxsize=1)
        self._gone = False
        self._refusal = b""
        state = {**(scope.get("state") or {}), INBOX_KEY: self._inbox}
        # The scheme is optional in ASGI, but Quart reads it.
        whole = {"scheme": "ws", **scope, "state": state}
        super().__init__(app, cast(WebsocketScope, whole))

    async def __call__(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """Run the route until it ends."""

        async def send_or_not(event: ASGISendEvent) -> None:
            if event["type"] == "websocket.http.response.body":
                self._refusal += event["body"]
                if event["more_body"]:
                    return
                event["body"] = self._refusal
            # ASGI servers raise various errors when the client is gone. Each also reports the end
            # by `receive`, and some wait for our return before they release the connection.
            if not self._gone:
                try:
                    await send(event)
                except Exception as error:
                    self._gone = True
                    logger.debug("the ASGI server no longer sends: %r", error)
                    raise ConnectionError from error

        websocket = self._create_websocket_from_scope(send_or_not)
        messages = asyncio.ensure_future(self._pass_on(receive))
        try:
            await self.handle_websocket(websocket, send_or_not)
        except ConnectionError:
            if not self._gone:
                raise
        finally:
            messages.cancel()
            await asyncio.gather(messages, return_exceptions=True)

    async def _pass_on(self, receive: ASGIReceiveCallable) -> None:
        while True:
            event = await receive()
            if event["type"] == "websocket.receive":
                data = event.get("bytes")
                await self._inbox.put(event["text"] if data is None else data)
            elif event["type"] == "websocket.disconnect":
                self._gone = True
                await self._inbox.put(None)
                return


class AsgiTransport:
    """One WebSocket of an ASGI server; see `realtime.ports.Transport`.

    Args:
        encoder: makes the packets for `write`.
        websocket: Quart's WebSocket, already accepted.
        inbox: the client's messages.
        max_message_bytes: the largest accepted message; a larger one closes with 1009.
        slow_buffer_bytes: maximum bytes that wait for a slow client.
        close_timeout_seconds: the client's time to answer a Close frame, in seconds.
        abort_socket: drops the socket; None if the server does not offer this.
    """

    can_ping = False

    def __init__(
        self,
        encoder: Encoder,
        websocket: Websocket,
        inbox: Inbox,
        *,
        max_message_bytes: int,
        slow_buffer_bytes: int,
        close_timeout_seconds: float,
        abort_socket: Callable[[], None] | None = None,
    ) -> None:
        self.encoder = encoder
        self._websocket = websocket
        self._inbox = inbox
        self._max_message_bytes = max_message_bytes
        self._slow_buffer_bytes = slow_buffer_bytes
        self._close_timeout = close_timeout_seconds
        self._abort_socket = abort_socket
        self._loop = asyncio.get_running_loop()
        self._state = ConnectionState.OPEN
        self._gate = ReadGate()
        # Set by `serve`, released at its end.
        self._receiver: Receiver
        self._reader: asyncio.Task[None] | None = None
        # Waits, after `stop_reading`, until the ASGI server has no more messages to pass on.
        self._hearing_out: asyncio.Task[None] | None = None
        self._quiet_turns = 0
        # Messages that wait for the client, each with True if it is binary.
        self._queue: deque[tuple[bytes, bool]] = deque()
        self._queued_bytes = 0
        self._wake_writer = asyncio.Event()
        # Set according to the gate and the state.
        self._may_read = asyncio.Event()
        self._may_end = asyncio.Event()
        # The code and reason of our Close; None before.
        self._close: tuple[int, str] | None = None
        # Ends a connection whose client does not answer our Close.
        self._deadline: asyncio.TimerHandle | None = None

    async def serve(self, receiver: Receiver, begin: Callable[[], None]) -> None:
        """Carry messages until the connection ends; `begin` runs first.

        Args:
            receiver: gets all events of the connection.
            begin: may already write.
        """
        self._receiver = receiver
        reader = self._reader = self._loop.create_task(self._read())
        writer = self._loop.create_task(self._write())
        # A failed writer has found that the connection is gone.
        writer.add_done_callback(self._on_writer_done)
        try:
            begin()
            self._set_reading()
            await asyncio.wait({reader})
        finally:
            if self._deadline is not None:
                self._deadline.cancel()
            tasks = [task for task in (reader, writer, self._hearing_out) if task]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._state = ConnectionState.GONE
            receiver.on_closed()
            self._release()

    def _release(self) -> None:
        """Break the reference cycles, also those of a task's traceback: see server/gc_policy.py."""
        del self._receiver
        self._reader = self._hearing_out = None

    # Transport -----------------------------------------------------------------------------

    @property
    def writable(self) -> bool:
        """See `ports.Transport`."""
        return Hold.SLOW not in self._gate.holds

    def write(self, packet: bytes) -> None:
        """See `ports.Transport`."""
        self.write_message(packet, binary=self.encoder.codec.binary)

    def write_message(self, payload: bytes, *, binary: bool) -> None:
        """Write a text or binary message, regardless of the encoder's kind."""
        if self._state >= ConnectionState.CLOSING:
            return
        self._queue.append((payload, binary))
        self._queued_bytes += len(payload)
        self._wake_writer.set()
        if self._queued_bytes > self._slow_buffer_bytes and self.writable:
            self._gate.hold(Hold.SLOW)
            self._set_reading()
            self._loop.call_soon(self._report_full)

    def ping(self) -> None:
        """See `ports.Transport`: ASGI has no pings."""

    def pause(self) -> None:
        """See `ports.Transport`."""
        self._gate.hold(Hold.COMMANDS)
        self._set_reading()

    def resume(self) -> None:
        """See `ports.Transport`."""
        self._gate.release(Hold.COMMANDS)
        self._set_reading()

    def stop_reading(self) -> None:
        """See `ports.Transport`."""
        self._hearing_out = self._loop.create_task(self._hear_out())

    def close(self, code: int, reason: str) -> None:
        """See `ports.Transport`."""
        if self._state < ConnectionState.CLOSING:
            self._state = ConnectionState.CLOSING
            self._close = (code, fit_reason(reason))
            self._may_end.set()
            self._deadline = self._loop.call_later(self._close_timeout, self.abort)
            self._wake_writer.set()
            self._set_reading()

    def abort(self) -> None:
        """See `ports.Transport`."""
        self._state = max(self._state, ConnectionState.CLOSING)
        if self._abort_socket is not None:
            self._abort_socket()
        if self._reader is not None:
            self._reader.cancel()

    # Tasks ---------------------------------------------------------------------------------

    def _set_reading(self) -> None:
        if self._state >= ConnectionState.CLOSING or not self._gate.holds:
            self._may_read.set()
        else:
            self._may_read.clear()

    async def _read(self) -> None:
        while True:
            message = await self._inbox.get()
            # The gate may have closed while this message was on its way.
            await self._may_read.wait()
            if message is None:
                break
            if self._state is ConnectionState.OPEN:
                self._on_message(message)
        self._report_remote_close()
        if self._state < ConnectionState.CLOSING:
            await self._may_end.wait()

    async def _hear_out(self) -> None:
        """Report the client's end once all messages that the ASGI server had read are handled."""
        self._quiet_turns = 0
        while self._quiet_turns < QUIET_TURNS:
            await self._may_read.wait()
            await asyncio.sleep(0)
            self._quiet_turns += 1
        self._report_remote_close()

    def _report_remote_close(self) -> None:
        if self._state is ConnectionState.OPEN:
            self._state = ConnectionState.REMOTE_CLOSED
            self._receiver.on_remote_close()

    def _on_message(self, message: str | bytes) -> None:
        self._quiet_turns = 0
        binary = isinstance(message, bytes)
        payload = message if isinstance(message, bytes) else message.encode()
        if len(payload) > self._max_message_bytes:
            limit = f"a message may have {self._max_message_bytes} bytes at most"
            self.close(CloseCode.TOO_BIG, limit)
            return
        try:
            self._receiver.on_message(payload, binary=binary)
        except Exception:
            logger.exception("a message could not be taken")
            self.close(CloseCode.INTERNAL, "something went wrong; it has been logged")

    async def _write(self) -> None:
        while True:
            while self._queue:
                payload, binary = self._queue.popleft()
                await self._websocket.send(payload if binary else payload.decode())
                self._queued_bytes -= len(payload)
                if not self.writable and self._queued_bytes <= self._slow_buffer_bytes // 4:
                    self._gate.release(Hold.SLOW)
                    self._loop.call_soon(self._report_drained)
            if self._close is not None:
                await self._websocket.close(*self._close)
                return
            self._wake_writer.clear()
            await self._wake_writer.wait()

    def _on_writer_done(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and task.exception() is not None and self._reader is not None:
            self._reader.cancel()

    # The queue may fill and drain again before these run. `on_drained` is called even if `on_full`
    # was not: a replay may have seen the full queue by itself, and waits.

    def _report_full(self) -> None:
        if not self.writable and self._state < ConnectionState.CLOSING:
            self._receiver.on_full()

    def _report_drained(self) -> None:
        if self.writable and self._state < ConnectionState.CLOSING:
            self._receiver.on_drained()
            self._set_reading()
