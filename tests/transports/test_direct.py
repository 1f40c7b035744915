"""The fast lane, byte by byte: frames and the end of a connection."""

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
from .lane import MAX_MESSAGE, SLOW_BUFFER, Lane, end


@pytest.fixture
async def lane() -> Lane:
    return Lane()


# Writing -------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536, 100_000])
@pytest.mark.parametrize(("codec", "opcode"), [(JSON, Opcode.TEXT), (MSGPACK, Opcode.BINARY)])
def test_packs_frames_as_the_library_does(size: int, codec: object, opcode: Opcode) -> None:
    encoder = DirectEncoder(JSON if codec is JSON else MSGPACK)
    payload = b"x" * size
    assert encoder.frame(payload) == Frame(opcode, payload).serialize(mask=False)


async def test_writes_nothing_behind_its_close_frame(lane: Lane) -> None:
    lane.transport.write(b"one")
    lane.transport.close(1000, "")
    written = bytes(lane.socket.written)
    lane.transport.write(b"two")
    lane.transport.ping()
    lane.transport.close(1011, "again")
    assert bytes(lane.socket.written) == written
    await end(lane)


async def test_a_long_reason_is_cut_to_what_a_close_frame_holds(lane: Lane) -> None:
    lane.transport.close(4401, "ü" * 200)
    [(opcode, payload)] = lane.frames()
    assert opcode == 8
    assert len(payload) <= 125
    assert payload[2:].decode() == "ü" * 61
    await end(lane)


# Reading -------------------------------------------------------------------------------------


async def test_takes_fragments_with_control_frames_between_them(lane: Lane) -> None:
    lane.feed(
        frame(rfc6455.TEXT, b"a", fin=False),
        frame(rfc6455.PING, b"hello"),
        frame(rfc6455.CONT, b"b", fin=False),
        frame(rfc6455.PONG),
        frame(rfc6455.CONT, b"c"),
        frame(rfc6455.BINARY, b"d"),
    )
    # Fragments as small as these are told of as well.
    assert lane.told == ["sign of life"] * 4 + [(b"abc", False), (b"d", True)]
    assert lane.frames() == [(10, b"hello")]


async def test_empty_messages_are_messages(lane: Lane) -> None:
    lane.feed(
        frame(rfc6455.TEXT),
        frame(rfc6455.BINARY),
        frame(rfc6455.TEXT, fin=False),
        frame(rfc6455.CONT),
    )
    assert lane.receiver.payloads == [b"", b"", b""]


async def test_text_may_be_split_within_a_character(lane: Lane) -> None:
    euro = "€".encode()
    lane.feed(frame(rfc6455.TEXT, euro[:1], fin=False), frame(rfc6455.CONT, euro[1:]))
    assert lane.receiver.payloads == [euro]


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
    lane: Lane, sent: bytes, code: int, paused: bool
) -> None:
    def pause_shortly(_: object) -> None:
        lane.transport.pause()
        asyncio.get_running_loop().call_soon(lane.transport.resume)

    if paused:
        lane.receiver.react = pause_shortly
    lane.feed(
        frame(rfc6455.TEXT, b"one"), frame(rfc6455.TEXT, b"two"), sent, frame(rfc6455.TEXT, b"no")
    )
    await turns(10)
    assert lane.receiver.payloads == [b"one", b"two"]
    assert lane.close_codes() == [code]
    assert lane.socket.ended
    await end(lane)
    assert lane.told[-1] == "closed"


async def test_a_million_empty_fragments_cost_nothing(lane: Lane) -> None:
    lane.feed(frame(rfc6455.TEXT, fin=False))
    many = frame(rfc6455.CONT, fin=False) * 10_000
    for _ in range(3):
        lane.feed(many)
    assert lane.told == ["sign of life"] * 30_001, "each is to be counted, since it takes time"
    lane.feed(frame(rfc6455.CONT, b"x"))
    assert lane.receiver.payloads == [b"x"]


async def test_fragments_of_a_useful_size_are_not_counted(lane: Lane) -> None:
    part = b"x" * 126
    lane.feed(frame(rfc6455.TEXT, part, fin=False), frame(rfc6455.CONT, part, fin=False))
    lane.feed(frame(rfc6455.CONT, b"x"))
    assert lane.told == [(part * 2 + b"x", False)]


# The end -------------------------------------------------------------------------------------


