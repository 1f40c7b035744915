"""The fast lane, byte by byte: frames, flow control and the end of a connection."""

import asyncio
import struct
from collections.abc import Iterator
from functools import partial

import pytest
from websockets.frames import Frame, Opcode

from chat_server.gateway.direct import (
    CORK_BYTES,
    DIRECT_WIRES,
    HEED_FRAMES,
    LARGE_READ_BYTES,
    SLICE_BYTES,
    DirectTransport,
    DirectWire,
)
from chat_server.protocol.codecs import JSON, MSGPACK
from tests.support import wire
from tests.support.wire import frame, text, until

from .doubles import FakeSocket, RecordingReceiver, turns

MAX_MESSAGE = 1000
SLOW_BUFFER = 10_000


class Lane:
    """A transport between a fake socket and a recording receiver."""

    def __init__(self, *, tls: bool = False, close_timeout: float = 60.0) -> None:
        self.socket = FakeSocket(tls=tls)
        self.receiver = RecordingReceiver()
        self.transport = DirectTransport(
            self.socket,
            DIRECT_WIRES[JSON.subprotocol],
            max_message_bytes=MAX_MESSAGE,
            slow_buffer_bytes=SLOW_BUFFER,
            close_timeout_seconds=close_timeout,
        )
        self.receiver.hang_up = partial(self.transport.close, 1000, "")
        self.transport.serve(self.receiver, lambda: None)

    def feed(self, *parts: bytes) -> None:
        self.transport.data_received(b"".join(parts))

    @property
    def told(self) -> list[object]:
        return self.receiver.told

    def frames(self) -> list[tuple[int, bytes]]:
        """Return what was written, as frames."""
        return list(_parse(bytes(self.socket.written)))

    def close_codes(self) -> list[int]:
        return [struct.unpack("!H", p[:2])[0] for opcode, p in self.frames() if opcode == 8]


def _parse(data: bytes) -> Iterator[tuple[int, bytes]]:
    while data:
        size, start = data[1], 2
        if size == 126:
            size, start = struct.unpack("!H", data[2:4])[0], 4
        elif size == 127:
            size, start = struct.unpack("!Q", data[2:10])[0], 10
        yield data[0] & 0x0F, data[start : start + size]
        data = data[start + size :]


@pytest.fixture
async def lane() -> Lane:
    return Lane()


async def end(lane: Lane) -> None:
    """Let the other side hang up, so that no timer is left."""
    lane.socket.lose()
    await turns()


# Writing -------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536, 100_000])
@pytest.mark.parametrize(("codec", "opcode"), [(JSON, Opcode.TEXT), (MSGPACK, Opcode.BINARY)])
def test_packs_frames_as_the_library_does(size: int, codec: object, opcode: Opcode) -> None:
    packer = DirectWire(JSON if codec is JSON else MSGPACK)
    payload = b"x" * size
    assert packer.pack(payload) == Frame(opcode, payload).serialize(mask=False)


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
        frame(wire.TEXT, b"a", fin=False),
        frame(wire.PING, b"hello"),
        frame(wire.CONT, b"b", fin=False),
        frame(wire.PONG),
        frame(wire.CONT, b"c"),
        frame(wire.BINARY, b"d"),
    )
    # Fragments as small as these are told of as well.
    assert lane.told == ["sign of life"] * 4 + [(b"abc", False), (b"d", True)]
    assert lane.frames() == [(10, b"hello")]


async def test_empty_messages_are_messages(lane: Lane) -> None:
    lane.feed(frame(wire.TEXT), frame(wire.BINARY), frame(wire.TEXT, fin=False), frame(wire.CONT))
    assert lane.receiver.payloads == [b"", b"", b""]


