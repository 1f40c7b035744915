"""What is handed to the broker, whoever publishes."""

from typing import Any

import msgspec
import pytest

from chat_server.events import Draft, Kind, Retention
from chat_server.protocol.commands import Publish, Signal
from chat_server.protocol.errors import BadRequest, Forbidden, TooLarge
from chat_server.protocol.messages import PublishOk, TopicOk, User
from chat_server.service.actor import Actor, Application
from chat_server.service.publishing import command_of

from ..realtime.world import World, claims

ROOM = "room:a"


def publish(data: bytes = b"1", *, topic: str = ROOM, key: str | None = None) -> Publish:
    return Publish(topic=topic, data=msgspec.Raw(data), key=key)


async def test_a_draft_becomes_a_message(world: World) -> None:
    sender = User("alice", name='A "quoted" name\n', info={"é": 1})
    ok = await world.service.perform(Application(sender), publish(b'{"text":"hi"}', key="k"))
    assert ok == PublishOk(topic=ROOM, seq=1, epoch="epoch0", at=ok.at, duplicate=False)
    ((_, draft),) = world.broker.calls
    assert isinstance(draft, Draft)
    assert (draft.topic, draft.kind) == (ROOM, Kind.MESSAGE)
    assert msgspec.json.decode(draft.head + b'7,"at":8' + draft.tail) == {
        "type": "message",
        "topic": ROOM,
        "seq": 7,
        "at": 8,
        "from": {"user": "alice", "name": 'A "quoted" name\n', "info": {"é": 1}},
        "data": {"text": "hi"},
    }


async def test_keys_are_scoped_to_their_publisher(world: World) -> None:
    senders = [User("a"), User("b"), User("a:b"), User("a\0b"), None]
    keys = ["k", "b", "b:k", "b\0k"]
    for sender in senders:
        for key in (*keys, None):
            world.service.execute(Application(sender), publish(key=key))
    scoped = [call[1].key for call in world.broker.calls]
    assert scoped.count(None) == len(senders)
    assert len({*scoped} - {None}) == len(senders) * len(keys)


async def test_a_repetition_is_told_its_first_place(world: World) -> None:
    actor = Actor(claims())
    first = await world.service.perform(actor, publish(b"1", key="k"))
    again = await world.service.perform(actor, publish(b"2", key="k"))
    assert (first.duplicate, again.duplicate, again.seq) == (False, True, first.seq)


def test_a_namespace_decides_what_is_kept(world: World) -> None:
    retention = world.service.retention
    assert retention(ROOM) == Retention(1_000, 86_400.0, 16_777_216)
    assert retention("brief:a") == retention("brief")
    assert retention("brief").size == 0


async def test_a_signal_is_not_stored(world: World) -> None:
    command = Signal(topic=ROOM, data=msgspec.Raw(b'"typing"'))
    assert await world.service.perform(Actor(claims("bob")), command) == TopicOk(topic=ROOM)
    ((name, topic, payload),) = world.broker.calls
    assert (name, topic) == ("signal", ROOM)
    assert msgspec.json.decode(payload) == {
        "type": "signal",
        "topic": ROOM,
        "from": {"user": "bob"},
        "data": "typing",
        "at": 1_700_000_000_000,
    }


# Checks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Publish, Signal])
async def test_nothing_is_published_that_may_not_be(world: World, kind: Any) -> None:
    large = world.node.settings.limits.max_message_bytes + 1
    for actor, topic, size, error in (
        (Actor(claims()), "a b", 1, BadRequest),
        (Actor(claims(subscribe=("**",))), ROOM, 1, Forbidden),
        (Actor(), ROOM, 1, Forbidden),
        (Actor(claims()), ROOM, large, TooLarge),
        (Application(), "a b", 1, BadRequest),
        (Application(), ROOM, large, TooLarge),
    ):
        with pytest.raises(error):
            world.service.execute(actor, kind(topic=topic, data=msgspec.Raw(b"1" * size)))
    assert world.broker.calls == []


# Python values -----------------------------------------------------------------------------------


class Order(msgspec.Struct):
    text: str


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, b"null"),
        ({"text": "é", "n": [1, 2.5, True]}, '{"text":"é","n":[1,2.5,true]}'.encode()),
        (Order("new"), b'{"text":"new"}'),
        ({"at": float("1e300")}, b'{"at":1e+300}'),
        ([None, "NaN"], b'[null,"NaN"]'),
    ],
)
def test_a_value_becomes_json(value: object, text: bytes) -> None:
    assert msgspec.json.decode(
        command_of(Publish, ROOM, value, key="k").data
    ) == msgspec.json.decode(text)
    assert command_of(Publish, ROOM, value, key="k").key == "k"


def _endless() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    "value",
    [
        object(),
        {"a": {1, 2, object()}},
        float("nan"),
        {"a": [None, float("inf")]},
        2**64,
        {"__proto__": 1},
        "\ud800",
        _endless(),
    ],
    ids=["object", "set", "nan", "infinity", "large", "prototype", "surrogate", "endless"],
)
def test_a_value_without_json_is_refused(value: object) -> None:
    with pytest.raises(BadRequest, match=r"^data: "):
        command_of(Publish, ROOM, value)


@pytest.mark.parametrize("key", ["", "x" * 65])
def test_a_key_has_1_to_64_characters(key: str) -> None:
    with pytest.raises(BadRequest, match=r"^key: "):
        command_of(Publish, ROOM, 1, key=key)
