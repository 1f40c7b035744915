"""The fast lane: a connection that is an `asyncio.Protocol` over websockets' sans-I/O one.

No task, queue or stream belongs to it. What is written goes straight to the socket's transport,
whose own buffer is bounded by `slow_buffer_bytes`.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace

from websockets.extensions import Extension
from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import SERVER, State
from websockets.protocol import Protocol as WebSocketProtocol
from websockets.typing import ExtensionName

from ..protocol.close_codes import fit_reason
from ..protocol.codecs import CODECS, Codec
from ..realtime.ports import Encoder, Receiver
from .frames import FINAL, frame, whole_message


class DirectEncoder:
    """Packs a message into a whole WebSocket frame, RFC 6455 section 5.2."""

    def __init__(self, codec: Codec) -> None:
        self.codec = codec
        self._first = FINAL | (Opcode.BINARY if codec.binary else Opcode.TEXT)

    def pack(self, payload: bytes) -> bytes:
        """Return the one unmasked frame that carries `payload`."""
        return frame(self._first, payload)

    def join(self, packets: list[bytes]) -> list[bytes]:
        """Return one packet: frames may follow one another in the same bytes."""
        return [b"".join(packets)]


CORK_BYTES = 16_384
"""Answers that are gathered at most before they are written."""

SLICE_BYTES = 16_384
"""What is parsed at a time: pings of six bytes, say, are counted before there are too many."""

COMPRESSED_SLICE_BYTES = 1_024
"""The same where messages are compressed: one of 80 bytes becomes 64 KiB."""

LARGE_READ_BYTES = 65_536
"""A read of that size is followed by a turn of everybody else."""

HEED_FRAMES = 1_000
"""So many are read after our own close, to find the client's; of a flood the rest is not parsed."""

TINY_BYTES = 126
"""Fragments shorter than this are counted: reading one costs as much as reading a message."""

_DATA = frozenset({Opcode.TEXT, Opcode.BINARY, Opcode.CONT})

DIRECT_ENCODERS: dict[str, Encoder] = {name: DirectEncoder(codec) for name, codec in CODECS.items()}


class _WebSocket(WebSocketProtocol):
    """websockets' protocol, which takes a close frame amid a fragmented message for an error.

    `between_messages` tells whether what comes next begins a message.
    """

    between_messages = True

    def receive_data(self, data: bytes | bytearray) -> None:
        self.between_messages = False
        super().receive_data(data)

    def recv_frame(self, frame: Frame) -> None:
        if frame.opcode is Opcode.CLOSE:
            # RFC 6455 lets control frames, this one too, come between fragments: section 5.4.
            self.current_size = None
        super().recv_frame(frame)
        at_end = self.current_size is None and not self.reader.buffer
        self.between_messages = at_end and self.state is State.OPEN


class _Undecoded(Extension):
    """Passes over what a client compressed: after our close nobody reads it."""

    name = ExtensionName("undecoded")

    def decode(self, frame: Frame, *, max_size: int | None = None) -> Frame:
        return replace(frame, rsv1=False)

    def encode(self, frame: Frame) -> Frame:
        return frame


