"""The decoders against tables of bad input; what is accepted must fit into either encoding."""

import datetime
import json
import struct
from typing import Any

import msgspec
import pytest
from msgspec.msgpack import Ext
from msgspec.msgpack import encode as pack

from chat_server.events import Position
from chat_server.protocol.codecs import CODECS, JSON, MSGPACK, Codec
from chat_server.protocol.commands import (
    MAX_ID,
    Auth,
    Command,
    History,
    Ping,
    Publish,
    Signal,
    Subscribe,
    Unsubscribe,
)
from chat_server.protocol.errors import BadRequest, Malformed
from chat_server.protocol.messages import Error, HistoryOk, Ok, Pong, TopicOk, User
from chat_server.protocol.nesting import MAX_DEPTH

from ..rig.fake_transport import as_client
from ..rig.fakes import deep

NOW = datetime.datetime(2026, 11, 28, 16, 0, 0, 5, datetime.UTC)


def json_publish(data: bytes) -> bytes:
    return b'{"type":"publish","id":7,"topic":"a","data":%s}' % data


def msgpack_publish(data: bytes) -> bytes:
    return b"\x84" + b"".join(map(pack, ("type", "publish", "id", 7, "topic", "a", "data"))) + data


def refusal(codec: Codec, frame: bytes) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        codec.decode(frame)
    return caught.value


def decoded_data(codec: Codec, frame: bytes) -> Any:
    command = codec.decode(frame)
    assert isinstance(command, Publish)
    return json.loads(bytes(command.data))


# Commands ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("plain", "expected"),
    [
        ({"type": "auth", "token": "t"}, Auth(token="t")),
        ({"type": "subscribe", "topic": "a"}, Subscribe(topic="a")),
        ({"type": "subscribe", "topic": "a", "last": 5}, Subscribe(topic="a", last=5)),
        (
            {"type": "subscribe", "topic": "a", "since": {"epoch": "e", "seq": 0}, "id": 1},
            Subscribe(topic="a", since=Position("e", 0), id=1),
        ),
        ({"type": "unsubscribe", "topic": "a", "id": MAX_ID}, Unsubscribe(topic="a", id=MAX_ID)),
        ({"type": "history", "topic": "a"}, History(topic="a", limit=50)),
        ({"type": "history", "topic": "a", "before": 0}, History(topic="a", before=0)),
        ({"type": "ping", "id": None}, Ping()),
        ({"type": "ping", "unknown": [{}]}, Ping()),
        # What is not checked here is checked by the session, which can name the topic.
        ({"type": "subscribe", "topic": "room/x"}, Subscribe(topic="room/x")),
    ],
)
@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_commands(codec: Codec, plain: dict[str, Any], expected: Command) -> None:
    frame = pack(plain) if codec.binary else msgspec.json.encode(plain)
    assert codec.decode(frame) == expected


@pytest.mark.parametrize("data", [None, 0, -1.5, "é\U0001f600\0", [], {}, [{"a": [None, True]}]])
@pytest.mark.parametrize("kind", [Publish, Signal])
def test_data_is_json_text_whatever_the_encoding(kind: type[Publish | Signal], data: Any) -> None:
    plain = {"type": kind.__name__.lower(), "topic": "a", "data": data}
    for command in (JSON.decode(msgspec.json.encode(plain)), MSGPACK.decode(pack(plain))):
        assert isinstance(command, kind)
        assert json.loads(bytes(command.data)) == data


def test_json_data_is_passed_on_byte_by_byte() -> None:
    text = b'{ "b" : 1.50, "a": "\\u00e9" , "c" : 1E2 }'
    command = JSON.decode(json_publish(text))
    assert isinstance(command, Publish)
    assert bytes(command.data) == text


