"""The fast lane: who reads when, and what a full buffer does."""

import struct

import pytest

from chat_server.protocol.codecs import JSON
from chat_server.transports.direct import (
    CORK_BYTES,
    LARGE_READ_BYTES,
    MAX_FRAMES_AFTER_CLOSE,
    SLICE_BYTES,
)
from chat_server.transports.encoders import DirectEncoder
from tests.rig import rfc6455
from tests.rig.rfc6455 import frame, text

from .doubles import turns
from .lane import SLOW_BUFFER, Lane, end


@pytest.fixture
async def lane() -> Lane:
    return Lane()


async def test_takes_nothing_while_paused_and_everything_in_order_later(lane: Lane) -> None:
    def pause(_: object) -> None:
        lane.transport.pause()

    lane.receiver.react = pause
    lane.feed(*(frame(rfc6455.TEXT, b"%d" % n) for n in range(5)))
    assert lane.receiver.payloads == [b"0"]
    assert not lane.socket.reading
    for taken in range(2, 6):
        lane.transport.resume()
        assert len(lane.receiver.payloads) == taken - 1, "resume must return before it tells"
        await turns()
        assert len(lane.receiver.payloads) == taken
    assert lane.receiver.payloads == [b"0", b"1", b"2", b"3", b"4"]
    lane.transport.resume()
    await turns()
    assert lane.socket.reading


async def test_what_was_read_before_the_reading_stopped_is_handed_over(lane: Lane) -> None:
    ends: list[list[bytes]] = []
    lane.receiver.hang_up = lambda: ends.append(lane.receiver.payloads)
    lane.receiver.react = lambda _: lane.transport.pause()
    lane.feed(*(frame(rfc6455.TEXT, b"%d" % n) for n in range(3)))
    lane.transport.stop_reading()
    await turns()
    for _ in range(2):
        assert not ends
        lane.transport.resume()
        await turns()
    assert not lane.socket.reading
    assert ends == [[b"0", b"1", b"2"]]


async def test_pings_are_answered_at_once_even_behind_messages_that_wait(lane: Lane) -> None:
    lane.transport.pause()
    lane.feed(frame(rfc6455.TEXT, b"1"), frame(rfc6455.PING, b"hello"))
    assert lane.frames() == [(10, b"hello")]
    lane.feed(frame(rfc6455.PING, b"again"))
    assert lane.frames() == [(10, b"hello"), (10, b"again")]
    assert lane.receiver.payloads == []


async def test_the_clients_close_is_answered_once_all_it_said_is_done(lane: Lane) -> None:
    close = (1000).to_bytes(2, "big")
    lane.receiver.hang_up = lambda: None
    lane.feed(frame(rfc6455.TEXT, b"1"), frame(rfc6455.CLOSE, close))
    lane.transport.ping()
    assert lane.frames() == [], "not while something is undone"
    assert lane.transport.eof_received() is True, "nor when it has shut its side down"
    lane.transport.write(DirectEncoder(JSON).frame(b"done"))
    lane.transport.close(1000, "")
    assert lane.frames() == [(1, b"done"), (8, close)]


async def test_a_close_amid_a_fragmented_message_is_a_close(lane: Lane) -> None:
    close = frame(rfc6455.CLOSE, (1000).to_bytes(2, "big"))
    lane.feed(frame(rfc6455.TEXT, b"begin", fin=False), close)
    assert lane.frames() == [(8, (1000).to_bytes(2, "big"))]


async def test_a_buffer_that_fills_amid_a_read_holds_up_the_rest_of_it(lane: Lane) -> None:
    def answer(event: object) -> None:
        if event != "full":
            lane.transport.write(b"x" * (CORK_BYTES + 1))

    lane.receiver.react = answer
    lane.feed(*(frame(rfc6455.TEXT, b"%d" % n) for n in range(4)))
    assert lane.receiver.payloads == [b"0"]
    assert not lane.socket.reading
    await turns()
    assert lane.told[1:] == ["full"]
    lane.receiver.react = lambda _: None
    lane.socket.drain()
    await turns()
    assert lane.receiver.payloads == [b"0", b"1", b"2", b"3"]
    assert lane.socket.reading


async def test_closing_amid_a_read_drops_the_rest_of_it(lane: Lane) -> None:
    def close(event: object) -> None:
        if event == (b"1", False):
            lane.transport.close(4400, "")

    lane.receiver.react = close
    lane.feed(*(frame(rfc6455.TEXT, b"%d" % n) for n in range(4)))
    assert lane.receiver.payloads == [b"0", b"1"]
    assert lane.frames() == [(8, struct.pack("!H", 4400))]
    await end(lane)