async def test_text_may_be_split_within_a_character(lane: Lane) -> None:
    euro = "€".encode()
    lane.feed(frame(wire.TEXT, euro[:1], fin=False), frame(wire.CONT, euro[1:]))
    assert lane.receiver.payloads == [euro]


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frame(wire.TEXT, b"\xff"), 1007),
        (frame(wire.TEXT, b"\xed\xa0\x80"), 1007),
        (frame(wire.TEXT, b"\xe2\x82", fin=False) + frame(wire.CONT), 1007),
        (frame(wire.TEXT, b"x" * (MAX_MESSAGE + 1)), 1009),
        (frame(wire.TEXT, b"", length=2**40), 1009),
        (frame(wire.TEXT, b"x" * MAX_MESSAGE, fin=False) + frame(wire.CONT, b"x"), 1009),
        (frame(wire.TEXT, b"x", mask=None), 1002),
        (frame(wire.TEXT, b"x", rsv=4), 1002),
        (frame(3, b"x"), 1002),
        (frame(11), 1002),
        (frame(wire.CONT, b"x"), 1002),
        (frame(wire.TEXT, fin=False) + frame(wire.TEXT), 1002),
        (frame(wire.PING, fin=False), 1002),
        (frame(wire.PING, b"x" * 126), 1002),
        (frame(wire.CLOSE, b"x"), 1002),
        (frame(wire.CLOSE, struct.pack("!H", 1005)), 1002),
        (frame(wire.CLOSE, struct.pack("!H", 999)), 1002),
        (frame(wire.CLOSE, struct.pack("!H", 1000) + b"\xff"), 1007),
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
    lane.feed(frame(wire.TEXT, b"one"), frame(wire.TEXT, b"two"), sent, frame(wire.TEXT, b"no"))
    await turns(10)
    assert lane.receiver.payloads == [b"one", b"two"]
    assert lane.close_codes() == [code]
    assert lane.socket.ended
    await end(lane)
    assert lane.told[-1] == "closed"


async def test_a_million_empty_fragments_cost_nothing(lane: Lane) -> None:
    lane.feed(frame(wire.TEXT, fin=False))
    many = frame(wire.CONT, fin=False) * 10_000
    for _ in range(3):
        lane.feed(many)
    assert lane.told == ["sign of life"] * 30_001, "each is to be counted, since it takes time"
    lane.feed(frame(wire.CONT, b"x"))
    assert lane.receiver.payloads == [b"x"]


async def test_fragments_of_a_useful_size_are_not_counted(lane: Lane) -> None:
    part = b"x" * 126
    lane.feed(frame(wire.TEXT, part, fin=False), frame(wire.CONT, part, fin=False))
    lane.feed(frame(wire.CONT, b"x"))
    assert lane.told == [(part * 2 + b"x", False)]


# Flow control --------------------------------------------------------------------------------


async def test_takes_nothing_while_paused_and_everything_in_order_later(lane: Lane) -> None:
    def pause(_: object) -> None:
        lane.transport.pause()

    lane.receiver.react = pause
    lane.feed(*(frame(wire.TEXT, b"%d" % n) for n in range(5)))
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
    lane.feed(*(frame(wire.TEXT, b"%d" % n) for n in range(3)))
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
    lane.feed(frame(wire.TEXT, b"1"), frame(wire.PING, b"hello"))
    assert lane.frames() == [(10, b"hello")]
    lane.feed(frame(wire.PING, b"again"))
    assert lane.frames() == [(10, b"hello"), (10, b"again")]
    assert lane.receiver.payloads == []


async def test_the_clients_close_is_answered_once_all_it_said_is_done(lane: Lane) -> None:
    close = (1000).to_bytes(2, "big")
    lane.receiver.hang_up = lambda: None
    lane.feed(frame(wire.TEXT, b"1"), frame(wire.CLOSE, close))
    lane.transport.ping()
    assert lane.frames() == [], "not while something is undone"
    assert lane.transport.eof_received() is True, "nor when it has shut its side down"
    lane.transport.write(DIRECT_WIRES[JSON.subprotocol].pack(b"done"))
    lane.transport.close(1000, "")
    assert lane.frames() == [(1, b"done"), (8, close)]


async def test_a_close_amid_a_fragmented_message_is_a_close(lane: Lane) -> None:
    close = frame(wire.CLOSE, (1000).to_bytes(2, "big"))
    lane.feed(frame(wire.TEXT, b"begin", fin=False), close)
    assert lane.frames() == [(8, (1000).to_bytes(2, "big"))]


async def test_a_buffer_that_fills_amid_a_read_holds_up_the_rest_of_it(lane: Lane) -> None:
    def answer(event: object) -> None:
        if event != "full":
            lane.transport.write(b"x" * (CORK_BYTES + 1))

    lane.receiver.react = answer
    lane.feed(*(frame(wire.TEXT, b"%d" % n) for n in range(4)))
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
    lane.feed(*(frame(wire.TEXT, b"%d" % n) for n in range(4)))
    assert lane.receiver.payloads == [b"0", b"1"]
    assert lane.frames() == [(8, struct.pack("!H", 4400))]
    await end(lane)


