"""The direct transport, byte by byte: frames and the end of a connection."""

import asyncio
import struct

import pytest
from websockets.frames import Frame, Opcode

from chat_server.protocol.codecs import JSON, MSGPACK
from chat_server.transports.encoders import DirectEncoder
from tests.rig import rfc6455
from tests.rig.rfc6455 import frame
from tests.rig.waiting import until

from .doubles import turns
from .harness import MAX_MESSAGE, SLOW_BUFFER, Harness, end


@pytest.fixture
async def harness() -> Harness:
    return Harness()


# Writing -------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536, 100_000])
@pytest.mark.parametrize(("codec", "opcode"), [(JSON, Opcode.TEXT), (MSGPACK, Opcode.BINARY)])
def test_packs_frames_as_the_library_does(size: int, codec: object, opcode: Opcode) -> None:
    encoder = DirectEncoder(JSON if codec is JSON else MSGPACK)
    payload = b"x" * size
    assert encoder.frame(payload) == Frame(opcode, payload).serialize(mask=False)


async def test_writes_nothing_behind_its_close_frame(harness: Harness) -> None:
    harness.transport.write(b"one")
    harness.transport.close(1000, "")
    written = bytes(harness.socket.written)
    harness.transport.write(b"two")
    harness.transport.ping()
    harness.transport.close(1011, "again")
    assert bytes(harness.socket.written) == written
    await end(harness)


async def test_a_long_reason_is_cut_to_what_a_close_frame_holds(harness: Harness) -> None:
    harness.transport.close(4401, "ü" * 200)
    [(opcode, payload)] = harness.frames()
    assert opcode == 8
    assert len(payload) <= 125
    assert payload[2:].decode() == "ü" * 61
    await end(harness)


# Reading -------------------------------------------------------------------------------------


async def test_takes_fragments_with_control_frames_between_them(harness: Harness) -> None:
    harness.feed(
        frame(rfc6455.TEXT, b"a", fin=False),
        frame(rfc6455.PING, b"hello"),
        frame(rfc6455.CONT, b"b", fin=False),
        frame(rfc6455.PONG),
        frame(rfc6455.CONT, b"c"),
        frame(rfc6455.BINARY, b"d"),
    )
    # Fragments as small as these are told of as well.
    assert harness.told == ["sign of life"] * 4 + [(b"abc", False), (b"d", True)]
    assert harness.frames() == [(10, b"hello")]


async def test_empty_messages_are_messages(harness: Harness) -> None:
    harness.feed(
        frame(rfc6455.TEXT),
        frame(rfc6455.BINARY),
        frame(rfc6455.TEXT, fin=False),
        frame(rfc6455.CONT),
    )
    assert harness.receiver.payloads == [b"", b"", b""]


async def test_text_may_be_split_within_a_character(harness: Harness) -> None:
    euro = "€".encode()
    harness.feed(frame(rfc6455.TEXT, euro[:1], fin=False), frame(rfc6455.CONT, euro[1:]))
    assert harness.receiver.payloads == [euro]


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frame(rfc6455.TEXT, b"\xff"), 1007),
        (frame(rfc6455.TEXT, b"\xed\xa0\x80"), 1007),
        (frame(rfc6455.TEXT, b"\xe2\x82", fin=False) + frame(rfc6455.CONT), 1007),
        (frame(rfc6455.TEXT, b"x" * (MAX_MESSAGE + 1)), 1009),
        (frame(rfc6455.TEXT, b"", length=2**40), 1009),
        (frame(rfc6455.TEXT, b"x" * MAX_MESSAGE, fin=False) + frame(rfc6455.CONT, b"x"), 1009),
        (frame(rfc6455.TEXT, b"x", mask=None), 1002),
        (frame(rfc6455.TEXT, b"x", rsv=4), 1002),
        (frame(3, b"x"), 1002),
        (frame(11), 1002),
        (frame(rfc6455.CONT, b"x"), 1002),
        (frame(rfc6455.TEXT, fin=False) + frame(rfc6455.TEXT), 1002),
        (frame(rfc6455.PING, fin=False), 1002),
        (frame(rfc6455.PING, b"x" * 126), 1002),
        (frame(rfc6455.CLOSE, b"x"), 1002),
        (frame(rfc6455.CLOSE, struct.pack("!H", 1005)), 1002),
        (frame(rfc6455.CLOSE, struct.pack("!H", 999)), 1002),
        (frame(rfc6455.CLOSE, struct.pack("!H", 1000) + b"\xff"), 1007),
    ],
)
@pytest.mark.parametrize("paused", [False, True])
async def test_what_breaks_the_rules_closes_after_what_did_not(
    harness: Harness, sent: bytes, code: int, paused: bool
) -> None:
    def pause_shortly(_: object) -> None:
        harness.transport.pause()
        asyncio.get_running_loop().call_soon(harness.transport.resume)

    if paused:
        harness.receiver.react = pause_shortly
    harness.feed(
        frame(rfc6455.TEXT, b"one"), frame(rfc6455.TEXT, b"two"), sent, frame(rfc6455.TEXT, b"no")
    )
    await turns(10)
    assert harness.receiver.payloads == [b"one", b"two"]
    assert harness.close_codes() == [code]
    assert harness.socket.ended
    await end(harness)
    assert harness.told[-1] == "closed"


