"""The encoders of both transports: a push becomes a packet once, for all subscribers.

An encoder for another wire format needs only the three methods; see `realtime.ports.Encoder`.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from websockets.frames import Opcode

from ..protocol.codecs import CODECS, Codec
from ..protocol.messages import Ok, ServerMessage
from ..realtime.encoding import encode_push
from ..realtime.ports import Push, Transport
from .deflate import compressed_frame
from .frames import FINAL, frame


class AsgiEncoder:
    """Makes a packet of a bare message, which the ASGI server frames."""

    def __init__(self, codec: Codec) -> None:
        self.codec = codec

    def encode(self, push: Push) -> bytes | None:
        """See `ports.Encoder`."""
        return encode_push(self.codec, push)

    def encode_message(self, message: ServerMessage) -> bytes:
        """See `ports.Encoder`."""
        return self.codec.encode(message)

    def encode_ok(self, id: int, ok: Ok) -> bytes:
        """See `ports.Encoder`."""
        return self.codec.encode_ok(id, ok)

    def write(self, transports: Iterable[Transport], packets: Sequence[bytes]) -> None:
        """See `ports.Encoder`: ASGI sends one message at a time."""
        for transport in transports:
            for packet in packets:
                transport.write(packet)


class DirectEncoder:
    """Makes a packet of a whole WebSocket frame.

    Args:
        codec: the encoding of the messages.
        frame: makes a frame from a first byte and a payload.
    """

    def __init__(self, codec: Codec, frame: Callable[[int, bytes], bytes] = frame) -> None:
        self.codec = codec
        first = FINAL | (Opcode.BINARY if codec.binary else Opcode.TEXT)
        self.frame: Callable[[bytes], bytes] = partial(frame, first)

    def encode(self, push: Push) -> bytes | None:
        """See `ports.Encoder`."""
        payload = encode_push(self.codec, push)
        return None if payload is None else self.frame(payload)

    def encode_message(self, message: ServerMessage) -> bytes:
        """See `ports.Encoder`."""
        return self.frame(self.codec.encode(message))

    def encode_ok(self, id: int, ok: Ok) -> bytes:
        """See `ports.Encoder`."""
        return self.frame(self.codec.encode_ok(id, ok))

    def write(self, transports: Iterable[Transport], packets: Sequence[bytes]) -> None:
        """See `ports.Encoder`: frames may follow one another in one write."""
        packet = b"".join(packets)
        for transport in transports:
            transport.write(packet)


ASGI_ENCODERS = {name: AsgiEncoder(codec) for name, codec in CODECS.items()}
DIRECT_ENCODERS = {name: DirectEncoder(codec) for name, codec in CODECS.items()}
DEFLATE_ENCODERS = {name: DirectEncoder(codec, compressed_frame) for name, codec in CODECS.items()}
"""Encoders for clients that have negotiated permessage-deflate."""