async def test_a_read_full_of_tiny_messages_is_taken_as_the_receiver_can(lane: Lane) -> None:
    """As much as a loop reads at once, in the smallest messages there are."""
    count = 262_144 // 7
    lane.receiver.react = lambda _: lane.transport.pause()
    lane.feed(frame(wire.TEXT, b"x") * count)
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
    lane.feed(frame(wire.TEXT, b"1"), frame(wire.TEXT, b"2"), frame(wire.TEXT, b"3"))

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
    lane.transport.data_received(frame(wire.PONG) * (LARGE_READ_BYTES // 6 + 1))
    assert not lane.socket.reading
    await turns()
    assert lane.socket.reading


async def test_a_large_read_does_not_resume_a_paused_session(lane: Lane) -> None:
    lane.receiver.react = lambda _: lane.transport.pause()
    lane.transport.data_received(text("x") + frame(wire.PONG) * (LARGE_READ_BYTES // 6 + 1))
    await turns()
    assert not lane.socket.reading
    lane.transport.resume()
    await turns()
    assert lane.socket.reading


async def test_little_is_looked_at_once_it_has_closed(lane: Lane) -> None:
    pong = frame(wire.PONG)
    lane.feed(pong)
    lane.transport.close(4429, "too many")
    lane.told.clear()
    for _ in range(10):
        lane.feed(pong * 20_000)
    assert len(lane.told) <= HEED_FRAMES + SLICE_BYTES // len(pong)
    await end(lane)


async def test_a_close_amid_a_flood_takes_effect_at_once(lane: Lane) -> None:
    lane.receiver.react = lambda _: lane.transport.close(4429, "too many")
    lane.feed(frame(wire.PONG) * 40_000)
    assert len(lane.told) <= HEED_FRAMES + 2 * SLICE_BYTES // 6
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


# The end -------------------------------------------------------------------------------------


@pytest.mark.parametrize("tls", [False, True])
async def test_answers_the_clients_close_after_all_that_came_before(tls: bool) -> None:
    lane = Lane(tls=tls)

    def answer(event: object) -> None:
        if isinstance(event, tuple):
            lane.transport.write(b"\x81\x01" + event[0])

    lane.receiver.react = answer
    lane.feed(frame(wire.TEXT, b"1"), frame(wire.TEXT, b"2"), wire.closing(1000, "bye"))
    assert lane.frames() == [(1, b"1"), (1, b"2"), (8, struct.pack("!H", 1000) + b"bye")]
    assert lane.socket.is_closing() if tls else lane.socket.ended
    await end(lane)


async def test_a_pause_delays_the_answer_to_the_clients_close(lane: Lane) -> None:
    lane.receiver.react = lambda _: lane.transport.pause()
    lane.feed(frame(wire.TEXT, b"1"), frame(wire.TEXT, b"2"), wire.closing())
    assert lane.frames() == []
    lane.receiver.react = lambda _: None
    lane.transport.resume()
    await turns()
    assert lane.receiver.payloads == [b"1", b"2"]
    assert lane.close_codes() == [1000]
    await end(lane)


async def test_messages_behind_a_close_frame_are_not_taken(lane: Lane) -> None:
    lane.feed(frame(wire.TEXT, b"1"), wire.closing(), frame(wire.TEXT, b"2"), b"\xff" * 50)
    assert lane.receiver.payloads == [b"1"]
    assert lane.close_codes() == [1000]
    await end(lane)


async def test_messages_that_wait_are_dropped_when_the_server_closes(lane: Lane) -> None:
    def close(_: object) -> None:
        lane.transport.close(4400, "enough")

    lane.receiver.react = close
    lane.feed(frame(wire.TEXT, b"1"), frame(wire.TEXT, b"2"))
    assert lane.receiver.payloads == [b"1"]
    assert lane.frames() == [(8, struct.pack("!H", 4400) + b"enough")]
    lane.receiver.react = lambda _: None
    await end(lane)


async def test_the_server_closing_while_the_clients_close_waits_answers_that(lane: Lane) -> None:
    lane.transport.pause()
    lane.feed(frame(wire.TEXT, b"1"), wire.closing(1001))
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
        lane.feed(frame(wire.TEXT, b"1"), frame(wire.TEXT, b"2"))
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
    lane.feed(frame(wire.TEXT, b"1"), wire.closing() if close_first else b"")
    lane.transport.eof_received()
    assert lane.receiver.payloads == [b"1"]
    assert lane.close_codes() == ([1000] if close_first else [])
    await end(lane)