async def test_a_million_empty_fragments_cost_nothing(harness: Harness) -> None:
    harness.feed(frame(rfc6455.TEXT, fin=False))
    many = frame(rfc6455.CONT, fin=False) * 10_000
    for _ in range(3):
        harness.feed(many)
    assert harness.told == ["sign of life"] * 30_001, "each is to be counted, since it takes time"
    harness.feed(frame(rfc6455.CONT, b"x"))
    assert harness.receiver.payloads == [b"x"]


async def test_fragments_of_a_useful_size_are_not_counted(harness: Harness) -> None:
    part = b"x" * 126
    harness.feed(frame(rfc6455.TEXT, part, fin=False), frame(rfc6455.CONT, part, fin=False))
    harness.feed(frame(rfc6455.CONT, b"x"))
    assert harness.told == [(part * 2 + b"x", False)]


# The end -------------------------------------------------------------------------------------


@pytest.mark.parametrize("tls", [False, True])
async def test_answers_the_clients_close_after_all_that_came_before(tls: bool) -> None:
    harness = Harness(tls=tls)

    def answer(event: object) -> None:
        if isinstance(event, tuple):
            harness.transport.write(b"\x81\x01" + event[0])

    harness.receiver.react = answer
    harness.feed(frame(rfc6455.TEXT, b"1"), frame(rfc6455.TEXT, b"2"), rfc6455.closing(1000, "bye"))
    assert harness.frames() == [(1, b"1"), (1, b"2"), (8, struct.pack("!H", 1000) + b"bye")]
    assert harness.socket.is_closing() if tls else harness.socket.ended
    await end(harness)


async def test_a_pause_delays_the_answer_to_the_clients_close(harness: Harness) -> None:
    harness.receiver.react = lambda _: harness.transport.pause()
    harness.feed(frame(rfc6455.TEXT, b"1"), frame(rfc6455.TEXT, b"2"), rfc6455.closing())
    assert harness.frames() == []
    harness.receiver.react = lambda _: None
    harness.transport.resume()
    await turns()
    assert harness.receiver.payloads == [b"1", b"2"]
    assert harness.close_codes() == [1000]
    await end(harness)


async def test_messages_behind_a_close_frame_are_not_taken(harness: Harness) -> None:
    harness.feed(
        frame(rfc6455.TEXT, b"1"), rfc6455.closing(), frame(rfc6455.TEXT, b"2"), b"\xff" * 50
    )
    assert harness.receiver.payloads == [b"1"]
    assert harness.close_codes() == [1000]
    await end(harness)


async def test_messages_that_wait_are_dropped_when_the_server_closes(harness: Harness) -> None:
    def close(_: object) -> None:
        harness.transport.close(4400, "enough")

    harness.receiver.react = close
    harness.feed(frame(rfc6455.TEXT, b"1"), frame(rfc6455.TEXT, b"2"))
    assert harness.receiver.payloads == [b"1"]
    assert harness.frames() == [(8, struct.pack("!H", 4400) + b"enough")]
    harness.receiver.react = lambda _: None
    await end(harness)


async def test_the_server_closing_while_the_clients_close_waits_answers_that(
    harness: Harness,
) -> None:
    harness.transport.pause()
    harness.feed(frame(rfc6455.TEXT, b"1"), rfc6455.closing(1001))
    harness.transport.close(1012, "the server restarts")
    assert harness.close_codes() == [1001]
    await end(harness)


async def test_aborts_a_client_that_does_not_answer_the_close() -> None:
    harness = Harness(close_timeout=0.01)
    harness.transport.close(1012, "")
    assert harness.socket.reading, "the answer must be read"
    await until(lambda: "closed" in harness.told)
    assert harness.socket.aborted


async def test_reads_on_to_the_clients_answer_even_when_paused_or_full(harness: Harness) -> None:
    harness.transport.pause()
    harness.transport.write(b"x" * (SLOW_BUFFER + 1))
    harness.transport.close(4490, "the client reads too slowly")
    assert harness.socket.reading
    harness.socket.drain()
    await turns()
    assert harness.told == [], "nothing of this matters any more"
    await end(harness)


@pytest.mark.parametrize("when", ["idle", "paused", "full", "closing"])
async def test_the_end_of_the_connection_comes_once_in_any_state(
    harness: Harness, when: str
) -> None:
    if when == "paused":
        harness.transport.pause()
        harness.feed(frame(rfc6455.TEXT, b"1"), frame(rfc6455.TEXT, b"2"))
    elif when == "full":
        harness.transport.write(b"x" * (SLOW_BUFFER + 1))
        await turns()
    elif when == "closing":
        harness.transport.close(1000, "")
    harness.socket.lose()
    harness.transport.resume()
    harness.transport.write(b"x")
    harness.transport.ping()
    harness.transport.close(1000, "")
    harness.transport.abort()
    await turns()
    assert harness.told.count("closed") == 1
    assert harness.told[-1] == "closed"


async def test_pausing_after_the_end_does_no_harm(harness: Harness) -> None:
    harness.socket.lose()
    harness.transport.pause()
    harness.transport.resume()
    await turns()
    assert harness.told == ["closed"]


@pytest.mark.parametrize("close_first", [False, True])
async def test_the_end_of_the_clients_stream_ends_the_connection(
    harness: Harness, close_first: bool
) -> None:
    harness.feed(frame(rfc6455.TEXT, b"1"), rfc6455.closing() if close_first else b"")
    harness.transport.eof_received()
    assert harness.receiver.payloads == [b"1"]
    assert harness.close_codes() == ([1000] if close_first else [])
    await end(harness)
