"""The direct transport: who reads when, and what a full buffer does."""

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
from .harness import SLOW_BUFFER, Harness, end


@pytest.fixture
async def harness() -> Harness:
    return Harness()


async def test_takes_nothing_while_paused_and_everything_in_order_later(harness: Harness) -> None:
    def pause(_: object) -> None:
        harness.transport.pause()

    harness.receiver.react = pause
    harness.feed(*(frame(rfc6455.TEXT, b"%d" % n) for n in range(5)))
    assert harness.receiver.payloads == [b"0"]
    assert not harness.socket.reading
    for taken in range(2, 6):
        harness.transport.resume()
        assert len(harness.receiver.payloads) == taken - 1, "resume must return before it tells"
        await turns()
        assert len(harness.receiver.payloads) == taken
    assert harness.receiver.payloads == [b"0", b"1", b"2", b"3", b"4"]
    harness.transport.resume()
    await turns()
    assert harness.socket.reading


async def test_what_was_read_before_the_reading_stopped_is_handed_over(harness: Harness) -> None:
    ends: list[list[bytes]] = []
    harness.receiver.remote_close = lambda: ends.append(harness.receiver.payloads)
    harness.receiver.react = lambda _: harness.transport.pause()
    harness.feed(*(frame(rfc6455.TEXT, b"%d" % n) for n in range(3)))
    harness.transport.stop_reading()
    await turns()
    for _ in range(2):
        assert not ends
        harness.transport.resume()
        await turns()
    assert not harness.socket.reading
    assert ends == [[b"0", b"1", b"2"]]


async def test_pings_are_answered_at_once_even_behind_messages_that_wait(harness: Harness) -> None:
    harness.transport.pause()
    harness.feed(frame(rfc6455.TEXT, b"1"), frame(rfc6455.PING, b"hello"))
    assert harness.frames() == [(10, b"hello")]
    harness.feed(frame(rfc6455.PING, b"again"))
    assert harness.frames() == [(10, b"hello"), (10, b"again")]
    assert harness.receiver.payloads == []


async def test_the_clients_close_is_answered_once_all_it_said_is_done(harness: Harness) -> None:
    close = (1000).to_bytes(2, "big")
    harness.receiver.remote_close = lambda: None
    harness.feed(frame(rfc6455.TEXT, b"1"), frame(rfc6455.CLOSE, close))
    harness.transport.ping()
    assert harness.frames() == [], "not while something is undone"
    assert harness.transport.eof_received() is True, "nor when it has shut its side down"
    harness.transport.write(DirectEncoder(JSON).frame(b"done"))
    harness.transport.close(1000, "")
    assert harness.frames() == [(1, b"done"), (8, close)]


async def test_a_close_amid_a_fragmented_message_is_a_close(harness: Harness) -> None:
    close = frame(rfc6455.CLOSE, (1000).to_bytes(2, "big"))
    harness.feed(frame(rfc6455.TEXT, b"begin", fin=False), close)
    assert harness.frames() == [(8, (1000).to_bytes(2, "big"))]


async def test_a_buffer_that_fills_amid_a_read_holds_up_the_rest_of_it(harness: Harness) -> None:
    def answer(event: object) -> None:
        if event != "full":
            harness.transport.write(b"x" * (CORK_BYTES + 1))

    harness.receiver.react = answer
    harness.feed(*(frame(rfc6455.TEXT, b"%d" % n) for n in range(4)))
    assert harness.receiver.payloads == [b"0"]
    assert not harness.socket.reading
    await turns()
    assert harness.told[1:] == ["full"]
    harness.receiver.react = lambda _: None
    harness.socket.drain()
    await turns()
    assert harness.receiver.payloads == [b"0", b"1", b"2", b"3"]
    assert harness.socket.reading


async def test_closing_amid_a_read_drops_the_rest_of_it(harness: Harness) -> None:
    def close(event: object) -> None:
        if event == (b"1", False):
            harness.transport.close(4400, "")

    harness.receiver.react = close
    harness.feed(*(frame(rfc6455.TEXT, b"%d" % n) for n in range(4)))
    assert harness.receiver.payloads == [b"0", b"1"]
    assert harness.frames() == [(8, struct.pack("!H", 4400))]
    await end(harness)


async def test_a_read_full_of_tiny_messages_is_taken_as_the_receiver_can(harness: Harness) -> None:
    """As much as a loop reads at once, in the smallest messages there are."""
    count = 262_144 // 7
    harness.receiver.react = lambda _: harness.transport.pause()
    harness.feed(frame(rfc6455.TEXT, b"x") * count)
    taken = 0
    while (now := len(harness.receiver.payloads)) < count:
        assert now == taken + 1
        taken = now
        if taken == 1_000:
            harness.receiver.react = lambda _: None
            taken = count - 1
        harness.transport.resume()
        await turns(2)
    assert harness.socket.reading