class DirectTransport(asyncio.Protocol):
    """One WebSocket after its handshake; see `realtime.ports.Transport`.

    Args:
        transport: the socket's, whose handshake is done.
        encoder: makes the packets that `write` takes.
        max_message_bytes: the largest message taken; more closes with 1009.
        slow_buffer_bytes: bytes that may wait for a client that reads slowly.
        close_timeout_seconds: how long the client has to answer a close frame.
        extensions: as negotiated in the handshake.
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
        self._ws = _WebSocket(SERVER, state=State.OPEN, max_size=max_message_bytes)
        self._ws.extensions = extensions or []
        self._slice_bytes = COMPRESSED_SLICE_BYTES if extensions else SLICE_BYTES
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._receiver: Receiver
        self._corked: bytearray | None = None
        self._paused = False
        self._stopped = False
        self._full = False
        self._hung_up = False
        self._ended = False
        self._heed_frames = HEED_FRAMES
        self._lost = False
        self._inbox: list[tuple[bytes, bool]] = []
        self._message = bytearray()
        self._binary = False
        self._deadline: asyncio.TimerHandle | None = None

    def serve(self, receiver: Receiver, begin: Callable[[], None], upgrade: bytes = b"") -> None:
        """Tell `receiver` from now on of everything that comes.

        Args:
            receiver: what takes it.
            begin: called at once; what it writes leaves together with `upgrade`.
            upgrade: the answer to the handshake, if that is to be written yet.
        """
        self._receiver = receiver
        self._transport.set_write_buffer_limits(high=self._slow_buffer_bytes)
        self._transport.set_protocol(self)
        self._corked = bytearray(upgrade)
        begin()
        self._uncork()

    # Transport -----------------------------------------------------------------------------

    @property
    def writable(self) -> bool:
        """See `ports.Transport`."""
        return not self._full

    def write(self, packet: bytes) -> None:
        """See `ports.Transport`."""
        if self._ended:
            return
        if self._corked is None:
            self._transport.write(packet)
            return
        self._corked += packet
        if len(self._corked) > CORK_BYTES:
            self._uncork()

    def write_message(self, payload: bytes, *, binary: bool) -> None:
        """Write a text or a binary message, whatever kind the encoder makes."""
        self.write(frame(FINAL | (Opcode.BINARY if binary else Opcode.TEXT), payload))

    def ping(self) -> None:
        """See `ports.Transport`."""
        # A flush would give a waiting answer to the client's close frame away as well.
        if not self._ended and self._ws.state is State.OPEN:
            self._ws.send_ping(b"")
            self._flush()

    def pause(self) -> None:
        """See `ports.Transport`."""
        self._paused = True
        self._transport.pause_reading()

    def resume(self) -> None:
        """See `ports.Transport`."""
        # Not from here: the session may just be taking a message.
        self._paused = False
        self._loop.call_soon(self._go_on_reading)

    def stop_reading(self) -> None:
        """See `ports.Transport`."""
        self._stopped = True
        self._transport.pause_reading()
        self._loop.call_soon(self._go_on_reading)

    def close(self, code: int, reason: str) -> None:
        """See `ports.Transport`."""
        self._inbox.clear()
        if self._ws.state is State.OPEN:
            self._ws.send_close(code, fit_reason(reason))
        self._flush()
        self._end()

    def abort(self) -> None:
        """See `ports.Transport`."""
        self._ended = True
        self._transport.abort()

    # asyncio.Protocol ----------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Take bytes from the socket."""
        self._corked = bytearray()
        at = self._take_whole_messages(data) if self._ws.between_messages else 0
        while at < len(data) and self._heed_frames > 0:
            self._ws.receive_data(data[at : at + self._slice_bytes])
            self._handle_frames()
            at += self._slice_bytes
        self._uncork()
        if len(data) >= LARGE_READ_BYTES and not self._transport.is_closing():
            # uvloop reads on and on while there is something, and nobody else would have a turn.
            self._transport.pause_reading()
            self._loop.call_soon(self._read_on)

    def _read_on(self) -> None:
        held = self._paused or self._full or self._stopped
        if not (self._transport.is_closing() or (held and not self._ended)):
            self._transport.resume_reading()

    def eof_received(self) -> bool:
        """Take the end of the stream; return whether the transport must stay open to answer it."""
        self._ws.receive_eof()
        self._handle_frames()
        return self._hung_up and not self._ended and self._transport.can_write_eof()

    def pause_writing(self) -> None:
        """Note that what is buffered for the client has reached its bound."""
        self._full = True
        self._transport.pause_reading()
        self._loop.call_soon(self._report_full)

    def resume_writing(self) -> None:
        """Note that the client has read most of it."""
        self._full = False
        self._loop.call_soon(self._report_drained)

    def connection_lost(self, exc: Exception | None) -> None:
        """Take the end of the connection."""
        self._ended = self._lost = True
        self._inbox.clear()
        if self._deadline is not None:
            self._deadline.cancel()
        self._receiver.on_closed()
        # Taken apart: what refers to each other in a circle would need the garbage collector.
        del self._receiver
        self._ws.parser.close()
        self._ws.parser_exc = None

    def _take_whole_messages(self, data: bytes) -> int:
        """Take the messages at the start of `data` and return where something else begins."""
        at = 0
        while not self._ended:
            found = whole_message(data, at, self._max_message_bytes)
            if found is None:
                break
            payload, binary, at = found
            self._take_message(payload, binary)
        return at

    # Frames --------------------------------------------------------------------------------

    def _handle_frames(self) -> None:
        if self._ws.state is State.OPEN:
            self._flush()  # a pong overtakes the messages behind its ping
        events = self._ws.events_received()
        if self._ended:
            self._heed_frames -= len(events)
        for event in events:
            assert isinstance(event, Frame)  # noqa: S101 - the other events are of the handshake
            if event.opcode in _DATA:
                self._assemble(event)
            else:
                self._receiver.on_sign_of_life()
        if self._ws.state is State.OPEN:
            self._flush()
        elif not self._inbox:
            self._finish()

    def _assemble(self, part: Frame) -> None:
        if part.opcode is not Opcode.CONT:
            self._binary = part.opcode is Opcode.BINARY
            if part.fin:
                self._take_message(bytes(part.data), self._binary)
                return
        if not part.fin and len(part.data) < TINY_BYTES:
            self._receiver.on_sign_of_life()
        # Not a list of fragments: a million empty ones must not cost memory.
        self._message += part.data
        if part.fin:
            payload = bytes(self._message)
            self._message.clear()
            self._take_message(payload, self._binary)

    def _take_message(self, payload: bytes, binary: bool) -> None:
        if self._ended:
            return
        if self._paused or self._full or self._inbox:
            self._inbox.append((payload, binary))
        else:
            self._deliver(payload, binary)

    def _deliver(self, payload: bytes, binary: bool) -> None:
        if not binary and not payload.isascii():
            try:
                payload.decode()
            except UnicodeDecodeError as error:
                self._ws.fail(CloseCode.INVALID_DATA, f"{error.reason} at byte {error.start}")
                self._flush()
                self._end()
                return
        self._receiver.on_message(payload, binary=binary)

    def _go_on_reading(self) -> None:
        taken = 0
        self._corked = bytearray()
        for payload, binary in self._inbox:
            if self._paused or self._full:
                break
            taken += 1
            self._deliver(payload, binary)
        del self._inbox[:taken]
        self._uncork()
        if self._lost:
            return
        if self._stopped and not self._inbox:
            self._hang_up()
        elif not (self._paused or self._full):
            if self._ws.state is not State.OPEN:
                self._finish()
                return
            self._flush()
            if not self._transport.is_closing():
                self._transport.resume_reading()

    # The buffer may change more than once before these run. That it drained is told in any case: a
    # replay has stopped when it saw the buffer full, whether or not that was told.

    def _report_full(self) -> None:
        if self._full and not self._ended:
            self._receiver.on_full()

    def _report_drained(self) -> None:
        if not (self._full or self._ended):
            self._receiver.on_drained()
            self._go_on_reading()

    # The end -------------------------------------------------------------------------------

    def _finish(self) -> None:
        """End what the client has ended, once all that it said before is done."""
        by_close_frame = self._ws.close_rcvd is not None and self._ws.parser_exc is None
        if self._ended or not by_close_frame:
            self._flush()
            self._end()
        else:
            self._hang_up()

    def _hang_up(self) -> None:
        if not (self._hung_up or self._ended):
            self._hung_up = True
            self._receiver.on_hang_up()

    def _uncork(self) -> None:
        """Write the answers to what came in one piece, in one piece."""
        corked, self._corked = self._corked, None
        if corked and not self._transport.is_closing():
            self._transport.write(corked)

    def _flush(self) -> None:
        waiting = self._ws.data_to_send()
        if waiting:
            self._uncork()
        for data in waiting:
            if self._transport.is_closing():
                return
            if data:
                self._transport.write(data)
            elif self._transport.can_write_eof():
                # Not close(): unread bytes would turn into a reset that overtakes the close frame.
                self._transport.write_eof()
            else:
                self._transport.close()

    def _end(self) -> None:
        """Write nothing more, and give the client a bounded time to hang up."""
        if self._ended:
            return
        self._ended = True
        self._inbox.clear()
        if self._ws.extensions:
            self._ws.extensions = [_Undecoded()]
        self._deadline = self._loop.call_later(self._close_timeout, self._transport.abort)
        if not self._transport.is_closing():
            self._transport.resume_reading()
