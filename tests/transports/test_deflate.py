"""Compression: which offers are taken, and that one compressed frame serves every client."""

import random
import zlib
from typing import Any

import pytest
from websockets.exceptions import PayloadTooBig
from websockets.frames import Frame, Opcode

from chat_server.protocol.codecs import JSON, MSGPACK, Codec
from chat_server.transports.deflate import MIN_BYTES, negotiate_deflate
from chat_server.transports.direct import COMPRESSED_SLICE_BYTES, DirectTransport
from chat_server.transports.encoders import DEFLATE_ENCODERS
from tests.rig import rfc6455

from .doubles import FakeSocket, RecordingReceiver, turns

LONG = b'{"text":"%s"}' % (b"again and " * 100)


def inflate(data: bytes) -> bytes:
    return zlib.decompressobj(-15).decompress(data + b"\x00\x00\xff\xff")


@pytest.mark.parametrize(
    "offer",
    [
        "permessage-deflate",
        "permessage-deflate; client_max_window_bits",
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
        "permessage-deflate; server_max_window_bits=15",
        "x-unknown, permessage-deflate",
        "permessage-deflate; server_max_window_bits=10, permessage-deflate",
    ],
)
def test_takes_the_first_offer_that_it_can_serve(offer: str) -> None:
    accepted = negotiate_deflate([offer])
    assert accepted is not None
    answer, _ = accepted
    assert "server_no_context_takeover" in answer
    assert "client_no_context_takeover" in answer


@pytest.mark.parametrize(
    "offer",
    [
        "",
        "x-unknown",
        "permessage-deflate; server_max_window_bits=10",
        "permessage-deflate; nonsense",
        "permessage-deflate; server_max_window_bits=banana",
        "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
        ";;;",
    ],
)
def test_leaves_what_it_cannot_serve_uncompressed(offer: str) -> None:
    assert negotiate_deflate([offer]) is None


def test_leaves_clients_that_offer_nothing_uncompressed() -> None:
    assert negotiate_deflate([]) is None


@pytest.mark.parametrize("codec", [JSON, MSGPACK], ids=lambda codec: codec.subprotocol)
def test_compresses_long_messages_into_frames_that_stand_alone(codec: Codec) -> None:
    encoder = DEFLATE_ENCODERS[codec.subprotocol]
    packet = encoder.frame(LONG)
    opcode = Opcode.BINARY if codec is MSGPACK else Opcode.TEXT
    assert packet[0] == 0x80 | 0x40 | opcode
    assert len(packet) < 100
    assert packet == encoder.frame(LONG), "no context may be carried over"
    assert inflate(packet[2:]) == LONG


def test_leaves_short_and_incompressible_messages_as_they_are() -> None:
    encoder = DEFLATE_ENCODERS[JSON.subprotocol]
    assert encoder.frame(b"short") == b"\x81\x05short"
    noise = random.Random(1).randbytes(MIN_BYTES * 2)
    packet = encoder.frame(noise)
    assert packet[0] == 0x81
    assert packet.endswith(noise)


def test_bounds_what_a_small_frame_may_become() -> None:
    accepted = negotiate_deflate(["permessage-deflate"])
    assert accepted is not None
    _, extension = accepted
    bomb = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = bomb.compress(b"0" * 10_000_000) + bomb.flush(zlib.Z_SYNC_FLUSH)
    with pytest.raises(PayloadTooBig):
        extension.decode(Frame(Opcode.TEXT, data[:-4], rsv1=True), max_size=65_536)


async def test_what_comes_after_our_close_is_not_inflated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor more than a little of what came with the message that closed the connection."""
    accepted = negotiate_deflate(["permessage-deflate"])
    assert accepted is not None
    extension = accepted[1]
    inflated: list[int] = []
    decode = extension.decode

    def counting(frame: Frame, **options: Any) -> Frame:
        decoded = decode(frame, **options)
        inflated.append(len(decoded.data))
        return decoded

    monkeypatch.setattr(extension, "decode", counting)
    socket, receiver = FakeSocket(), RecordingReceiver()
    transport = DirectTransport(
        socket,
        DEFLATE_ENCODERS[JSON.subprotocol],
        max_message_bytes=65_536,
        slow_buffer_bytes=1_000_000,
        close_timeout_seconds=60,
        extensions=[extension],
    )
    transport.serve(receiver, lambda: None)
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = (deflate.compress(bytes(65_536)) + deflate.flush(zlib.Z_SYNC_FLUSH))[:-4]
    message = rfc6455.frame(rfc6455.TEXT, bomb, rsv=4)
    receiver.react = lambda event: transport.close(1008, "") if event != "closed" else None
    transport.data_received(message * 200)
    assert 1 <= len(inflated) <= COMPRESSED_SLICE_BYTES // len(message) + 1
    before = len(inflated)
    transport.data_received(message * 200)
    assert len(inflated) == before
    # The client's own close is still found.
    transport.data_received(rfc6455.closing(1000))
    await turns()
    assert socket.ended
    socket.lose()