# Messages that are no commands ---------------------------------------------------------------


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b" ",
        b"{",
        b"[]",
        b"null",
        b"7",
        b'"ping"',
        b'{"type":"ping"',
        b'{"type":"ping"} x',
        b'{"type":"ping"}{"type":"ping"}',
        b'{"type":"ping",}',
        b"{'type':'ping'}",
        b'{type:"ping"}',
        b'{1:2,"type":"ping"}',
        b'{"type":"ping","x":01}',
        b'{"type":"ping","x":' + b"[" * 10_000 + b"}",
        deep(10_000).encode(),
        b"[" * 60_000,
        b"\xff\xfe",
        b"\x81\xa4type\xa4ping",
    ],
)
def test_json_that_is_no_map(frame: bytes) -> None:
    error = refusal(JSON, frame)
    assert isinstance(error, Malformed)
    assert error.id is None
    assert error.message.startswith("message: ")
    MSGPACK.encode(Error(code=error.code, message=error.message))


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\xc0",
        b"\xc1",
        b"\x80x",
        pack(1),
        pack("ping"),
        pack([1])[:-1],
        pack({"type": "ping"}) + b"\xc0",
        pack({"type": "ping"})[:-1],
        b"\x82" + pack("type") + pack("ping") + pack("x") + b"\xc1",
        b"\x82" + pack("type") + pack("ping") + pack("x") + b"\x91" * 10_000,
        b"\xdf\xff\xff\xff\xff",
        b"\xdd\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\x91" * 60_000,
        b'{"type":"ping"}',
    ],
)
def test_msgpack_that_is_no_map(frame: bytes) -> None:
    error = refusal(MSGPACK, frame)
    assert isinstance(error, Malformed)
    assert error.id is None
    MSGPACK.encode(Error(code=error.code, message=error.message))


@pytest.mark.parametrize(
    ("plain", "field"),
    [
        ({}, "message"),
        ({"type": "nope"}, "type"),
        ({"type": "Ping"}, "type"),
        ({"type": ""}, "type"),
        ({"type": 1}, "type"),
        ({"type": ["ping"]}, "type"),
        ({"type": "auth"}, "message"),
        ({"type": "auth", "token": None}, "token"),
        ({"type": "subscribe"}, "message"),
        ({"type": "subscribe", "topic": 5}, "topic"),
        ({"type": "subscribe", "topic": "a", "last": 0}, "last"),
        ({"type": "subscribe", "topic": "a", "last": 301}, "last"),
        ({"type": "subscribe", "topic": "a", "last": 1.5}, "last"),
        ({"type": "subscribe", "topic": "a", "last": 301.0}, "last"),
        ({"type": "subscribe", "topic": "a", "presence": 1}, "presence"),
        ({"type": "subscribe", "topic": "a", "since": 4}, "since"),
        ({"type": "subscribe", "topic": "a", "since": {"seq": 4}}, "since"),
        ({"type": "subscribe", "topic": "a", "since": {"epoch": "e", "seq": -1}}, "since.seq"),
        (
            {"type": "subscribe", "topic": "a", "since": {"epoch": "e" * 65, "seq": 1}},
            "since.epoch",
        ),
        ({"type": "publish", "topic": "a"}, "message"),
        ({"type": "publish", "data": 1}, "message"),
        ({"type": "publish", "topic": "a", "data": 1, "key": ""}, "key"),
        ({"type": "publish", "topic": "a", "data": 1, "key": "k" * 65}, "key"),
        ({"type": "publish", "topic": "a", "data": 1, "key": 1}, "key"),
        ({"type": "signal", "topic": "a"}, "message"),
        ({"type": "history", "topic": "a", "limit": 0}, "limit"),
        ({"type": "history", "topic": "a", "limit": 301}, "limit"),
        ({"type": "history", "topic": "a", "before": -1}, "before"),
        ({"type": "history", "topic": "a", "after": 2**53}, "after"),
        # Reserved names that this server does not do yet.
        ({"type": "enlarge", "topic": "a", "seq": 1, "data": 1}, "type"),
    ],
)
@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_maps_that_break_a_rule(codec: Codec, plain: dict[str, Any], field: str) -> None:
    encode = pack if codec.binary else msgspec.json.encode
    error = refusal(codec, encode({"id": 4, **plain}))
    assert not isinstance(error, Malformed)
    assert error.id == 4
    assert error.message.startswith(f"{field}: ")
    assert refusal(codec, encode(plain)).id is None


