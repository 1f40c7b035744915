"""A field that is null is one that is left out, in every command, encoding and door."""

import json
from typing import Any

import msgspec
import pytest

from chat_server.protocol.codecs import CODECS, JSON, Codec
from chat_server.protocol.command_table import COMMANDS
from chat_server.protocol.commands import Command
from chat_server.protocol.errors import BadRequest

LEAST: dict[str, dict[str, Any]] = {
    "auth": {"token": "t"},
    "subscribe": {"topic": "a"},
    "unsubscribe": {"topic": "a"},
    "publish": {"topic": "a", "data": None},
    "signal": {"topic": "a", "data": None},
    "edit": {"topic": "a", "seq": 1, "data": None},
    "append": {"topic": "a", "seq": 1, "text": "b"},
    "delete": {"topic": "a", "seq": 1},
    "react": {"topic": "a", "seq": 1, "emoji": "x"},
    "history": {"topic": "a"},
    "presence": {"topic": "a"},
    "read": {"topic": "a", "seq": 1},
    "unread": {"topics": ["a"]},
    "call": {"method": "m", "data": None},
    "ping": {},
}
KINDS = {str(kind.__struct_config__.tag): kind for kind in COMMANDS}


def optional(kind: type[Command]) -> list[str]:
    return [field.name for field in msgspec.structs.fields(kind) if not field.required]


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
@pytest.mark.parametrize("name", KINDS)
def test_each_field_that_may_be_left_out_may_be_null(name: str, codec: Codec) -> None:
    least = {"type": name, **LEAST[name]}
    nulls = least | dict.fromkeys(optional(KINDS[name]))
    encode = msgspec.json.encode if codec is JSON else msgspec.msgpack.encode
    assert codec.decode(encode(nulls)) == codec.decode(encode(least))


@pytest.mark.parametrize("name", sorted({*KINDS} - {"auth", "call", "ping", "unread"}))
def test_the_same_by_http(name: str) -> None:
    kind, address = KINDS[name], {"topic": "a"}
    least = {key: value for key, value in LEAST[name].items() if key != "topic"}
    nulls = least | dict.fromkeys(optional(kind))
    found = JSON.decode_body(json.dumps(nulls).encode(), kind, address)
    assert found == JSON.decode_body(json.dumps(least).encode(), kind, address)


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_a_field_that_must_be_there_may_not_be_null(codec: Codec) -> None:
    encode = msgspec.json.encode if codec is JSON else msgspec.msgpack.encode
    with pytest.raises(BadRequest, match="topic: expected `str`, got") as caught:
        codec.decode(encode({"type": "publish", "id": 7, "topic": None, "data": 1}))
    assert caught.value.id == 7


def test_null_is_data() -> None:
    command = JSON.decode(b'{"type":"edit","topic":"a","seq":1,"data":null,"key":null}')
    assert bytes(command.data) == b"null"  # type: ignore[attr-defined]
