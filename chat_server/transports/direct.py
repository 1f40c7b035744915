"""The direct transport: an `asyncio.Protocol` over websockets' sans-I/O protocol.

A connection has no task, queue or stream of its own. Packets go directly to the socket's transport,
whose own buffer is bounded by `slow_buffer_bytes`.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace

from websockets.extensions import Extension
from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import SERVER
from websockets.protocol import Protocol as WebSocketProtocol
from websockets.protocol import State as WebSocketState
from websockets.typing import ExtensionName

from ..protocol.close_codes import fit_reason
from ..realtime.ports import Encoder, Receiver
from .frames import FINAL, frame, whole_frame
from .lifecycle import ConnectionState, Hold, ReadGate

CORK_BYTES = 16_384
"""Bytes of answers to one socket read that are gathered before they are written."""

SLICE_BYTES = 16_384
"""Bytes parsed at a time. A ping has six bytes, so the receiver counts some 2,700 pings before it
can stop reading."""

COMPRESSED_SLICE_BYTES = 1_024
"""`SLICE_BYTES` for compressed messages, because 80 bytes may become 64 KiB."""

LARGE_READ_BYTES = 65_536
"""Bytes of a read after which the other connections get a turn of the loop."""

MAX_FRAMES_AFTER_CLOSE = 1_000
"""Frames parsed after our Close in search of the client's Close; more of a flood are ignored."""

TINY_BYTES = 126
"""Fragments shorter than this many bytes count against the rate limit, because reading a fragment
costs as much as reading a message."""

_PING = frame(FINAL | Opcode.PING, b"")
_DATA = frozenset({Opcode.TEXT, Opcode.BINARY, Opcode.CONT})
_CLOSING = ConnectionState.CLOSING


class _WebSocket(WebSocketProtocol):
    """websockets' protocol, which also accepts a Close frame between the fragments of a message."""

    between_messages = True
    """Whether the next byte begins a message."""

    def receive_data(self, data: bytes | bytearray) -> None:
        self.between_messages = False
        super().receive_data(data)

    def recv_frame(self, frame: Frame) -> None:
        if frame.opcode is Opcode.CLOSE:
            # RFC 6455, section 5.4, lets every control frame come between fragments.
            self.current_size = None
        super().recv_frame(frame)
        at_end = self.current_size is None and not self.reader.buffer
        self.between_messages = at_end and self.state is WebSocketState.OPEN


class _Undecoded(Extension):
    """Leaves messages compressed, because no one reads messages after our Close."""

    name = ExtensionName("undecoded")

    def decode(self, frame: Frame, *, max_size: int | None = None) -> Frame:
        return replace(frame, rsv1=False)

    def encode(self, frame: Frame) -> Frame:
        return frame