@pytest.mark.parametrize("tls", [False, True])
async def test_answers_the_clients_close_after_all_that_came_before(tls: bool) -> None:
    lane = Lane(tls=tls)

    def answer(event: object) -> None:
        if isinstance(event, tuple):
            lane.transport.write(b"\x81\x01" + event[0])

    lane.receiver.react = answer
    lane.feed(frame(rfc6455.TEXT, b"1"), frame(rfc6455.TEXT, b"2"), rfc6455.closing(1000, "bye"))
    assert lane.frames() == [(1, b"1"), (1, b"2"), (8, struct.pack("!H", 1000) + b"bye")]
    assert lane.socket.is_closing() if tls else lane.socket.ended
    await end(lane)


async def test_a_pause_delays_the_answer_to_the_clients_close(lane: Lane) -> None:
    lane.receiver.react = lambda _: lane.transport.pause()
    lane.feed(frame(rfc6455.TEXT, b"1"), frame(rfc6455.TEXT, b"2"), rfc6455.closing())
    assert lane.frames() == []
    lane.receiver.react = lambda _: None
    lane.transport.resume()
    await turns()
    assert lane.receiver.payloads == [b"1", b"2"]
    assert lane.close_codes() == [1000]
    await end(lane)


async def test_messages_behind_a_close_frame_are_not_taken(lane: Lane) -> None:
    lane.feed(frame(rfc6455.TEXT, b"1"), rfc6455.closing(), frame(rfc6455.TEXT, b"2"), b"\xff" * 50)
    assert lane.receiver.payloads == [b"1"]
    assert lane.close_codes() == [1000]
    await end(lane)


async def test_messages_that_wait_are_dropped_when_the_server_closes(lane: Lane) -> None:
    def close(_: object) -> None:
        lane.transport.close(4400, "enough")

    lane.receiver.react = close
    lane.feed(frame(rfc6455.TEXT, b"1"), frame(rfc6455.TEXT, b"2"))
    assert lane.receiver.payloads == [b"1"]
    assert lane.frames() == [(8, struct.pack("!H", 4400) + b"enough")]
    lane.receiver.react = lambda _: None
    await end(lane)


async def test_the_server_closing_while_the_clients_close_waits_answers_that(lane: Lane) -> None:
    lane.transport.pause()
    lane.feed(frame(rfc6455.TEXT, b"1"), rfc6455.closing(1001))
    lane.transport.close(1012, "the server restarts")
    assert lane.close_codes() == [1001]
    await end(lane)


async def test_aborts_a_client_that_does_not_answer_the_close() -> None:
    lane = Lane(close_timeout=0.01)
    lane.transport.close(1012, "")
    assert lane.socket.reading, "the answer must be read"
    await until(lambda: "closed" in lane.told)
    assert lane.socket.aborted


async def test_reads_on_to_the_clients_answer_even_when_paused_or_full(lane: Lane) -> None:
    lane.transport.pause()
    lane.transport.write(b"x" * (SLOW_BUFFER + 1))
    lane.transport.close(4490, "the client reads too slowly")
    assert lane.socket.reading
    lane.socket.drain()
    await turns()
    assert lane.told == [], "nothing of this matters any more"
    await end(lane)


@pytest.mark.parametrize("when", ["idle", "paused", "full", "closing"])
async def test_the_end_of_the_connection_comes_once_in_any_state(lane: Lane, when: str) -> None:
    if when == "paused":
        lane.transport.pause()
        lane.feed(frame(rfc6455.TEXT, b"1"), frame(rfc6455.TEXT, b"2"))
    elif when == "full":
        lane.transport.write(b"x" * (SLOW_BUFFER + 1))
        await turns()
    elif when == "closing":
        lane.transport.close(1000, "")
    lane.socket.lose()
    lane.transport.resume()
    lane.transport.write(b"x")
    lane.transport.ping()
    lane.transport.close(1000, "")
    lane.transport.abort()
    await turns()
    assert lane.told.count("closed") == 1
    assert lane.told[-1] == "closed"


async def test_pausing_after_the_end_does_no_harm(lane: Lane) -> None:
    lane.socket.lose()
    lane.transport.pause()
    lane.transport.resume()
    await turns()
    assert lane.told == ["closed"]


@pytest.mark.parametrize("close_first", [False, True])
async def test_the_end_of_the_clients_stream_ends_the_connection(
    lane: Lane, close_first: bool
) -> None:
    lane.feed(frame(rfc6455.TEXT, b"1"), rfc6455.closing() if close_first else b"")
    lane.transport.eof_received()
    assert lane.receiver.payloads == [b"1"]
    assert lane.close_codes() == ([1000] if close_first else [])
    await end(lane)
