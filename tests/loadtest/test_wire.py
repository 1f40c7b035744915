"""The reader's walk through frames, however they are cut."""

import pytest

from loadtest.dialects import BATCH, DIALECTS, DUE, Position, data_of
from loadtest.exchange import Exchange
from loadtest.wire import Socket, frame, unmask

SMALL, MEDIUM = b"x" * 125, b"y" * 70_000


class _Handler:
    def __init__(self) -> None:
        self.opened = 0
        self.data = b""
        self.lost: list[str] = []

    def on_open(self) -> None:
        self.opened += 1

    def on_frames(self, data: bytes) -> None:
        self.data += data

    def on_lost(self, reason: str) -> None:
        self.lost.append(reason)


class _Transport:
    def __init__(self) -> None:
        self.written = b""
        self.aborted = False

    def write(self, data: bytes) -> None:
        self.written += data

    def abort(self) -> None:
        self.aborted = True


def _socket() -> tuple[Socket, _Handler, _Transport]:
    handler, transport = _Handler(), _Transport()
    socket = Socket("127.0.0.1", 1, "/ws", "", handler)
    socket.connection_made(transport)  # type: ignore[arg-type]  # as much of one as is used
    transport.written = b""
    return socket, handler, transport


def _server_frame(payload: bytes, opcode: int = 1) -> bytes:
    size = len(payload)
    if size < 126:
        return bytes((0x80 | opcode, size)) + payload
    if size < 65_536:
        return bytes((0x80 | opcode, 126)) + size.to_bytes(2, "big") + payload
    return bytes((0x80 | opcode, 127)) + size.to_bytes(8, "big") + payload


HEAD = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"


@pytest.mark.parametrize("step", [1, 2, 3, 7, 100_000])
def test_frames_come_whole_however_they_are_cut(step: int) -> None:
    socket, handler, transport = _socket()
    sizes = (0, 1, 125, 126, 300, 70_000) if step > 3 else (0, 1, 125, 126, 300)
    frames = b"".join(_server_frame(b"z" * size) for size in sizes)
    stream = HEAD + frames + _server_frame(b"hi", opcode=9) + frames
    for at in range(0, len(stream), step):
        socket.data_received(stream[at : at + step])
    assert handler.opened == 1
    assert handler.data == frames + _server_frame(b"hi", opcode=9) + frames
    assert transport.written == b"\x8a\x82\0\0\0\0hi"
    assert handler.lost == []


def test_a_close_frame_and_a_refusal_are_told_once() -> None:
    socket, handler, transport = _socket()
    socket.data_received(HEAD + _server_frame((4490).to_bytes(2, "big") + b"too slow", opcode=8))
    socket.connection_lost(None)
    assert handler.lost == ["closed with 4490 too slow"]
    assert transport.aborted

    socket, handler, _ = _socket()
    socket.data_received(b"HTTP/1.1 401 Unauthorized\r\n\r\n{}")
    assert handler.lost == ["the server refuses the connection: HTTP/1.1 401 Unauthorized"]


@pytest.mark.parametrize("payload", [b"", SMALL, b"x" * 126, b"x" * 60_000])
def test_frames_of_clients_can_be_read_back(payload: bytes) -> None:
    whole = frame(payload)
    assert unmask(whole + b"rest") == (payload, b"rest")
    assert unmask(whole[:-1] if payload else whole[:1]) is None


@pytest.mark.parametrize("size", [40, 100, 5000])
def test_data_is_as_long_as_asked_and_bears_its_stamp(size: int) -> None:
    data = data_of(1_234_567_890_123_456, size)
    assert len(data) == size
    assert DUE(data + data) == [b"1234567890123456"] * 2


@pytest.mark.parametrize("name", ["chat", "plain", "socketio", "nats", "edit", "centrifugo"])
def test_every_dialect_says_what_it_publishes(name: str) -> None:
    data = data_of(123, 60)
    DIALECTS[name].publish("room:a", 6, data)  # may be more than one
    found = unmask(DIALECTS[name].publish("room:a", 7, data))
    assert found is not None
    assert data in found[0]
    assert b"room:a" in found[0]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("react", [b'"emoji":"\xf0\x9f\x91\x8d","remove":false', b'"remove":true']),
        ("append", [b'"text":"00000000000000000123"'] * 2),
        ("history", [b'"limit":1'] * 2),
        ("unread", [b'"topics":["room:b:0","room:b:1"'] * 2),
    ],
)
def test_a_verb_is_sent_behind_what_it_needs(name: str, expected: list[bytes]) -> None:
    first, second = (DIALECTS[name].publish("room:b", n, data_of(123, 60)) for n in (1, 2))
    for _ in range(100 if name == "unread" else 1):
        found = unmask(first)
        assert found is not None
        assert b'"type":"publish"' in found[0]
        first = found[1]
    for sent, text in zip((first, second), expected, strict=True):
        found = unmask(sent)
        assert found is not None
        assert text in found[0]
        assert b'"type":"%b"' % name.encode() in found[0]
        assert found[1] == b""