async def test_closing_while_it_takes_what_waited_drops_the_rest(harness: Harness) -> None:
    harness.transport.pause()
    harness.feed(frame(rfc6455.TEXT, b"1"), frame(rfc6455.TEXT, b"2"), frame(rfc6455.TEXT, b"3"))

    def close(event: object) -> None:
        if event == (b"2", False):
            harness.transport.close(4400, "")

    harness.receiver.react = close
    harness.transport.resume()
    await turns()
    assert harness.receiver.payloads == [b"1", b"2"]
    assert harness.close_codes() == [4400]
    await end(harness)


async def test_tells_of_a_full_buffer_once_and_reads_nothing_meanwhile(harness: Harness) -> None:
    harness.transport.write(b"x" * (SLOW_BUFFER + 1))
    harness.transport.write(b"x" * SLOW_BUFFER)
    writable = [harness.transport.writable]
    assert not harness.told, "told from within write()"
    await turns()
    assert harness.told == ["full"]
    assert not harness.socket.reading
    harness.socket.drain()
    writable.append(harness.transport.writable)
    assert writable == [False, True]
    await turns()
    assert harness.told == ["full", "drained"]
    assert harness.socket.reading


async def test_that_it_drained_is_told_even_if_it_was_full_for_a_moment_only(
    harness: Harness,
) -> None:
    """uvloop may write everything before the loop's next turn; who saw `writable` waits for it."""
    harness.transport.write(b"x" * (SLOW_BUFFER + 1))
    assert not harness.transport.writable
    harness.socket.drain()
    await turns()
    assert harness.told == ["drained"]


async def test_the_last_that_is_told_is_how_it_stands(harness: Harness) -> None:
    for _ in range(3):
        harness.transport.write(b"x" * (SLOW_BUFFER + 1))
        harness.socket.drain()
    harness.transport.write(b"x" * (SLOW_BUFFER + 1))
    await turns()
    assert set(harness.told) == {"full"}
    harness.told.clear()
    harness.socket.drain()
    harness.transport.write(b"x" * (SLOW_BUFFER + 1))
    harness.socket.drain()
    await turns()
    assert set(harness.told) == {"drained"}


async def test_others_have_a_turn_after_a_large_read(harness: Harness) -> None:
    harness.transport.data_received(frame(rfc6455.PONG) * (LARGE_READ_BYTES // 6 + 1))
    assert not harness.socket.reading
    await turns()
    assert harness.socket.reading


async def test_a_large_read_does_not_resume_a_paused_session(harness: Harness) -> None:
    harness.receiver.react = lambda _: harness.transport.pause()
    harness.transport.data_received(text("x") + frame(rfc6455.PONG) * (LARGE_READ_BYTES // 6 + 1))
    await turns()
    assert not harness.socket.reading
    harness.transport.resume()
    await turns()
    assert harness.socket.reading


async def test_little_is_looked_at_once_it_has_closed(harness: Harness) -> None:
    pong = frame(rfc6455.PONG)
    harness.feed(pong)
    harness.transport.close(4429, "too many")
    harness.told.clear()
    for _ in range(10):
        harness.feed(pong * 20_000)
    assert len(harness.told) <= MAX_FRAMES_AFTER_CLOSE + SLICE_BYTES // len(pong)
    await end(harness)


async def test_a_close_amid_a_flood_takes_effect_at_once(harness: Harness) -> None:
    harness.receiver.react = lambda _: harness.transport.close(4429, "too many")
    harness.feed(frame(rfc6455.PONG) * 40_000)
    assert len(harness.told) <= MAX_FRAMES_AFTER_CLOSE + 2 * SLICE_BYTES // 6
    assert harness.close_codes() == [4429]
    await end(harness)


async def test_a_drained_buffer_does_not_resume_a_paused_session(harness: Harness) -> None:
    harness.transport.pause()
    harness.transport.write(b"x" * (SLOW_BUFFER + 1))
    await turns()
    harness.socket.drain()
    await turns()
    assert not harness.socket.reading
    harness.transport.resume()
    await turns()
    assert harness.socket.reading


async def test_a_resumed_session_does_not_read_into_a_full_buffer(harness: Harness) -> None:
    harness.transport.pause()
    harness.transport.write(b"x" * (SLOW_BUFFER + 1))
    harness.transport.resume()
    await turns()
    assert not harness.socket.reading
    harness.socket.drain()
    await turns()
    assert harness.socket.reading
