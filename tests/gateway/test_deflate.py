"""Compression: which offers are taken, and that one compressed frame serves every client."""

import random
import zlib

import pytest
from websockets.exceptions import PayloadTooBig
from websockets.frames import Frame, Opcode

from chat_server.gateway.deflate import DEFLATE_WIRES, MIN_BYTES, negotiate_deflate
from chat_server.protocol.codecs import JSON, MSGPACK, Codec

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
    wire = DEFLATE_WIRES[codec.subprotocol]
    packet = wire.pack(LONG)
    opcode = Opcode.BINARY if codec is MSGPACK else Opcode.TEXT
    assert packet[0] == 0x80 | 0x40 | opcode
    assert len(packet) < 100
    assert packet == wire.pack(LONG), "no context may be carried over"
    assert inflate(packet[2:]) == LONG


def test_leaves_short_and_incompressible_messages_as_they_are() -> None:
    wire = DEFLATE_WIRES[JSON.subprotocol]
    assert wire.pack(b"short") == b"\x81\x05short"
    noise = random.Random(1).randbytes(MIN_BYTES * 2)
    packet = wire.pack(noise)
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