@pytest.mark.parametrize(
    "id", [0, -1, 2**53, 2**63, "1", 1.5, -1.0, 2.0**53, True, [1], {"a": 1}, [[[]]]], ids=repr
)
@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_ids_that_are_none(codec: Codec, id: Any) -> None:
    for kind in ("ping", "nope"):
        plain = {"type": kind, "id": id}
        error = refusal(codec, pack(plain) if codec.binary else msgspec.json.encode(plain))
        assert not isinstance(error, Malformed)
        assert error.id is None


def test_ids_too_long_for_an_integer_are_no_strike() -> None:
    error = refusal(JSON, b'{"type":"ping","id":%s}' % (b"9" * 5000))
    assert not isinstance(error, Malformed)
    assert error.id is None


def test_the_last_of_duplicate_keys_counts() -> None:
    assert JSON.decode(b'{"type":"ping","id":1,"id":2}') == Ping(id=2)
    assert MSGPACK.decode(b"\x83\xa2id\x01\xa4type\xa4ping\xa2id\x02") == Ping(id=2)
    assert refusal(JSON, b'{"type":"nope","id":1,"id":2}').id == 2


def test_text_in_a_type_cannot_change_what_the_error_names() -> None:
    error = refusal(JSON, b'{"type":"x - at `$.foo`"}')
    assert error.message == "type: invalid value 'x - at `$.foo`'"


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_an_error_is_short_whatever_was_sent(codec: Codec) -> None:
    plain = {"type": "x" * 60_000}
    error = refusal(codec, pack(plain) if codec.binary else msgspec.json.encode(plain))
    assert len(error.message) < 300


@pytest.mark.parametrize("field", ["topic", "key"])
def test_msgpack_text_that_is_not_utf8_is_no_strike(field: str) -> None:
    fields = {"type": "publish", "id": 9, "topic": "a", "key": "k", "data": 1} | {field: "\x7f"}
    error = refusal(MSGPACK, pack(fields).replace(b"\xa1\x7f", b"\xa1\xff"))
    assert not isinstance(error, Malformed)
    assert error.id == 9
    assert "UTF-8" in error.message


# Data that cannot be passed on -----------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"1e999",
        b"-1e999",
        b"1.7976931348623159e308",
        b"1" * 400 + b".5",
        b"18446744073709551616",
        b"-9223372036854775809",
        b"9" * 5000,
        b'"\xff"',
        b'"\xed\xa0\x80"',
        b'"\xf4\x90\x80\x80"',
        b'"\xc0\x80"',
        b'{"\xff":1}',
        b'[{"a":["\xff"]}]',
        deep(MAX_DEPTH + 1).encode(),
        deep(MAX_DEPTH + 1, "1").encode(),
        b'{"a":' * (MAX_DEPTH + 1) + b"1" + b"}" * (MAX_DEPTH + 1),
        b'{"a":' * (MAX_DEPTH) + b"{}" + b"}" * (MAX_DEPTH),
        b"[" + deep(MAX_DEPTH).encode() + b"]",
        b"[[]," * MAX_DEPTH + b"[]" + b"]" * MAX_DEPTH,
    ],
)
def test_json_data_that_is_refused(data: bytes) -> None:
    error = refusal(JSON, json_publish(data))
    assert not isinstance(error, Malformed)
    assert error.id == 7
    assert error.message.startswith("data: ")
    with pytest.raises(BadRequest):
        JSON.decode_body(b'{"data":%s}' % data, Publish, {"topic": "a"})


@pytest.mark.parametrize("data", [b'"\\ud800"', b'"\\udc00"', b'"\\udc00\\ud800"', b'"\\ud800x"'])
def test_half_a_surrogate_pair_is_refused(data: bytes) -> None:
    assert refusal(JSON, json_publish(data))
    assert refusal(JSON, json_publish(b"{%s:1}" % data))


