"""Presence: its costs for a worker, with a Redis on this machine.

The measurement runs in one process: the worker's presence module over the Redis broker, with
connections that only count pushes.
"""

import asyncio
import gc
import time
import tracemalloc
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from chat_server.broker.redis.broker import RedisBroker
from chat_server.events import Event
from chat_server.presence import PAGE_BYTES
from chat_server.protocol.codecs import JSON
from chat_server.realtime.drain import Drain
from chat_server.realtime.presence import TopicPresence
from chat_server.realtime.registry import Registry
from chat_server.realtime.roster import TOGETHER
from chat_server.settings import BrokerSettings, Namespace, RedisSettings, Settings
from chat_server.transports.encoders import AsgiEncoder

from .wire import LoadError

HEARTBEATS: Final = 10
PATIENCE_SECONDS: Final = 60.0
CROWD: Final = 1_000
"""Users that come within a second."""


class Costs(Struct):
    """The costs of presence.

    Args:
        connections: connections of the worker.
        topics: topics of the users, one topic for each user.
        bytes_per_connection: memory of the worker for each connection.
        heartbeat_ms: CPU of the worker to renew all its leases once, the median.
        page_ms: time until a page of 100 users of a full topic has come, the median.
        long_page_ms: the same with 1,000 users.
        pushes: pushes to a watcher of a large room while `CROWD` users come within a second.
    """

    connections: int
    topics: int
    bytes_per_connection: float
    heartbeat_ms: float
    page_ms: float
    long_page_ms: float
    pushes: int


def lines(costs: Costs) -> list[list[str]]:
    """Return the rows of a table, the header first."""
    where = f"{costs.connections:,} connections in {costs.topics:,} topics"
    return [
        ["what", "cost"],
        ["memory of a connection that watches", f"{costs.bytes_per_connection:,.0f} bytes"],
        [f"heartbeat of a worker, {where}", f"{costs.heartbeat_ms:.1f} ms of CPU"],
        [f"page of 100 of {costs.connections:,} users", f"{costs.page_ms:.1f} ms"],
        [f"page of 1,000 of {costs.connections:,} users", f"{costs.long_page_ms:.1f} ms"],
        [f"{CROWD:,} users more come within a second", f"pushes to a watcher: {costs.pushes}"],
    ]


class _Connection:
    """A transport that counts pushes."""

    __slots__ = ("encoder", "pushes", "writable")

    def __init__(self, encoder: AsgiEncoder) -> None:
        self.encoder = encoder
        self.writable = True
        self.pushes = 0

    def write(self, packet: bytes) -> None:
        self.pushes += 1


class _Nobody:
    """Ignores events that do not concern presence."""

    def on_events(self, events: Sequence[Event]) -> None: ...

    def on_lost(self, topics: Iterable[str] | None = None) -> None: ...

    def on_restored(self, topics: Iterable[str] | None = None) -> None: ...


class _Worker:
    """A worker's presence module."""

    def __init__(self, url: str) -> None:
        self.settings = Settings(
            redis=RedisSettings(url=url),
            # Leases are renewed only on demand.
            broker=BrokerSettings(presence_lease_seconds=3_600.0),
            namespaces={"default": Namespace(presence=True)},
        )
        self.broker = RedisBroker(self.settings.redis, self.settings.broker)
        drain = Drain(Registry(1, 1), 1.0)
        self.presence = TopicPresence(
            self.broker.presence, _Nobody(), self.settings, "worker", drain
        )
        self.encoder = AsgiEncoder(JSON)

    def join(self, topic: str, connection: _Connection, user: str, profile: bytes) -> None:
        """Let a watching user join."""
        transport: Any = connection
        self.presence.join(topic, transport, user, profile, watches=True)
        self.presence.enter(topic, transport)

    async def written(self) -> None:
        """Wait until the store has all users."""
        roster = self.presence._roster
        async with asyncio.timeout(PATIENCE_SECONDS):
            # The roster has no event to wait for.
            while any(  # noqa: ASYNC110
                room.dirty or room.sending is not None for room in roster._rooms.values()
            ):
                await asyncio.sleep(0.005)


async def presence(
    url: str, *, connections: int, topics: int, tell: Callable[[str], None]
) -> Costs:
    """Measure the costs of presence.

    Args:
        url: the URL of a Redis for this run alone.
        connections: connections of the worker.
        topics: topics of the users.
        tell: called with the progress.

    Raises:
        LoadError: Redis does not answer.
    """
    worker = _Worker(url)
    await worker.broker.start(worker.presence)
    try:
        tell("connections come")
        per_connection = await _memory(worker, connections, topics)
        tell("leases are renewed")
        heartbeats = [await _heartbeat(worker) for _ in range(HEARTBEATS)]
        tell("one topic fills")
        pushes = await _fill(worker, connections)
        tell("pages are read")
        return Costs(
            connections,
            topics,
            per_connection,
            _median(heartbeats),
            _median([await _page(worker, 100) for _ in range(50)]),
            _median([await _page(worker, 1_000) for _ in range(20)]),
            pushes,
        )
    except TimeoutError:
        raise LoadError("Redis does not answer in time") from None
    finally:
        await worker.broker.stop()


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


async def _memory(worker: _Worker, connections: int, topics: int) -> float:
    # With and without presence a connection has its user and the user's profile.
    people = [
        (_Connection(worker.encoder), user, msgspec.json.encode({"user": user, "name": "A name"}))
        for user in (f"user-{number:06}" for number in range(connections))
    ]
    names = [f"room:{number}" for number in range(topics)]
    gc.collect()
    tracemalloc.start()
    try:
        for number, (connection, user, profile) in enumerate(people):
            worker.join(names[number % topics], connection, user, profile)
        await worker.written()
        gc.collect()
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return used / connections


async def _heartbeat(worker: _Worker) -> float:
    """Renew every lease once; return the milliseconds of CPU."""
    await asyncio.sleep(0.2)
    began = time.process_time()
    topics = list(worker.presence._roster._rooms)
    for at in range(0, len(topics), TOGETHER):
        worker.presence._roster.renew(topics[at : at + TOGETHER])
        await worker.written()
    return (time.process_time() - began) * 1_000


async def _fill(worker: _Worker, users: int) -> int:
    """Fill one topic, then add a crowd within a second; return the pushes of the crowd."""
    topic = "hall:one"
    await worker.broker.subscribe(topic)
    profiles = [
        (user, msgspec.json.encode({"user": user}))
        for user in (f"guest-{number:06}" for number in range(users + CROWD))
    ]
    for user, profile in profiles[:users]:
        worker.join(topic, _Connection(worker.encoder), user, profile)
    await worker.written()
    await asyncio.sleep(2.5)
    watcher = _Connection(worker.encoder)
    worker.join(topic, watcher, "watcher", b'{"user":"watcher"}')
    await worker.written()
    await asyncio.sleep(2.5)
    before = watcher.pushes
    for at in range(0, CROWD, 100):
        for user, profile in profiles[users + at : users + at + 100]:
            worker.join(topic, _Connection(worker.encoder), user, profile)
        await asyncio.sleep(0.05)
    await worker.written()
    await asyncio.sleep(2.5)
    return watcher.pushes - before


async def _page(worker: _Worker, limit: int) -> float:
    began = time.perf_counter()
    page = await worker.presence.page(
        "hall:one", after="guest-004", limit=limit, max_bytes=PAGE_BYTES
    )
    if not page.members:
        raise LoadError("a page is empty")
    return (time.perf_counter() - began) * 1_000