async def test_a_read_full_of_tiny_messages_is_taken_as_the_receiver_can(lane: Lane) -> None:
    """As much as a loop reads at once, in the smallest messages there are."""
    count = 262_144 // 7
    lane.receiver.react = lambda _: lane.transport.pause()
    lane.feed(frame(rfc6455.TEXT, b"x") * count)
    taken = 0
    while (now := len(lane.receiver.payloads)) < count:
        assert now == taken + 1
        taken = now
        if taken == 1_000:
            lane.receiver.react = lambda _: None
            taken = count - 1
        lane.transport.resume()
        await turns(2)
    assert lane.socket.reading


async def test_closing_while_it_takes_what_waited_drops_the_rest(lane: Lane) -> None:
    lane.transport.pause()
    lane.feed(frame(rfc6455.TEXT, b"1"), frame(rfc6455.TEXT, b"2"), frame(rfc6455.TEXT, b"3"))

    def close(event: object) -> None:
        if event == (b"2", False):
            lane.transport.close(4400, "")

    lane.receiver.react = close
    lane.transport.resume()
    await turns()
    assert lane.receiver.payloads == [b"1", b"2"]
    assert lane.close_codes() == [4400]
    await end(lane)


async def test_tells_of_a_full_buffer_once_and_reads_nothing_meanwhile(lane: Lane) -> None:
    lane.transport.write(b"x" * (SLOW_BUFFER + 1))
    lane.transport.write(b"x" * SLOW_BUFFER)
    writable = [lane.transport.writable]
    assert not lane.told, "told from within write()"
    await turns()
    assert lane.told == ["full"]
    assert not lane.socket.reading
    lane.socket.drain()
    writable.append(lane.transport.writable)
    assert writable == [False, True]
    await turns()
    assert lane.told == ["full", "drained"]
    assert lane.socket.reading


async def test_that_it_drained_is_told_even_if_it_was_full_for_a_moment_only(lane: Lane) -> None:
    """uvloop may write everything before the loop's next turn; who saw `writable` waits for it."""
    lane.transport.write(b"x" * (SLOW_BUFFER + 1))
    assert not lane.transport.writable
    lane.socket.drain()
    await turns()
    assert lane.told == ["drained"]


async def test_the_last_that_is_told_is_how_it_stands(lane: Lane) -> None:
    for _ in range(3):
        lane.transport.write(b"x" * (SLOW_BUFFER + 1))
        lane.socket.drain()
    lane.transport.write(b"x" * (SLOW_BUFFER + 1))
    await turns()
    assert set(lane.told) == {"full"}
    lane.told.clear()
    lane.socket.drain()
    lane.transport.write(b"x" * (SLOW_BUFFER + 1))
    lane.socket.drain()
    await turns()
    assert set(lane.told) == {"drained"}


async def test_others_have_a_turn_after_a_large_read(lane: Lane) -> None:
    lane.transport.data_received(frame(rfc6455.PONG) * (LARGE_READ_BYTES // 6 + 1))
    assert not lane.socket.reading
    await turns()
    assert lane.socket.reading


async def test_a_large_read_does_not_resume_a_paused_session(lane: Lane) -> None:
    lane.receiver.react = lambda _: lane.transport.pause()
    lane.transport.data_received(text("x") + frame(rfc6455.PONG) * (LARGE_READ_BYTES // 6 + 1))
    await turns()
    assert not lane.socket.reading
    lane.transport.resume()
    await turns()
    assert lane.socket.reading


async def test_little_is_looked_at_once_it_has_closed(lane: Lane) -> None:
    pong = frame(rfc6455.PONG)
    lane.feed(pong)
    lane.transport.close(4429, "too many")
    lane.told.clear()
    for _ in range(10):
        lane.feed(pong * 20_000)
    assert len(lane.told) <= MAX_FRAMES_AFTER_CLOSE + SLICE_BYTES // len(pong)
    await end(lane)


async def test_a_close_amid_a_flood_takes_effect_at_once(lane: Lane) -> None:
    lane.receiver.react = lambda _: lane.transport.close(4429, "too many")
    lane.feed(frame(rfc6455.PONG) * 40_000)
    assert len(lane.told) <= MAX_FRAMES_AFTER_CLOSE + 2 * SLICE_BYTES // 6
    assert lane.close_codes() == [4429]
    await end(lane)


async def test_a_drained_buffer_does_not_resume_a_paused_session(lane: Lane) -> None:
    lane.transport.pause()
    lane.transport.write(b"x" * (SLOW_BUFFER + 1))
    await turns()
    lane.socket.drain()
    await turns()
    assert not lane.socket.reading
    lane.transport.resume()
    await turns()
    assert lane.socket.reading


async def test_a_resumed_session_does_not_read_into_a_full_buffer(lane: Lane) -> None:
    lane.transport.pause()
    lane.transport.write(b"x" * (SLOW_BUFFER + 1))
    lane.transport.resume()
    await turns()
    assert not lane.socket.reading
    lane.socket.drain()
    await turns()
    assert lane.socket.reading
