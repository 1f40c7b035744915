"""Stored messages as an answer."""

from typing import Any

import msgspec
import pytest

from chat_server.events import Kind
from chat_server.protocol.codecs import CODECS, JSON, MSGPACK, Codec
from chat_server.protocol.commands import History
from chat_server.protocol.errors import BadRequest, Forbidden
from chat_server.service.actor import Actor

from ..realtime.world import World, claims
from ..rig.fake_transport import as_client
from ..rig.fakes import NO_JSON


async def read(
    world: World,
    actor: Actor | None = None,
    *,
    codec: Codec = JSON,
    before: int | None = None,
    after: int | None = None,
    limit: int = 10,
) -> Any:
    actor = actor or Actor(claims())
    actor.codec = codec
    command = History(topic="room:a", before=before, after=after, limit=limit)
    return await world.service.perform(actor, command)


async def test_history_needs_its_grant(world: World) -> None:
    with pytest.raises(Forbidden, match="does not allow history here"):
        await read(world, Actor(claims(publish=("**",))))


async def test_history_from_one_end_only(world: World) -> None:
    with pytest.raises(BadRequest, match=r"^before, after: only one of them may be given$"):
        await read(world, before=0, after=0, limit=1)


async def test_history_holds_messages_only(world: World) -> None:
    broker = world.broker
    broker.store("room:a")
    other = msgspec.structs.replace(broker.store("room:a"), kind=Kind.EDITED)
    broker.topic("room:a").events[-1] = other
    ok = await read(world, codec=JSON, before=None, after=None, limit=10)
    assert [msgspec.json.decode(message)["seq"] for message in ok.messages] == [1]


async def test_each_message_is_decoded_once_for_messagepack(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        world.broker.store("room:a", {"n": number})
    decoded: list[bytes] = []
    decode = MSGPACK._from_json

    def counting(payload: bytes) -> Any:
        decoded.append(payload)
        return decode(payload)

    monkeypatch.setattr(MSGPACK, "_from_json", counting)
    ok = await read(world, codec=MSGPACK, limit=20)
    answer = MSGPACK.encode_ok(1, ok)
    assert len(as_client(MSGPACK, answer)["messages"]) == 20
    assert sum(b'"n":' in payload for payload in decoded) == 20
    assert max(payload.count(b'"n":') for payload in decoded) == 1


@pytest.mark.parametrize(
    ("before", "after", "size", "seqs"),
    [
        (None, None, 1_000, [3, 4, 5, 6]),
        (None, 0, 1_000, [1, 2, 3, 4]),
        (5, None, 1_000, [1, 2, 3, 4]),
        (6, None, 1_000, [2, 3, 4, 5]),
        (None, None, 10_000, [6]),
        (None, 2, 10_000, [3]),
    ],
)
async def test_history_is_bounded_in_bytes(
    before: int | None, after: int | None, size: int, seqs: list[int]
) -> None:
    world = World(slow_buffer_bytes=5_000)
    broker = world.broker
    for _ in range(6):
        broker.store("room:a", "x" * size)
    ok = await read(world, codec=JSON, before=before, after=after, limit=10)
    assert [msgspec.json.decode(message)["seq"] for message in ok.messages] == seqs
    assert ok.more is (seqs[0] != 1 if after is None else seqs[-1] != 6)


@pytest.mark.parametrize("codec", CODECS.values())
@pytest.mark.parametrize("payload", NO_JSON)
async def test_history_leaves_out_what_cannot_be_read(
    world: World, payload: bytes, codec: Codec, caplog: pytest.LogCaptureFixture
) -> None:
    broker = world.broker
    for data in ("one", "foreign", "Grüße"):
        broker.store("room:a", data)
    stored = broker.topic("room:a").events
    stored[1] = msgspec.structs.replace(stored[1], payload=payload)
    ok = await read(world, codec=codec, before=None, after=None, limit=10)
    assert [as_client(codec, bytes(message))["seq"] for message in ok.messages] == [1, 3]
    assert caplog.text.count("no JSON") == 1
