"""Frames that honest libraries write and that cannot be taken, or not as they are.

The sender waits for an answer with its `id`, so it gets one, and no strike.
"""

import json
import math
import struct
from typing import Annotated, Any

import msgspec
import pytest
from msgspec import Meta
from msgspec.msgpack import Ext
from msgspec.msgpack import encode as pack

from chat_server.events import Position
from chat_server.protocol.codecs import CODECS, JSON, MSGPACK, Codec, JsonCodec, MsgpackCodec
from chat_server.protocol.command_table import Row
from chat_server.protocol.commands import MAX_ID, History, Ping, Publish, Subscribe, TopicCommand
from chat_server.protocol.errors import BadRequest, Malformed
from chat_server.protocol.messages import HistoryOk, PublishOk
from chat_server.protocol.session import STRIKES

from ..rig.fakes import deep
from .harness import Harness
from .test_codecs import decoded_data, json_publish, msgpack_publish, refusal

COMMAND = {"type": "publish", "id": 7, "topic": "a", "data": 1}
HALF = "\\ud83d"
NOT_STR = "keys and text must be str, not binary"


def decode_body(data: str) -> str:
    """Return the `data` of a publication by HTTP, as it is passed on."""
    command = JSON.decode_body(b'{"data":%s}' % data.encode(), Publish, {"topic": "a"})
    assert isinstance(command, Publish)
    return bytes(command.data).decode()


def js(**fields: str) -> bytes:
    """Return a publication whose fields are given as JSON text."""
    texts = {name: json.dumps(value) for name, value in COMMAND.items()} | fields
    return b"{%s}" % ",".join(f'"{name}":{text}' for name, text in texts.items()).encode()


JSON_FRAMES = {
    "half a pair in data": (js(data=f'"{HALF}"'), "data: holds half a surrogate pair"),
    "the second half": (js(data='"\\ude00 x"'), "data: holds half a surrogate pair"),
    "halves in the wrong order": (js(data='"\\ude00\\ud83d"'), "data: holds half a surrogate pair"),
    "inside data": (js(data=f'[{{"a":"x{HALF}"}}]'), "data: holds half a surrogate pair"),
    "in a key of data": (js(data=f'{{"{HALF}":1}}'), "data: holds half a surrogate pair"),
    "in the topic": (js(topic=f'"{HALF}"'), "topic: holds half a surrogate pair"),
    "in the key": (js(key=f'"{HALF}"'), "key: holds half a surrogate pair"),
    "in a token": (js(type='"auth"', token=f'"{HALF}"'), "token: holds half a surrogate pair"),
    "in the type": (js(type=f'"{HALF}"'), "type: holds half a surrogate pair"),
    "in an epoch": (
        js(type='"subscribe"', since=f'{{"epoch":"{HALF}","seq":1}}'),
        "since: holds half a surrogate pair",
    ),
    "in what nobody reads": (js(other=f'"{HALF}"'), "message: holds half a surrogate pair"),
    "in a name": (b'{"%s":1,%s' % (HALF.encode(), js()[1:]), "message: holds half a surrogate"),
    "NaN": (js(data="[NaN]"), "data: NaN and infinity have no JSON form"),
    "infinity": (js(data="-Infinity"), "data: NaN and infinity have no JSON form"),
    "a byte order mark": (b"\xef\xbb\xbf" + js(), "message: begins with a byte order mark"),
    "a control character": (js(data='"a\tb"'), "message: is not valid JSON: "),
    "much nesting": (js(data=deep(10_000)), "message: is nested too deeply"),
    "much nesting and more": (js(data=f'["]",{deep(9_000)},{{"id":3}}]'), "message: is nested"),
}

