"""Who is in a topic, as an answer: to `presence`, and to `subscribe` with `presence: true`."""

from contextlib import suppress
from typing import Any

import pytest

from chat_server.auth.claims import Claims
from chat_server.broker.memory import MemoryBroker
from chat_server.protocol.commands import Presence
from chat_server.protocol.errors import BadRequest, Forbidden, RateLimited
from chat_server.realtime.node import Node
from chat_server.service.actor import Actor, Application
from chat_server.service.operations import OPERATIONS
from chat_server.service.service import Service
from chat_server.sessions.connection import Connection
from chat_server.settings import LimitSettings, Namespace, Settings, SettingsError

from ..realtime.world import FakeVerifier, World, claims
from ..rig.clock import ManualClock
from ..rig.fake_transport import FakeTransport
from ..rig.fakes import FakeBroker, turns

TOPIC = "team:a"
SETTINGS = Settings(
    namespaces={"default": Namespace(), "team": Namespace(presence=True)},
    limits=LimitSettings(slow_buffer_bytes=1_000, read_burst_bytes=2_000),
)


class Team:
    """A worker with presence in `team:…`."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        broker = MemoryBroker(SETTINGS.broker, self.clock)
        self.node = Node(SETTINGS, broker, self.clock, "here")
        self.service = Service(self.node, FakeVerifier(), OPERATIONS)
        self.transports: list[FakeTransport] = []

    def connect(self, sub: str, **of_token: Any) -> FakeTransport:
        transport = FakeTransport()
        connection = Connection(self.service, transport, "10.0.0.1")
        transport.receiver = connection
        self.transports.append(transport)
        connection.start(Claims(sub=sub, topics=claims().topics, **of_token))
        return transport

    async def subscribe(self, sub: str, topic: str = TOPIC, **fields: Any) -> FakeTransport:
        transport = self.connect(sub)
        transport.say(type="subscribe", id=1, topic=topic, **fields)
        await turns()
        assert transport.of_type("ok"), transport.messages
        return transport

    async def read(self, actor: Actor | None = None, **fields: Any) -> Any:
        command = Presence(**{"topic": TOPIC, **fields})
        return await self.service.perform(actor or Actor(claims("reader")), command)

    async def names(self, **fields: Any) -> list[str]:
        ok = await self.read(**fields)
        return [bytes(user).decode().split('"')[3] for user in ok.users]


@pytest.fixture
async def team() -> Any:
    team = Team()
    await team.node.start()
    yield team
    for transport in team.transports:
        transport.lose()
    await team.node.stop()
    presence = team.node.presence
    assert presence is not None
    assert (presence._roster._rooms, presence._watchers) == ({}, {})


async def test_the_grant_is_needed(team: Team) -> None:
    with pytest.raises(Forbidden, match="does not allow presence here"):
        await team.read(Actor(claims(subscribe=("**",))))
    assert (await team.read(Application())).count == 0


async def test_so_is_a_namespace_that_has_it(team: Team, world: World) -> None:
    with pytest.raises(BadRequest, match=r"^presence: is switched off in the namespace"):
        await team.read(topic="room:a")
    with pytest.raises(BadRequest, match=r"^presence: is switched off in the namespace"):
        await world.service.perform(Actor(claims()), Presence(topic="room:a"))
    transport = team.connect("ada")
    transport.say(type="subscribe", id=1, topic="room:a", presence=True)
    await turns()
    (error,) = transport.of_type("error")
    assert (error["code"], error["topic"]) == ("bad_request", "room:a")


async def test_everybody_who_is_subscribed_is_there(team: Team) -> None:
    ada = await team.subscribe("ada", presence=True)
    await team.subscribe("bob")
    await team.subscribe("carol", last=1)
    await team.subscribe("eve", "room:a")
    assert await team.names() == ["ada", "bob", "carol"]
    assert await team.names(after="ada", limit=1) == ["bob"]
    (ok,) = ada.of_type("ok")
    assert ok["presence"] == {
        "topic": TOPIC,
        "count": 1,
        "connections": 1,
        "users": [{"user": "ada", "connections": 1}],
        "more": False,
    }


async def test_the_ok_comes_before_whoever_comes(team: Team) -> None:
    ada = team.connect("ada")
    ada.say(type="subscribe", id=1, topic=TOPIC, presence=True)
    bob = team.connect("bob")
    bob.say(type="subscribe", id=1, topic=TOPIC)
    await turns()
    types = [message["type"] for message in ada.messages]
    assert types[:2] == ["welcome", "ok"]
    assert "bob" in [push["user"] for push in ada.of_type("join")]
    assert not bob.of_type("join"), "he did not ask for it"


async def test_a_new_token_has_the_name_that_is_listed(team: Team) -> None:
    ada = await team.subscribe("ada", presence=True)
    verifier = team.service.verifier
    assert isinstance(verifier, FakeVerifier)
    verifier.tokens["new"] = Claims(sub="ada", topics=claims().topics, name="Ada L.")
    ada.say(type="auth", id=2, token="new")
    await turns()
    ok = await team.read()
    assert [bytes(user) for user in ok.users] == [b'{"user":"ada","name":"Ada L.","connections":1}']
    assert ok.connections == 1
    assert [push["user"] for push in ada.of_type("join", "leave")] == ["ada"]


async def test_an_answer_has_what_fits(team: Team) -> None:
    for number in range(30):
        transport = team.connect(f"u{number:02}", info={"text": "x" * 100})
        transport.say(type="subscribe", topic=TOPIC)
    await turns()
    ok = await team.read()
    assert (ok.count, ok.more) == (30, True)
    assert 1 < len(ok.users) < 10


async def test_reading_counts(team: Team) -> None:
    for number in range(30):
        transport = team.connect(f"u{number:02}", info={"text": "x" * 100})
        transport.say(type="subscribe", topic=TOPIC)
    await turns()
    with suppress(RateLimited):
        for _ in range(5):
            await team.read()
    with pytest.raises(RateLimited, match="too much was read"):
        await team.read()
    transport = team.connect("reader")
    transport.say(type="subscribe", id=1, topic=TOPIC, presence=True)
    await turns()
    (error,) = transport.of_type("error")
    assert (error["code"], error["topic"]) == ("rate_limited", TOPIC)
    assert "reader" not in await team.names(actor=Actor(claims("other")))


async def test_one_who_leaves_at_once_is_not_counted(team: Team) -> None:
    transport = team.connect("ada")
    transport.say(type="subscribe", id=1, topic=TOPIC, presence=True)
    transport.lose()
    await turns()
    presence = team.node.presence
    assert presence is not None
    assert not presence._roster._rooms.get(TOPIC)


def test_a_broker_without_it_is_refused() -> None:
    with pytest.raises(SettingsError, match="presence needs a broker that keeps it"):
        Node(SETTINGS, FakeBroker(), ManualClock(), "here")