class DirectTransport(asyncio.Protocol):
    """One WebSocket after its handshake; see `realtime.ports.Transport`.

    Args:
        transport: the socket, after the handshake.
        encoder: makes the packets for `write`.
        max_message_bytes: the largest accepted message; a larger one closes with 1009.
        slow_buffer_bytes: maximum bytes that wait for a slow client.
        close_timeout_seconds: the client's time to answer a Close frame, in seconds.
        extensions: the extensions negotiated in the handshake.
    """

    can_ping = True

    def __init__(
        self,
        transport: asyncio.Transport,
        encoder: Encoder,
        *,
        max_message_bytes: int,
        slow_buffer_bytes: int,
        close_timeout_seconds: float,
        extensions: list[Extension] | None = None,
    ) -> None:
        self.encoder = encoder
        self._max_message_bytes = max_message_bytes
        self._slow_buffer_bytes = slow_buffer_bytes
        self._close_timeout = close_timeout_seconds
        self._extensions = extensions or []
        # websockets' side of the connection; None until the first frame that is not read here.
        self._ws: _WebSocket | None = None
        self._slice_bytes = COMPRESSED_SLICE_BYTES if extensions else SLICE_BYTES
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._state = ConnectionState.OPEN
        self._gate = ReadGate()
        # Set by `serve`, released by `connection_lost`.
        self._receiver: Receiver
        # Answers gathered while the bytes of one read are handled, and until the broker's next
        # events have come; None at other times.
        self._corked: list[bytes] | None = None
        self._corked_bytes = 0
        # Messages that were read before the gate closed, each with True if it is binary.
        self._inbox: list[tuple[bytes, bool]] = []
        # The fragments so far of an incomplete message, and True if the message is binary.
        self._message = bytearray()
        self._binary = False
        self._frames_left = MAX_FRAMES_AFTER_CLOSE
        # Ends a connection whose client does not answer our Close.
        self._deadline: asyncio.TimerHandle | None = None

    def serve(self, receiver: Receiver, begin: Callable[[], None], upgrade: bytes = b"") -> None:
        """Begin to serve: from now on `receiver` gets all events of the connection.

        Args:
            receiver: takes the messages.
            begin: called at once; its writes leave in one packet with `upgrade`.
            upgrade: the answer to the handshake; empty if already written.
        """
        self._receiver = receiver
        self._transport.set_write_buffer_limits(high=self._slow_buffer_bytes)
        self._transport.set_protocol(self)
        self._corked = [upgrade] if upgrade else []
        begin()
        self._uncork()

    # Transport -----------------------------------------------------------------------------

    @property
    def writable(self) -> bool:
        """See `ports.Transport`."""
        return Hold.SLOW not in self._gate.holds

    def write(self, packet: bytes) -> None:
        """See `ports.Transport`."""
        if self._state >= _CLOSING:
            return
        if self._corked is None:
            self._transport.write(packet)
            return
        self._corked.append(packet)
        self._corked_bytes += len(packet)
        if self._corked_bytes > CORK_BYTES:
            self._uncork()

    def write_message(self, payload: bytes, *, binary: bool) -> None:
        """Write a text or binary message, regardless of the encoder's kind."""
        self.write(frame(FINAL | (Opcode.BINARY if binary else Opcode.TEXT), payload))

    def ping(self) -> None:
        """See `ports.Transport`."""
        if self._is_open:
            self.write(_PING)

    def pause(self) -> None:
        """See `ports.Transport`."""
        self._gate.hold(Hold.COMMANDS)
        self._transport.pause_reading()

    def resume(self) -> None:
        """See `ports.Transport`."""
        # Delayed, because the session may call `resume` while it takes a message.
        self._gate.release(Hold.COMMANDS)
        self._loop.call_soon(self._go_on_reading)

    def stop_reading(self) -> None:
        """See `ports.Transport`."""
        self._gate.hold(Hold.STOPPED)
        self._transport.pause_reading()
        self._loop.call_soon(self._go_on_reading)

    def close(self, code: int, reason: str) -> None:
        """See `ports.Transport`."""
        self._inbox.clear()
        if self._is_open:
            self._websocket().send_close(code, fit_reason(reason))
        self._flush()
        self._end()

    def abort(self) -> None:
        """See `ports.Transport`."""
        self._state = max(self._state, ConnectionState.CLOSING)
        self._transport.abort()

    # asyncio.Protocol ----------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Handle bytes from the socket."""
        if self._corked is None:
            self._corked = []
        at = 0
        if self._ws is None or self._ws.between_messages:
            at = self._read_whole_frames(data)
        while at < len(data) and self._frames_left > 0:
            self._websocket().receive_data(data[at : at + self._slice_bytes])
            self._handle_frames()
            at += self._slice_bytes
        if self._corked and self._receiver.is_subscribed:
            # A publisher that subscribes to its topic gets the answer and the event in one packet.
            self._loop.call_soon(self._uncork)
        else:
            self._uncork()
        if len(data) >= LARGE_READ_BYTES and not self._transport.is_closing():
            # uvloop goes on reading while there are bytes, and no other connection gets a turn.
            self._transport.pause_reading()
            self._loop.call_soon(self._read_on)

    def _read_on(self) -> None:
        waits = self._gate.holds and self._state < _CLOSING
        if not (waits or self._transport.is_closing()):
            self._transport.resume_reading()

    def eof_received(self) -> bool:
        """Handle the end of the client's stream; return True if we still have to write."""
        self._websocket().receive_eof()
        self._handle_frames()
        return self._state is ConnectionState.REMOTE_CLOSED and self._transport.can_write_eof()

    def pause_writing(self) -> None:
        """Note that the write buffer is full."""
        self._gate.hold(Hold.SLOW)
        self._transport.pause_reading()
        self._loop.call_soon(self._report_full)

    def resume_writing(self) -> None:
        """Note that the client has read most of the buffer."""
        self._gate.release(Hold.SLOW)
        self._loop.call_soon(self._report_drained)

    def connection_lost(self, exc: Exception | None) -> None:
        """Handle the end of the connection."""
        self._state = ConnectionState.GONE
        self._inbox.clear()
        if self._deadline is not None:
            self._deadline.cancel()
        self._receiver.on_closed()
        self._release()

    def _release(self) -> None:
        """Break the reference cycles: see server/gc_policy.py."""
        del self._receiver
        if self._ws is not None:
            self._ws.parser.close()
            self._ws.parser_exc = None

    # Frames --------------------------------------------------------------------------------

    @property
    def _is_open(self) -> bool:
        """Whether neither side has sent its Close."""
        return self._ws is None or self._ws.state is WebSocketState.OPEN

    def _websocket(self) -> _WebSocket:
        if self._ws is None:
            self._ws = _WebSocket(
                SERVER, state=WebSocketState.OPEN, max_size=self._max_message_bytes
            )
            self._ws.extensions = self._extensions
        return self._ws

    def _read_whole_frames(self, data: bytes) -> int:
        """Handle the usual frames at the start of `data`; return the index of other bytes."""
        at = 0
        while at < len(data) and self._state < _CLOSING:
            found = whole_frame(data, at, self._max_message_bytes)
            if found is None:
                break
            opcode, payload, at = found
            if opcode is Opcode.PONG:
                self._receiver.on_sign_of_life()
            else:
                self._on_message(payload, opcode is Opcode.BINARY)
        return at

    def _handle_frames(self) -> None:
        ws = self._websocket()
        if self._is_open:
            self._flush()  # a pong overtakes the messages after its ping
        events = ws.events_received()
        if self._state >= _CLOSING:
            self._frames_left -= len(events)
        for event in events:
            assert isinstance(event, Frame)  # noqa: S101 - the other events are of the handshake
            if event.opcode in _DATA:
                self._assemble(event)
            else:
                self._receiver.on_sign_of_life()
        if self._is_open:
            self._flush()
        elif not self._inbox:
            self._finish()

    def _assemble(self, part: Frame) -> None:
        if part.opcode is not Opcode.CONT:
            self._binary = part.opcode is Opcode.BINARY
            if part.fin:
                self._on_message(bytes(part.data), self._binary)
                return
        if not part.fin and len(part.data) < TINY_BYTES:
            self._receiver.on_sign_of_life()
        # One buffer, because a list of a million empty fragments would cost memory.
        self._message += part.data
        if part.fin:
            payload = bytes(self._message)
            self._message.clear()
            self._on_message(payload, self._binary)

    def _on_message(self, payload: bytes, binary: bool) -> None:
        if self._state >= _CLOSING:
            return
        if self._gate.holds or self._inbox:
            self._inbox.append((payload, binary))
        elif binary or payload.isascii():
            self._receiver.on_message(payload, binary=binary)
        else:
            self._deliver(payload, binary)

    def _deliver(self, payload: bytes, binary: bool) -> None:
        if not binary and not payload.isascii():
            try:
                payload.decode()
            except UnicodeDecodeError as error:
                self._websocket().fail(
                    CloseCode.INVALID_DATA, f"{error.reason} at byte {error.start}"
                )
                self._flush()
                self._end()
                return
        self._receiver.on_message(payload, binary=binary)

    def _go_on_reading(self) -> None:
        delivered = 0
        if self._corked is None:
            self._corked = []
        for payload, binary in self._inbox:
            if not self._gate.hands_over:
                break
            delivered += 1
            self._deliver(payload, binary)
        del self._inbox[:delivered]
        self._uncork()
        if self._state is ConnectionState.GONE:
            return
        if not self._gate.holds:
            if not self._is_open:
                self._finish()
                return
            self._flush()
            if not self._transport.is_closing():
                self._transport.resume_reading()
        elif Hold.STOPPED in self._gate.holds and not self._inbox:
            self._report_remote_close()

    # The buffer may fill and drain again before these run. `on_drained` is called even if `on_full`
    # was not: a replay may have seen the full buffer by itself, and waits.

    def _report_full(self) -> None:
        if not self.writable and self._state < _CLOSING:
            self._receiver.on_full()

    def _report_drained(self) -> None:
        if self.writable and self._state < _CLOSING:
            self._receiver.on_drained()
            self._go_on_reading()

    # The end -------------------------------------------------------------------------------

    def _finish(self) -> None:
        """End a connection that the client has closed, once its earlier messages are delivered."""
        ws = self._websocket()
        by_close_frame = ws.close_rcvd is not None and ws.parser_exc is None
        if self._state >= _CLOSING or not by_close_frame:
            self._flush()
            self._end()
        else:
            self._report_remote_close()

    def _report_remote_close(self) -> None:
        if self._state is ConnectionState.OPEN:
            self._state = ConnectionState.REMOTE_CLOSED
            self._receiver.on_remote_close()

    def _uncork(self) -> None:
        """Write the answers to one read of the socket in one piece."""
        corked, self._corked = self._corked, None
        self._corked_bytes = 0
        if corked and not self._transport.is_closing():
            self._transport.write(corked[0] if len(corked) == 1 else b"".join(corked))

    def _flush(self) -> None:
        waiting = self._ws.data_to_send() if self._ws is not None else ()
        if waiting:
            self._uncork()
        for data in waiting:
            if self._transport.is_closing():
                return
            if data:
                self._transport.write(data)
            elif self._transport.can_write_eof():
                # Not close(): with unread bytes close() sends a reset, which overtakes the Close
                # frame.
                self._transport.write_eof()
            else:
                self._transport.close()

    def _end(self) -> None:
        """Stop writing, and give the client a bounded time to close the connection."""
        if self._state >= _CLOSING:
            return
        self._state = ConnectionState.CLOSING
        self._inbox.clear()
        if self._extensions:
            self._websocket().extensions = [_Undecoded()]
        self._deadline = self._loop.call_later(self._close_timeout, self._transport.abort)
        if not self._transport.is_closing():
            self._transport.resume_reading()
