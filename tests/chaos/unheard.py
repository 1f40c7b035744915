"""Store events that no worker hears, and after which no event follows that would show the hole."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import msgspec

from chat_server.broker.redis.broker import RedisBroker
from chat_server.events import Draft, Event, Kind, Retention
from chat_server.protocol.errors import Unavailable
from chat_server.settings import BrokerSettings, RedisSettings
from loadtest.wire import LoadError

from ..rig.redis_server import RedisServer
from .history import Ack
from .payloads import payload_of
from .system import HISTORY, System

NAME = "probe"
PATIENCE_SECONDS = 20.0
RETRY_SECONDS = 0.05
HISTORY_SECONDS = 86_400.0


async def store_unheard(system: System, topics: Sequence[str], number: int) -> list[Ack]:
    """Store an event in each topic while no worker has a connection to the store.

    Args:
        number: makes the events' names differ from those of other calls.

    Returns:
        Their places.

    Raises:
        LoadError: the store does not take them.
    """
    brokers: dict[RedisServer, RedisBroker] = {}
    async with AsyncExitStack() as stack:
        # Before the workers are cut off: they are to be away no longer than it takes.
        for topic in topics:
            server = system.server_of(topic)
            if server not in brokers:
                opened = _opened(server, topic if system.sharded else "")
                brokers[server] = await stack.enter_async_context(opened)
        for shard in system.shards:
            stack.enter_context(shard.proxy.refusing())
            shard.proxy.cut()
        return [
            await _store(brokers[system.server_of(topic)], topic, f"{NAME}-{number}-{topic}")
            for topic in topics
        ]


class _Nobody:
    """A listener that wants to know nothing."""

    def on_events(self, events: Sequence[Event]) -> None:
        pass

    def on_lost(self, topics: Iterable[str] | None = None) -> None:
        pass

    def on_restored(self, topics: Iterable[str] | None = None) -> None:
        pass


@asynccontextmanager
async def _opened(server: RedisServer, home: str) -> AsyncIterator[RedisBroker]:
    """Speak with a server as a worker does, past the proxy before it.

    Args:
        home: a topic that it serves, if it is one of a cluster.
    """
    settings = RedisSettings(url=f"redis://127.0.0.1:{server.port}/0")
    broker = RedisBroker(settings, BrokerSettings(), sharded=bool(home))
    broker.set_hash_tag(home)
    await broker.start(_Nobody())
    try:
        yield broker
    finally:
        await broker.stop()


async def _store(broker: RedisBroker, topic: str, name: str) -> Ack:
    """Store an event; a node that was just struck may not have found the others yet."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            place = await broker.publish(_draft(topic, name))
        except Unavailable as error:
            if time.monotonic() > deadline:
                raise LoadError(f"{topic} cannot be stored past the workers: {error}") from None
            await asyncio.sleep(RETRY_SECONDS)
        else:
            return Ack(NAME, topic, place.epoch, place.seq, name)


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