@pytest.mark.parametrize(
    "data",
    [
        struct.pack(">Bd", 0xCB, float("nan")),
        struct.pack(">Bd", 0xCB, float("inf")),
        struct.pack(">Bf", 0xCA, float("nan")),
        struct.pack(">Bf", 0xCA, -float("inf")),
        pack([1, {"a": 1.5}]).replace(pack(1.5), struct.pack(">Bd", 0xCB, float("inf"))),
        pack(b""),
        pack(b"x" * 300),
        pack([{"a": b"x"}]),
        b"\xc6\x00\x01\x00\x00" + b"x" * 65_536,
        pack(Ext(5, b"x")),
        pack(Ext(5, b"x" * 4)),
        pack(Ext(5, b"x" * 300)),
        pack(NOW),
        b"\xd6\xff\xff\xff\xff\xff",
        b"\xd7\xff" + b"\xff" * 8,
        b"\xc7\x0c\xff" + b"\xff" * 12,
        b"\xc7\x03\xff\x00\x00\x00",
        pack({1: 2}),
        pack({None: 2}),
        pack({b"a": 2}),
        pack({1.5: 2}),
        pack({"a": {"b": 1, 2: 3}}),
        b"\x81" + pack([1]) + pack(1),
        b"\x81" + pack({}) + pack(1),
        b"\x81" + pack(Ext(5, b"x")) + pack(1),
        b"\x81" + pack(NOW) + pack(1),
        b"\xa1\xff",
        b"\xd9\x01\xff",
        b"\xa3\xed\xa0\x80",
        b"\x81\xa1\xff\x01",
        b"\x91" * MAX_DEPTH + b"\x90",
        b"\x91" * MAX_DEPTH + b"\x91\x01",
        b"\x81\xa1a" * (MAX_DEPTH + 1) + b"\x01",
        b"\x92\xc0" * MAX_DEPTH + b"\x80",
    ],
)
def test_msgpack_data_that_is_refused(data: bytes) -> None:
    error = refusal(MSGPACK, msgpack_publish(data))
    assert not isinstance(error, Malformed)
    assert error.id == 7
    assert error.message.startswith("data: ")
    JSON.encode(Error(code=error.code, message=error.message))


@pytest.mark.parametrize(
    "text",
    [
        deep(MAX_DEPTH),
        deep(MAX_DEPTH, "1"),
        deep(MAX_DEPTH, '"[[["'),
        '{"a":' * MAX_DEPTH + "1" + "}" * MAX_DEPTH,
        "[[]," * (MAX_DEPTH - 1) + "[]" + "]" * (MAX_DEPTH - 1),
        '"' + "[{" * 1000 + '"',
        "[" + "[]," * 1000 + "{}]",
        "18446744073709551615",
        "-9223372036854775808",
        "1e-999",
        "-0.0",
        "1.7976931348623157e308",
        '"\\u0000\\ud83d\\ude00\\/"',
        '"' + "x" * 60_000 + '"',
    ],
    ids=lambda text: text[:30],
)
def test_data_at_the_limits_is_taken(text: str) -> None:
    value = json.loads(text)
    assert decoded_data(JSON, json_publish(text.encode())) == value
    assert decoded_data(MSGPACK, msgpack_publish(pack(value))) == value


def test_a_million_elements_are_taken() -> None:
    # The size of a message is the transport's business; here it must only not take for ever.
    text = b"[" + b"0," * 1_000_000 + b"0]"
    assert len(decoded_data(JSON, json_publish(text))) == 1_000_001
    assert len(decoded_data(MSGPACK, msgpack_publish(pack([0] * 1_000_001)))) == 1_000_001


@pytest.mark.parametrize("length", [0, 31, 32, 255, 256, 65_535, 65_536])
def test_every_size_of_text_list_and_map_is_taken(length: int) -> None:
    for value in ("x" * length, [0] * length, {f"{n}": n for n in range(length)}):
        assert decoded_data(MSGPACK, msgpack_publish(pack(value))) == value