MSGPACK_FRAMES = {
    "half a pair in data": (msgpack_publish(b"\xa3\xed\xa0\xbd"), "data: holds text that"),
    "half a pair in the topic": (pack(COMMAND | {"topic": "<>?"}), "message: holds text"),
    "a binary topic": (pack(COMMAND | {"topic": b"a"}), "topic: expected `str`"),
    "binary throughout": (
        b"\x84" + b"".join(map(pack, (b"type", b"publish", b"id", 7, b"topic", b"a", b"data", 1))),
        f"message: {NOT_STR}",
    ),
    "binary in data": (msgpack_publish(pack([b"x"])), "data: must not hold binary values"),
    "a timestamp": (msgpack_publish(b"\xd6\xff" + bytes(4)), "data: must not hold timestamp or"),
    "undefined": (msgpack_publish(b"\x81\xa1a\xd4\0\0"), "data: must not hold timestamp or ext"),
    "nil as a key": (pack({None: "Chat", **COMMAND}), "message: map keys must be strings, not nil"),
    "nil as a key in data": (
        msgpack_publish(pack({None: 1})),
        "data: map keys must be strings, no",
    ),
    "integers as keys": (pack({1: 1, **COMMAND}), "message: map keys must be strings"),
    "NaN": (pack(COMMAND | {"data": math.nan}), "data: NaN and infinity have no JSON form"),
    "much nesting": (msgpack_publish(b"\x91" * 9_999 + b"\x90"), "message: is nested too deeply"),
}


@pytest.mark.parametrize(("frame", "message"), JSON_FRAMES.values(), ids=JSON_FRAMES)
def test_json_is_answered_with_its_id(frame: bytes, message: str) -> None:
    check(JSON, frame, message)


@pytest.mark.parametrize(("frame", "message"), MSGPACK_FRAMES.values(), ids=MSGPACK_FRAMES)
def test_msgpack_is_answered_with_its_id(frame: bytes, message: str) -> None:
    check(MSGPACK, frame.replace(b"\xa3<>?", b"\xa3\xed\xa0\xbd"), message)


def check(codec: Codec, frame: bytes, message: str) -> None:
    harness = Harness(codec=codec)
    for _ in range(STRIKES + 1):
        harness.raw(frame, binary=codec.binary)
    assert harness.codes == ["bad_request"] * (STRIKES + 1)
    assert harness.answered == [7] * (STRIKES + 1)
    assert harness.sent[0]["message"].startswith(message)
    assert len(harness.sent[0]["message"]) < 200


@pytest.mark.parametrize("data", [f'"{HALF}"', f'{{"a":["{HALF}"]}}', "NaN"])
def test_http_bodies_are_refused_in_the_same_words(data: str) -> None:
    with pytest.raises(BadRequest) as caught:
        decode_body(data)
    assert caught.value.message == refusal(JSON, js(data=data)).message
    assert not isinstance(caught.value, Malformed)


def test_text_in_the_data_of_a_body_that_is_not_utf_8() -> None:
    with pytest.raises(BadRequest) as caught:
        JSON.decode_body(b'{"data":"\xff"}', Publish, {"topic": "a"})
    assert caught.value.message == "data: holds text that is not UTF-8"


@pytest.mark.parametrize(
    ("frame", "option"),
    [
        (b"\xd4\x72\x40" + pack(["type", "id"]) + pack("ping") + pack(1), "useRecords: false"),
        (b"\xd5\x72\x40\x01" + pack(["type"]) + pack("ping"), "useRecords: false"),
        (pack(["publish", 7, "a"]), "to_vec_named"),
    ],
)
def test_what_holds_no_id_that_can_be_found_is_no_strike_either(frame: bytes, option: str) -> None:
    error = refusal(MSGPACK, frame)
    assert not isinstance(error, Malformed)
    assert error.id is None
    assert option in error.message


@pytest.mark.parametrize(
    "frame", [b'{"id":7,"x":NaN', b'{"id":7,x:NaN}', b'[{"id":7,"x":NaN}]', b"NaN"]
)
def test_what_nobody_can_read_stays_a_strike(frame: bytes) -> None:
    assert isinstance(refusal(JSON, frame), Malformed)


def test_a_lenient_reading_takes_no_time_that_grows_faster_than_the_frame() -> None:
    # Quadratic, these took minutes: nothing here judges time but the test's own timeout.
    for filling in (b'"\\' * 500_000, b"[" * 500_000, b'{"a":' * 200_000):
        with pytest.raises(BadRequest):
            JSON.decode(b'{"id":7,"data":' + filling)
        with pytest.raises(BadRequest):
            JSON.decode(b'{"id":7,"data":' + deep(5_000).encode() + b"," + filling)


