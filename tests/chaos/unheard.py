"""Changes that no worker hears of: events and presence; no later push would reveal them."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from typing import TypeVar

import msgspec

from chat_server.broker.redis.broker import RedisBroker
from chat_server.events import Draft, Event, Kind, Retention
from chat_server.presence import Attendance, Attended, Member
from chat_server.protocol.errors import Unavailable
from chat_server.settings import BrokerSettings, RedisSettings
from loadtest.wire import LoadError

from ..rig.redis_server import RedisServer
from .history import Ack
from .payloads import payload_of
from .system import HISTORY, System, has_presence

NAME = "probe"
PATIENCE_SECONDS = 60.0
RETRY_SECONDS = 0.05
HISTORY_SECONDS = 86_400.0

BROKER = BrokerSettings(presence_lease_seconds=600.0)
"""Only the end of the context ends the lease of the arriving user."""

T = TypeVar("T")


@asynccontextmanager
async def unheard(
    system: System,
    topics: Sequence[str],
    number: int,
    meanwhile: Callable[[], Awaitable[object]],
) -> AsyncIterator[list[Ack]]:
    """Store an event in each topic while no worker has a connection to the store.

    In topics with presence the user `NAME` arrives as well, and leaves at the end of the context.

    Args:
        system: the server; its workers reach the store again within the context.
        topics: the topics.
        number: distinguishes the events' names from those of other calls.
        meanwhile: called while the workers are disconnected.

    Returns:
        The places of the events.

    Raises:
        LoadError: the store does not accept the events.
    """
    brokers: dict[RedisServer, RedisBroker] = {}
    async with AsyncExitStack() as stack:
        # Before the workers are cut off: they are to be away no longer than it takes.
        for topic in topics:
            server = system.server_of(topic)
            if server not in brokers:
                opened = _opened(server, topic if system.sharded else "")
                brokers[server] = await stack.enter_async_context(opened)
        attended = [(brokers[system.server_of(t)], t) for t in topics if has_presence(t)]
        with ExitStack() as cut:
            for shard in system.shards:
                cut.enter_context(shard.proxy.refusing())
                shard.proxy.cut()
            acks = [
                await _store(brokers[system.server_of(topic)], topic, f"{NAME}-{number}-{topic}")
                for topic in topics
            ]
            for broker, topic in attended:
                entered = await _attend(broker, topic, number, 1)
                assert entered.known, "the user could not enter"
            await meanwhile()
        yield acks
        # The workers write last, so keys live as long as their leases say. If a busy machine kept
        # all workers from writing for longer, the user has left already.
        for broker, topic in attended:
            await _attend(broker, topic, number, 0)


class _Nobody:
    """A listener that ignores all events."""

    def on_events(self, events: Sequence[Event]) -> None:
        pass

    def on_lost(self, topics: Iterable[str] | None = None) -> None:
        pass

    def on_restored(self, topics: Iterable[str] | None = None) -> None:
        pass


@asynccontextmanager
async def _opened(server: RedisServer, home: str) -> AsyncIterator[RedisBroker]:
    """Open a broker as a worker does, past the proxy.

    Args:
        home: a topic of this server, if the server is a node of a cluster.
    """
    settings = RedisSettings(url=f"redis://127.0.0.1:{server.port}/0")
    broker = RedisBroker(settings, BROKER, sharded=bool(home))
    broker.set_hash_tag(home)
    await broker.start(_Nobody())
    try:
        yield broker
    finally:
        await broker.stop()


async def _store(broker: RedisBroker, topic: str, name: str) -> Ack:
    """Store an event."""
    place = await _insist(topic, lambda: broker.publish(_draft(topic, name)))
    return Ack(NAME, topic, place.epoch, place.seq, name)


async def _attend(broker: RedisBroker, topic: str, number: int, connections: int) -> Attended:
    """Write the number of connections of the user `NAME`, as a separate worker."""
    member = Member(NAME, connections, b'{"user":"%b"}' % NAME.encode())
    # A repetition need not have a higher number: it is made if nothing was sent.
    attendance = Attendance(
        topic=topic,
        lease=f"{NAME}.{number}",
        members=(member,),
        number=2 - connections,
        confirmed=1 - connections,
    )
    return await _insist(topic, lambda: broker.presence.write(attendance))


async def _insist(topic: str, call: Callable[[], Awaitable[T]]) -> T:
    """Repeat a call: a node after a fault may not have found the other nodes yet."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return await call()
        except Unavailable as error:
            if time.monotonic() > deadline:
                raise LoadError(f"{topic} cannot be written past the workers: {error}") from None
            await asyncio.sleep(RETRY_SECONDS)


def _draft(topic: str, name: str) -> Draft:
    data = msgspec.json.encode(payload_of(name))
    return Draft(
        topic=topic,
        kind=Kind.MESSAGE,
        head=b'{"type":"message","topic":"%s","seq":' % topic.encode(),
        tail=b',"from":null,"data":%s}' % data,
        content=len(data) + 1,
        retention=Retention(HISTORY[topic.partition(":")[0]], HISTORY_SECONDS),
        key=name,
    )
