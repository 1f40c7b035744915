"""Both decoders against anything: a command or a documented error, and `data` that can go on."""

import json
import math
from typing import Any

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from chat_server.protocol.codecs import CODECS, JSON, MSGPACK, Codec
from chat_server.protocol.commands import MAX_ID, Command, Publish, Signal
from chat_server.protocol.errors import BadRequest, Malformed
from chat_server.protocol.messages import Error
from chat_server.protocol.nesting import BadData, check_msgpack

from ..rig.fake_transport import as_client

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda children: (
        st.lists(children, max_size=5) | st.dictionaries(st.text("ab\0é\u2028"), children)
    ),
    max_leaves=20,
)
"""Every value that `data` may be."""

COMMANDS = st.builds(
    lambda kind, fields: {"type": kind, **fields},
    st.sampled_from(["auth", "subscribe", "unsubscribe", "publish", "signal", "history", "ping"]),
    st.fixed_dictionaries(
        {"topic": st.just("room:a"), "token": st.just("t"), "data": VALUES},
        optional={
            "id": st.integers(1, MAX_ID),
            "key": st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=64),
            "since": st.fixed_dictionaries(
                {"epoch": st.text("ab", max_size=64), "seq": st.integers(0, 2**53 - 1)}
            ),
            "last": st.integers(1, 300),
            "before": st.integers(0, 2**53 - 1),
        },
    ),
)

MUTATIONS = st.lists(
    st.tuples(st.integers(0, 10_000), st.binary(max_size=4), st.integers(0, 4)), max_size=3
)
"""Places, what is put there, and how many bytes it replaces."""


def mutate(frame: bytes, mutations: list[tuple[int, bytes, int]]) -> bytes:
    for place, inserted, removed in mutations:
        at = place % (len(frame) + 1)
        frame = frame[:at] + inserted + frame[at + removed :]
    return frame


def decode(codec: Codec, frame: bytes) -> Command | BadRequest:
    """Return a command or its documented refusal; any other exception fails the test."""
    refused: BadRequest
    try:
        return codec.decode(frame)
    except BadRequest as error:
        refused = error
    if isinstance(refused, Malformed):
        assert refused.id is None
    assert refused.id is None or 1 <= refused.id <= MAX_ID
    report = Error(id=refused.id, code=refused.code, message=refused.message)
    assert as_client(codec, codec.encode(report))["message"] == refused.message
    return refused


def check_passes_on(command: Command | BadRequest) -> None:
    """Check that `data` reaches subscribers of both encodings, and browsers, as one value."""
    if not isinstance(command, Publish | Signal):
        return
    data = bytes(command.data)
    frame = b'{"type":"message","topic":"a","seq":1,"at":1,"from":null,"data":%s}' % data
    by_json = msgspec.json.decode(JSON.transcode(frame))
    by_msgpack = msgspec.msgpack.decode(MSGPACK.transcode(frame))
    assert same(by_json, by_msgpack)
    # The standard library stands for other readers of JSON: it shares no code with ours.
    assert same(json.loads(frame.decode(), parse_constant=no_constants), by_json)


def no_constants(name: str) -> Any:
    raise AssertionError(f"{name} is not JSON")


def same(one: Any, other: Any) -> bool:
    """Compare so that 1 and True differ, but not 1 and 1.0, nor the signs of zeros."""
    if isinstance(one, float) or isinstance(other, float):
        # JavaScript has one type of numbers: each may come as the other, where it is exact.
        numbers = all(type(number) in (int, float) for number in (one, other))
        return numbers and one == other and math.isfinite(one)
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


@settings(max_examples=300)
@given(st.binary(max_size=200))
@example(b"")
@example(b"\xef\xbb\xbf{}")
def test_any_bytes(frame: bytes) -> None:
    for codec in CODECS.values():
        check_passes_on(decode(codec, frame))


@settings(max_examples=300)
@given(st.binary(max_size=60))
def test_any_bytes_as_msgpack_data(data: bytes) -> None:
    frame = b"\x83\xa4type\xa7publish\xa5topic\xa1a\xa4data" + data
    check_passes_on(decode(MSGPACK, frame))


@settings(max_examples=300)
@given(st.text("""[]{}",:\\ue+-.0159 \n\t\x01truefalsN{"a":}\ud800é""", max_size=30))
def test_any_text_as_json_data(text: str) -> None:
    frame = b'{"type":"publish","topic":"a","data":%s}' % text.encode(errors="surrogatepass")
    check_passes_on(decode(JSON, frame))


@settings(max_examples=300)
@given(COMMANDS, MUTATIONS)
def test_mutated_commands(plain: dict[str, Any], mutations: list[tuple[int, bytes, int]]) -> None:
    check_passes_on(decode(JSON, mutate(msgspec.json.encode(plain), mutations)))
    check_passes_on(decode(MSGPACK, mutate(msgspec.msgpack.encode(plain), mutations)))


@given(COMMANDS)
def test_both_encodings_say_the_same(plain: dict[str, Any]) -> None:
    by_json = JSON.decode(msgspec.json.encode(plain))
    by_msgpack = MSGPACK.decode(msgspec.msgpack.encode(plain))
    if isinstance(by_json, Publish | Signal):
        assert isinstance(by_msgpack, Publish | Signal)
        assert same(json.loads(bytes(by_json.data)), json.loads(bytes(by_msgpack.data)))
        assert same(json.loads(bytes(by_json.data)), plain["data"])
        by_json.data = by_msgpack.data
    assert by_json == by_msgpack


@settings(max_examples=300)
@given(st.binary(max_size=60))
def test_the_check_of_msgpack_agrees_with_what_is_built(data: bytes) -> None:
    """What passes is built of JSON's types only, and what does not pass has others."""
    try:
        value = msgspec.msgpack.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return
    try:
        check_msgpack(data)
    except BadData:
        assert not expressible(value)
    else:
        assert expressible(value)


def expressible(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and expressible(value[key]) for key in value)
    if isinstance(value, list):
        return all(map(expressible, value))
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, str | int | bool)