@pytest.mark.parametrize(
    "value", [*(sign * 2**bits for bits in (0, 5, 7, 8, 15, 16, 31, 32, 62) for sign in (1, -1))]
)
def test_every_size_of_integer_is_taken(value: int) -> None:
    for number in (value - 1, value, value + 1):
        assert decoded_data(MSGPACK, msgpack_publish(pack([number]))) == [number]


@pytest.mark.parametrize("key", [pack([1]), pack(1), pack({}), pack(NOW), pack(Ext(1, b"x"))])
def test_no_map_is_built_of_keys_that_are_not_text(key: bytes) -> None:
    # Keys like [1, 2] can be chosen to have one hash; 64 KB of them kept the loop busy for half a
    # second. That the text behind them is never read shows that nothing was built.
    table = b"\x82" + key + b"\x01" + pack("a") + b"\xa1\xff"
    assert refusal(MSGPACK, msgpack_publish(table)).message == "data: map keys must be strings"
    unknown = b"\x82" + pack("type") + pack("nope") + pack("id") + table
    assert refusal(MSGPACK, unknown).message == "type: invalid value 'nope'"


def test_check_data_by_itself() -> None:
    # Tokens' `info` is checked by it, which no decoder of commands has seen before.
    JSON.check_data(b'{"a":[]}')
    for data in (deep(10_000).encode(), b"", b"1 2", b"{", b"NaN", b'"\xff"'):
        with pytest.raises(BadRequest):
            JSON.check_data(data)


# The other way ---------------------------------------------------------------------------------


def test_subprotocols() -> None:
    assert {name: codec.binary for name, codec in CODECS.items()} == {
        "chat.v1.json": False,
        "chat.v1.msgpack": True,
    }


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_what_is_not_there_is_left_out(codec: Codec) -> None:
    def plain(message: Any) -> Any:
        return as_client(codec, codec.encode(message))

    def answer(id: int, ok: Ok) -> Any:
        return as_client(codec, codec.encode_ok(id, ok))

    assert plain(Pong()) == {"type": "pong"}
    assert plain(Pong(id=3)) == {"type": "pong", "id": 3}
    assert plain(Error(code="c", message="m")) == {"type": "error", "code": "c", "message": "m"}
    encode = pack if codec.binary else msgspec.json.encode
    messages: Any = [msgspec.Raw(encode({"type": "message", "data": 1.5}))]
    assert answer(1, TopicOk(topic="a")) == {"type": "ok", "id": 1, "topic": "a"}
    assert answer(1, Ok()) == {"type": "ok", "id": 1}
    assert answer(1, HistoryOk(topic="a", epoch="e", messages=messages, more=False)) == {
        "type": "ok",
        "id": 1,
        "topic": "a",
        "epoch": "e",
        "messages": [{"type": "message", "data": 1.5}],
        "more": False,
    }
    assert msgspec.to_builtins(User(user="u")) == {"user": "u"}


def test_the_messages_of_a_history_are_copied_and_not_encoded_again() -> None:
    message = b"\x81\xa3seq\xcd\x00\x01"  # encoding it again would make the 1 a single byte
    messages: Any = [msgspec.Raw(message)]
    ok = HistoryOk(topic="a", epoch="e", messages=messages, more=False)
    assert message in MSGPACK.encode_ok(1, ok)


def test_http_bodies() -> None:
    topic = {"topic": "a"}
    body = b'{"data": [1, 2], "key": "k", "topic": "b", "id": 7, "type": "signal", "x": 1}'
    command = JSON.decode_body(body, Publish, topic)
    assert command == Publish(topic="a", data=msgspec.Raw(b"[1, 2]"), key="k")
    for wrong in (b"", b"[]", b"{}", b'{"data":1,"key":""}', b'{"data":nul}', b"\xff"):
        with pytest.raises(BadRequest):
            JSON.decode_body(wrong, Publish, topic)
    with pytest.raises(BadRequest, match=r"^before: "):
        JSON.decode_body(b"{}", History, {**topic, "before": 10**30})