# Numbers -----------------------------------------------------------------------------------------


def doubles(plain: Any) -> Any:
    """Return a command as JavaScript's libraries may write it: every number is a double."""
    if isinstance(plain, dict):
        return {key: doubles(value) for key, value in plain.items()}
    return float(plain) if type(plain) is int else plain


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
@pytest.mark.parametrize(
    ("plain", "command"),
    [
        ({"type": "ping", "id": 1_795_875_303_123}, Ping(id=1_795_875_303_123)),
        ({"type": "ping", "id": MAX_ID}, Ping(id=MAX_ID)),
        (
            {"type": "subscribe", "id": 1, "topic": "a", "since": {"epoch": "e", "seq": 2**40}},
            Subscribe(id=1, topic="a", since=Position("e", 2**40)),
        ),
        ({"type": "subscribe", "topic": "a", "last": 5}, Subscribe(topic="a", last=5)),
        (
            {"type": "history", "id": 2, "topic": "a", "before": 2**33, "limit": 300},
            History(id=2, topic="a", before=2**33, limit=300),
        ),
        ({"type": "history", "topic": "a", "after": 0}, History(topic="a", after=0)),
    ],
)
def test_whole_doubles_are_integers(codec: Codec, plain: dict[str, Any], command: Any) -> None:
    frame = pack(doubles(plain)) if codec.binary else json.dumps(doubles(plain)).encode()
    assert codec.decode(frame) == command


class Edit(TopicCommand):
    """A command with integer fields that no command of ours has."""

    target: Annotated[int, Meta(ge=1)]
    version: int | None = None


@pytest.mark.parametrize("kind", [JsonCodec, MsgpackCodec])
def test_integer_fields_of_a_new_command_may_be_doubles(kind: Any) -> None:
    codec: Codec = kind({Edit: Row(grant="publish")})
    plain = doubles({"type": "edit", "id": 1, "topic": "a", "target": 2**40, "version": 2**33})
    payload = pack(plain) if codec.binary else json.dumps(plain).encode()
    assert codec.decode(payload) == Edit(id=1, topic="a", target=2**40, version=2**33)


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_other_mistakes_beside_a_double_are_still_mistakes(codec: Codec) -> None:
    for wrong in (
        {"limit": "5"},
        {"limit": 5.5},
        {"before": -1.0},
        {"topic": 1.0},
    ):
        plain = {"type": "history", "id": 7.0, "topic": "a", **wrong}
        error = refusal(codec, pack(plain) if codec.binary else json.dumps(plain).encode())
        assert error.id == 7
        assert error.message.startswith(f"{next(iter(wrong))}: ")


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (1_795_875_303_123.0, b"1795875303123"),
        (-(2.0**40), b"-1099511627776"),
        (2.0**53, b"9007199254740992"),
        (20.0, b"20"),
        (0.0, b"0"),
        (-0.0, b"-0.0"),
        (0.5, b"0.5"),
        (2.0**53 + 2, b"9007199254740994.0"),
    ],
)
def test_a_whole_double_is_an_integer_to_json_subscribers(number: float, text: bytes) -> None:
    for form in (pack(number), *single(number)):
        command = MSGPACK.decode(msgpack_publish(pack({"a": 0, "b": [0, 1]}).replace(b"\0", form)))
        assert isinstance(command, Publish)
        assert bytes(command.data) == b'{"a":%s,"b":[%s,1]}' % (text, text)


def single(number: float) -> list[bytes]:
    """Return a number as a float of 32 bits, if that holds it."""
    form = struct.pack(">Bf", 0xCA, number)
    return [form] if struct.unpack(">f", form[1:]) == (number,) else []


SAFE = [2**32, 1_795_875_303_123, 2**53, -(2**31) - 1, -(2**53)]
OTHERS = [2**32 - 1, -(2**31), 0, 2**53 + 1, 2**64 - 1, -(2**63), "π ӏ \xcf\xd3", "é" * 300]


