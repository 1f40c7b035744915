"""Whole frames are read as websockets' parser reads them, and answers leave together."""

import asyncio
import itertools
from collections.abc import Callable

from hypothesis import assume, given
from hypothesis import strategies as st
from websockets.frames import Opcode

from chat_server.protocol.codecs import JSON
from chat_server.transports.direct import CORK_BYTES, DirectTransport
from chat_server.transports.encoders import DIRECT_ENCODERS
from chat_server.transports.frames import whole_frame
from tests.rig import rfc6455
from tests.rig.rfc6455 import frame

from .doubles import FakeSocket, RecordingReceiver, turns

MAX_MESSAGE = 300
BAD_TEXT = (1007).to_bytes(2)

Take = Callable[[bytes], bytes]


def transport(receiver: RecordingReceiver, socket: FakeSocket) -> DirectTransport:
    harness = DirectTransport(
        socket,
        DIRECT_ENCODERS[JSON.subprotocol],
        max_message_bytes=MAX_MESSAGE,
        slow_buffer_bytes=1_000_000,
        close_timeout_seconds=60,
    )
    receiver.remote_close = lambda: harness.close(1000, "")
    harness.serve(receiver, lambda: None)
    return harness


payloads = st.binary(max_size=8) | st.sampled_from(
    [b"x" * 125, b"x" * 126, b"x" * 127, b"x" * MAX_MESSAGE, b"x" * (MAX_MESSAGE + 1)]
)
frames = st.one_of(
    st.builds(frame, st.sampled_from([rfc6455.TEXT, rfc6455.BINARY]), payloads),
    st.builds(
        frame,
        st.sampled_from([rfc6455.TEXT, rfc6455.BINARY, rfc6455.CONT, rfc6455.PING, rfc6455.PONG]),
        payloads,
        fin=st.booleans(),
    ),
    st.just(rfc6455.closing()),
    st.binary(max_size=12),
)


async def hears(stream: bytes, cuts: list[int], *, whole: bool) -> tuple[list[object], bytes]:
    """Return what a receiver is told of a stream that comes in pieces, and what is answered."""
    receiver, socket = RecordingReceiver(), FakeSocket()
    harness = transport(receiver, socket)
    edges = sorted({0, *(cut % (len(stream) + 1) for cut in cuts), len(stream)})
    for start, end in itertools.pairwise(edges):
        if not whole:
            harness._websocket().between_messages = False
        harness.data_received(stream[start:end])
    await turns()
    told = list(receiver.told)
    socket.lose()
    return told, bytes(socket.written)


@given(parts=st.lists(frames, max_size=8), cuts=st.lists(st.integers(0, 4_000), max_size=8))
def test_whole_frames_are_read_as_the_library_reads_them(
    parts: list[bytes], cuts: list[int]
) -> None:
    stream = b"".join(parts)
    ours = asyncio.run(hears(stream, cuts, whole=True))
    theirs = asyncio.run(hears(stream, cuts, whole=False))
    # A close frame right behind text that is not UTF-8: which of the two ends it is open.
    assume(BAD_TEXT not in ours[1] + theirs[1])
    assert ours == theirs


def test_reads_a_whole_message_and_tells_where_it_ends() -> None:
    data = b"before" + frame(rfc6455.BINARY, b"one") + frame(rfc6455.TEXT, b"x" * 200)
    assert whole_frame(data, 6, 300) == (Opcode.BINARY, b"one", 15)
    assert whole_frame(data, 15, 300) == (Opcode.TEXT, b"x" * 200, len(data))
    assert whole_frame(data, 15, 199) is None
    assert whole_frame(data, len(data), 300) is None


async def test_the_answers_to_pings_need_no_parser() -> None:
    receiver, socket = RecordingReceiver(), FakeSocket()
    harness = transport(receiver, socket)
    for _ in range(3):
        harness.ping()
        harness.data_received(frame(rfc6455.PONG, b""))
    assert bytes(socket.written) == b"\x89\x00" * 3
    assert receiver.told == ["sign of life"] * 3
    assert harness._ws is None
    socket.lose()


async def test_the_answers_to_one_read_leave_in_one_write() -> None:
    receiver, socket = RecordingReceiver(), FakeSocket()
    harness = transport(receiver, socket)
    receiver.react = lambda event: harness.write(b"answer to " + event[0] + b".")
    harness.data_received(frame(rfc6455.TEXT, b"one") + frame(rfc6455.TEXT, b"two"))
    assert bytes(socket.written) == b"answer to one.answer to two."
    assert socket.writes == 1
    harness.write(b"push")
    assert socket.writes == 2
    receiver.react = lambda _: None
    socket.lose()


async def test_what_waits_for_one_write_is_bounded() -> None:
    receiver, socket = RecordingReceiver(), FakeSocket()
    harness = transport(receiver, socket)
    waiting: list[int] = []

    def answer(event: object) -> None:
        harness.write(b"x" * 1_000)
        waiting.append(1_000 * (len(waiting) + 1) - len(socket.written))

    receiver.react = answer
    harness.data_received(frame(rfc6455.TEXT, b"one") * 100)
    assert max(waiting) <= CORK_BYTES
    assert len(socket.written) == 100_000
    receiver.react = lambda _: None
    socket.lose()


async def test_what_was_answered_leaves_before_a_pong_and_before_the_close() -> None:
    receiver, socket = RecordingReceiver(), FakeSocket()
    harness = transport(receiver, socket)

    def answer(event: object) -> None:
        if event == (b"bye", False):
            harness.write(b"goodbye.")
            harness.close(4001, "")
        elif isinstance(event, tuple):
            harness.write(b"answer.")

    receiver.react = answer
    harness.data_received(frame(rfc6455.TEXT, b"one") + frame(rfc6455.PING, b"?"))
    assert bytes(socket.written) == b"answer.\x8a\x01?"
    socket.written.clear()
    harness.data_received(frame(rfc6455.TEXT, b"bye") + frame(rfc6455.TEXT, b"one"))
    assert bytes(socket.written) == b"goodbye.\x88\x02\x0f\xa1"
    receiver.react = lambda _: None
    socket.lose()


async def test_the_answer_to_the_handshake_leaves_with_what_follows() -> None:
    receiver, socket = RecordingReceiver(), FakeSocket()
    harness = transport(receiver, socket)
    harness.serve(receiver, lambda: harness.write(b"welcome"), b"101 ")
    assert bytes(socket.written) == b"101 welcome"
    assert socket.writes == 1
    socket.lose()