def test_what_was_appended_bears_its_stamp() -> None:
    dialect = DIALECTS["append"]
    push = b'{"type":"appended","topic":"room:a","seq":7,"at":1,"text":"%020d%020d"}' % (123, 4)
    assert [int(stamp) for stamp in dialect.stamps(push + push)] == [123, 4, 123, 4]
    assert dialect.seqs(push) == [b"7"]


@pytest.mark.parametrize(
    ("name", "answer", "place"),
    [
        ("chat", b'{"type":"ok","id":1,"topic":"room:a","epoch":"e.0","seq":7}', ("e.0", 7)),
        ("centrifugo", b'{"id":2,"subscribe":{"recoverable":true,"epoch":"e"}}', ("e", 0)),
        ("centrifugo", b'{"id":2,"subscribe":{"epoch":"e","offset":9}}', ("e", 9)),
    ],
)
def test_a_subscription_tells_its_place(name: str, answer: bytes, place: tuple[str, int]) -> None:
    assert DIALECTS[name].position(answer) == Position(*place)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("chat", b'"topic":"room:a","since":{"epoch":"e","seq":3}'),
        ("centrifugo", b'"channel":"room:a","recover":true,"epoch":"e","offset":3'),
    ],
)
def test_who_comes_back_says_where_it_was(name: str, text: bytes) -> None:
    steps = DIALECTS[name].steps("room:a", "token", Position("e", 3))
    assert any(text in sent for _, sent in steps)


def test_what_centrifugo_recovers_is_in_order() -> None:
    answer = (
        b'{"id":2,"subscribe":{"epoch":"e","publications":[{"data":{"pad":"","due":1},"offset":2},'
        b'{"data":{"pad":"","due":2},"info":{"user":"u","client":"c"},"offset":3}],'
        b'"recovered":true,"offset":1}}'
    )
    push = b'{"push":{"channel":"room:a","pub":{"data":{"pad":"","due":3},"offset":4}}}'
    dialect = DIALECTS["centrifugo"]
    assert dialect.seqs(answer + push) == [b"2", b"3", b"4"]
    assert dialect.stamps(answer + push) == [b"1", b"2", b"3"]
    assert dialect.acknowledged(b'{"id":5,"publish":{}}\n{"id":6,"publish":{}}') == [b"5", b"6"]


ANSWERS = (
    b'HTTP/1.1 201 \r\ncontent-length: 9\r\n\r\n{"seq":1}',
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    b"HTTP/1.1 405 \r\nContent-Length: 0\r\n\r\n",
)


@pytest.mark.parametrize("step", [1, 5, 100_000])
@pytest.mark.parametrize("answer", ANSWERS)
def test_answers_by_http_come_whole_however_they_are_cut(answer: bytes, step: int) -> None:
    handler, transport = _Handler(), _Transport()
    exchange = Exchange("127.0.0.1", 1, "/api", "X: y\r\n", handler)
    exchange.connection_made(transport)  # type: ignore[arg-type]  # as much of one as is used
    exchange.write(b"{}")
    assert transport.written.startswith(b"POST /api HTTP/1.1\r\n")
    assert transport.written.endswith(b"X: y\r\nContent-Length: 2\r\n\r\n{}")
    for at in range(0, len(answer), step):
        assert handler.data == b""
        exchange.data_received(answer[at : at + step])
    assert (handler.opened, handler.data, handler.lost) == (1, answer, [])
    exchange.connection_lost(None)
    assert handler.lost == ["closed by the server"]


def test_an_answer_by_http_is_an_acknowledgement_or_says_why_not() -> None:
    taken, _, refused = ANSWERS
    dialect = DIALECTS["chat http"]
    assert (dialect.acknowledged(taken), dialect.errors(taken)) == ([b"0"], [])
    assert (dialect.acknowledged(refused), dialect.errors(refused)) == ([], [b"405"])
    assert dialect.refusal(refused) == "not served: HTTP 405"
    wrong = b'HTTP/1.1 200 OK\r\n\r\n{"replies":[{"error":{"code":102}}]}'
    for name in ("centrifugo batch", "chat batch"):
        assert DIALECTS[name].acknowledged(wrong) == []
        assert DIALECTS[name].errors(wrong) == [b"102"]


@pytest.mark.parametrize("name", ["chat batch", "centrifugo batch"])
def test_a_batch_is_for_as_many_topics(name: str) -> None:
    data = data_of(123, 60)
    body = DIALECTS[name].publish("room:a", 1, data)
    assert body.count(data) == BATCH
    assert all(b'"room:a:%d"' % each in body for each in range(BATCH))