def test_msgpack_writes_integers_so_that_javascript_reads_numbers() -> None:
    data = {"safe": SAFE, "others": OTHERS, "deep": [{"n": [2**40]}]}
    push = {
        "type": "message",
        "topic": "a",
        "seq": 2**33,
        "at": SAFE[1],
        "from": None,
        "data": data,
    }
    frame = MSGPACK.transcode(msgspec.json.encode(push))
    read = msgspec.msgpack.decode(frame)
    assert read == push
    numbers = [read["seq"], read["at"], *read["data"]["safe"], *read["data"]["deep"][0]["n"]]
    assert {type(number) for number in numbers} == {float}
    assert [type(other) for other in read["data"]["others"]] == [int] * 6 + [str] * 2


def test_answers_in_msgpack_hold_numbers_for_javascript() -> None:
    ok = PublishOk(topic="a", seq=2**33, epoch="e", at=SAFE[1], duplicate=False)
    read = msgspec.msgpack.decode(MSGPACK.encode_ok(SAFE[1], ok))
    assert [type(read[name]) for name in ("id", "seq", "at")] == [float] * 3
    assert (read["id"], read["at"]) == (SAFE[1], SAFE[1])
    message: Any = msgspec.Raw(MSGPACK.transcode(b'{"type":"message","seq":1,"at":%d}' % SAFE[1]))
    found = HistoryOk(topic="a", epoch="e", messages=[message], more=False)
    read = msgspec.msgpack.decode(MSGPACK.encode_ok(SAFE[1], found))
    assert type(read["id"]) is type(read["messages"][0]["at"]) is float


# Maps --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "passed_on"),
    [
        ('{"a":1,"a":2}', '{"a":2}'),
        ('{"a":1,"b":2,"a":3}', '{"a":3,"b":2}'),
        ('[{"x":{"a":1,"a":[]}}]', '[{"x":{"a":[]}}]'),
        ('{"a":1,"\\u0061":2}', '{"a":2}'),
        ('{"a":"\\u003a","a":"\\u003A"}', '{"a":":"}'),
        ('{"a":1,"a":"\\u003a"}', '{"a":":"}'),
        ('{ "a" : ":::" , "b" : {"a":1} }', '{ "a" : ":::" , "b" : {"a":1} }'),
        ('[{"a":1},{"a":1}]', '[{"a":1},{"a":1}]'),
    ],
)
def test_of_a_key_that_comes_twice_the_last_counts(data: str, passed_on: str) -> None:
    command = JSON.decode(json_publish(data.encode()))
    assert isinstance(command, Publish)
    assert bytes(command.data).decode() == passed_on
    assert decode_body(data) == passed_on


def test_of_a_key_that_comes_twice_in_msgpack_the_last_counts() -> None:
    assert decoded_data(MSGPACK, msgpack_publish(b"\x82\xa1a\x01\xa1a\x02")) == {"a": 2}


@pytest.mark.parametrize(
    "data", ['{"__proto__":1}', '[{"a":{"__proto__":{}}}]', '{"\\u005f_proto\\u005F_":null}']
)
@pytest.mark.parametrize("kind", ["publish", "signal"])
def test_no_key_may_name_a_prototype(kind: str, data: str) -> None:
    """`@msgpack/msgpack` throws such a message away as a whole."""
    in_json = js(type=f'"{kind}"', data=data)
    in_msgpack = pack(COMMAND | {"type": kind, "data": json.loads(data)})
    for error in (refusal(JSON, in_json), refusal(MSGPACK, in_msgpack)):
        assert (error.id, error.message[:39]) == (7, "data: must not have the key __proto__, ")
    with pytest.raises(BadRequest, match="__proto__"):
        decode_body(data)


@pytest.mark.parametrize("data", ["__proto__", {"a": "__proto__"}, {"constructor": 1, "proto": 2}])
def test_text_may_name_a_prototype(data: Any) -> None:
    assert decoded_data(JSON, json_publish(json.dumps(data).encode())) == data
    assert decoded_data(MSGPACK, msgpack_publish(pack(data))) == data


def test_extensions_are_walked_over() -> None:
    for size in (1, 2, 4, 8, 16, 3, 300, 70_000):
        frame = pack({"x": Ext(5, b"y" * size), None: 1, "id": 7, "b": b"z" * size})
        assert refusal(MSGPACK, frame).id == 7
        assert isinstance(refusal(MSGPACK, frame[:-1]), Malformed)
