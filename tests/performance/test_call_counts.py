"""Bounds on the Python calls of a publication and of a resume, from socket to socket."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import msgspec
import pytest

from chat_server.broker.memory import MemoryBroker
from chat_server.broker.redis.broker import RedisBroker
from chat_server.clock import SystemClock
from chat_server.protocol.commands import Publish
from chat_server.realtime.node import Node
from chat_server.realtime.ports import Broker
from chat_server.service.actor import Application
from chat_server.service.operations import OPERATIONS
from chat_server.service.publishing import command_of
from chat_server.service.service import Service
from chat_server.settings import Namespace, RedisSettings, Settings

from ..realtime.world import FakeVerifier
from ..rig.redis_server import RedisServer, running
from ..rig.waiting import until_async
from .calls import Calls, Peer

ROOM = "room:a"
# No look at the loopback of pub/sub within a test.
QUIET = RedisSettings(canary_seconds=3_600.0)

PUBLICATION = {"memory": 70, "redis": 92}
"""From the bytes of the publisher's frame to the subscriber's frame and the publisher's `ok`."""


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running(RedisServer(tmp_path_factory.mktemp("redis"))) as started:
        yield started


@pytest.fixture
def broker(request: pytest.FixtureRequest, store: str) -> Broker:
    settings = Settings()
    if store == "memory":
        return MemoryBroker(settings.broker, SystemClock())
    url = request.getfixturevalue("redis").url
    return RedisBroker(msgspec.structs.replace(QUIET, url=url), settings.broker)


@asynccontextmanager
async def serving(broker: Broker, settings: Settings | None = None) -> AsyncIterator[Service]:
    node = Node(settings or Settings(), broker, SystemClock(), "here")
    service = Service(node, FakeVerifier(), OPERATIONS)
    await node.start()
    await until_async(lambda: _is_ready(broker))
    try:
        yield service
    finally:
        await node.stop()


async def _is_ready(broker: Broker) -> bool:
    return (await broker.health()).status == "ok"


async def subscribed(service: Service, user: str, topic: str = ROOM) -> Peer:
    peer = Peer(service, user)
    peer.say(type="subscribe", topic=topic, id=1)
    await peer.hears(b'"id":1')
    peer.forget()
    return peer


@pytest.mark.parametrize("store", PUBLICATION)
async def test_a_publication(broker: Broker, store: str) -> None:
    calls = await publication_calls(broker)
    print(f"{calls}\n{calls.total:4} {store}")
    assert calls.total <= PUBLICATION[store], f"\n{calls}"


@pytest.mark.parametrize("store", ["memory"])
async def test_a_publication_where_there_is_presence(broker: Broker, store: str) -> None:
    """Each batch of events is looked through for changes of presence, and that is all."""
    present = Settings(namespaces={"default": Namespace(presence=True)})
    another = MemoryBroker(present.broker, SystemClock())
    calls = await publication_calls(broker), await publication_calls(another, present)
    assert calls[1].total - calls[0].total <= 1, f"\n{calls[1]}"


@pytest.mark.parametrize("store", ["memory"])
async def test_who_publishes_where_he_listens_is_written_to_once(
    broker: Broker, store: str
) -> None:
    async with serving(broker) as service:
        writer, reader = await subscribed(service, "ada"), await subscribed(service, "bob")
        for peer in (writer, reader):
            peer.socket.writes = 0
        writer.say(type="publish", topic=ROOM, data="hello", id=9)
        await writer.hears(b'"seq":1')
        await reader.hears(b'"seq":1')
        assert writer.socket.written.index(b'"ok"') < writer.socket.written.index(b'"message"')
        assert (writer.socket.writes, reader.socket.writes) == (1, 1)
        # What no event follows is written as well.
        writer.forget()
        writer.say(type="ping", id=10)
        await writer.hears(b'"pong"')
        for peer in (reader, writer):
            peer.socket.lose()


async def publication_calls(broker: Broker, settings: Settings | None = None) -> Calls:
    """Return the calls of a publication that one subscriber receives."""
    async with serving(broker, settings) as service:
        reader = await subscribed(service, "bob")
        writer = Peer(service, "ada")
        for number in range(3):  # what happens once is no part of the price
            writer.say(type="publish", topic=ROOM, data=number, id=number + 1)
            await writer.hears(b'"id":%d' % (number + 1))
            await reader.hears(b'"seq":%d' % (number + 1))
        with Calls() as calls:
            writer.say(type="publish", topic=ROOM, data={"text": "hello"}, id=9)
            await writer.hears(b'"id":9')
            await reader.hears(b'"seq":4')
        for peer in (reader, writer):
            peer.socket.lose()
    return calls


MISSED = 1
"""Events that a client has missed; each more costs five calls."""

RESUME = {"open": (110, 1), "not open": (152, 2)}
"""Calls from the bytes of `subscribe` to its `ok` and the last event, and round trips to Redis.

Of a topic without subscribers on this worker the channel is subscribed to before the read.
"""


@pytest.mark.parametrize("topic", RESUME)
@pytest.mark.parametrize("store", ["redis"])
async def test_a_resume(broker: Broker, store: str, topic: str) -> None:
    async with serving(broker) as service:
        # Another resume first: scripts are loaded, connections are made.
        await resume(service, "warm:a", opened=True)
        calls = await resume(service, f"room:{topic[0]}", opened=topic == "open")
    writes = calls.counted["broker.redis.connection:RedisPyConnection.write"]
    print(f"{calls}\n{calls.total:4} {topic}, {writes} round trips")
    most_calls, round_trips = RESUME[topic]
    assert writes <= round_trips, f"\n{calls}"
    assert calls.total <= most_calls, f"\n{calls}"


async def resume(service: Service, topic: str, *, opened: bool) -> Calls:
    """Return the calls of a client that comes back to a topic and has missed some events."""
    actor = Application()
    places = [
        await service.perform(actor, command_of(Publish, topic, n)) for n in range(MISSED + 1)
    ]
    peers = [Peer(service, "bob")]
    if opened:
        peers.append(await subscribed(service, "eve", topic))
    with Calls() as calls:
        since = {"epoch": places[0].epoch, "seq": places[0].seq}
        peers[0].say(type="subscribe", topic=topic, since=since, id=1)
        await peers[0].hears(b'"seq":%d' % places[-1].seq)
        await peers[0].hears(b'"data":%d}' % MISSED)
    assert b'"recovered":true' in peers[0].socket.written
    for peer in peers:
        peer.socket.lose()
    return calls
