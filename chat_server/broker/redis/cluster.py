"""The broker over a Redis Cluster: one `RedisBroker` for each shard, and topics routed by slot."""

import asyncio
import logging
from asyncio import Future
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from itertools import count
from typing import Any, TypeVar

from redis.crc import REDIS_CLUSTER_HASH_SLOTS as SLOTS
from redis.crc import key_slot

from ...changes import Change, ChangeResult
from ...events import READ_BYTES, Draft, Event, HistoryPage, Kind, Position, PublishResult
from ...logs import LogThrottle
from ...metrics.numbers import StoreNumbers
from ...protocol.errors import Rejected, Unavailable
from ...realtime.ports import BrokerHealth, Listener
from ...settings import BrokerSettings, RedisSettings
from ..common import Busy, GuardedListener, failed, unavailable
from .broker import RedisBroker
from .cluster_cursors import ClusterCursors
from .cluster_feed import ClusterFeed
from .cluster_orders import ClusterOrders
from .cluster_presence import ClusterPresence
from .connection import CONNECTION_ERRORS, RedisConnection, RedisPyConnection, connections
from .refusals import Moved
from .slots import SlotRouter
from .topology import SlotRange, find_shards
from .urls import REDIS_URL_RULE, Address, parse_redis_url

log = logging.getLogger(__name__)

T = TypeVar("T")

REFRESH_SECONDS = (0.05, 0.5, 30.0)
"""Seconds between two reads of the slot map: minimum; while a shard is unavailable or a topic has
no subscription; maximum. The last is a precaution, because a call to a moved slot asks for a new
map."""

TOPICS_AT_ONCE = 500
"""Subscriptions moved together: fewer than the subscriber's limit of unconfirmed commands."""


class _ShardListener:
    """The listener of one shard."""

    def __init__(self, cluster: "ClusterBroker", shard: RedisBroker) -> None:
        self._cluster = cluster
        self._shard = shard

    def on_events(self, events: Sequence[Event]) -> None:
        self._cluster._listener.events(events)

    def on_lost(self, topics: Iterable[str] | None = None) -> None:
        self._cluster._on_lost(self._shard)

    def on_restored(self, topics: Iterable[str] | None = None) -> None:
        self._cluster._on_restored(self._shard)


class ClusterBroker:
    """Keeps `realtime.ports.Broker` over a Redis Cluster with sharded pub/sub.

    Each master has its own `RedisBroker`, and a `SlotRouter` finds the broker of a topic's slot.

    Args:
        redis: addresses of seeds of the cluster, and the timeout for a silent server.
        broker: see `RedisBroker`; `max_pending` holds for each shard.
        numbers: counters of the commands to all shards.

    Raises:
        ValueError: `redis.url` cannot be used.

    Attributes:
        feed: names the topics with new events.
        orders: the store of operators' orders.
    """

    def __init__(
        self,
        redis: RedisSettings,
        broker: BrokerSettings,
        numbers: StoreNumbers | None = None,
    ) -> None:
        self._numbers = numbers
        topology = parse_redis_url(redis.url)
        if topology is None or topology.kind != "cluster":
            raise ValueError(f"redis.url: {REDIS_URL_RULE}")
        self._make = connections(topology.data)
        self._seeds = topology.seeds
        self._redis = redis
        self._broker = broker
        self._timeout = redis.timeout_seconds
        # The masters of the last map.
        self._shards: dict[Address, RedisBroker] = {}
        # Brokers by slot.
        self._owners: list[RedisBroker | None] = [None] * SLOTS
        # Subscribed topics with the shard of their subscription; None: no shard yet.
        self._topics: dict[str, RedisBroker | None] = {}
        # Shards without slots that still have unanswered calls.
        self._retiring: set[RedisBroker] = set()
        # Deafness of former shards, so that the sum never decreases.
        self._left_deaf_seconds = 0.0
        self._router = SlotRouter(self, limit=broker.max_pending, seconds=self._timeout)
        self._presence = ClusterPresence(self._submit, self._spawn)
        self._cursors = ClusterCursors(self._submit, lambda: list(self._shards.values()))
        self.orders = ClusterOrders(self._submit)
        self.feed = ClusterFeed(
            self._submit, lambda: list(self._shards.values()), f"{redis.prefix}:touched"
        )
        # The node to ask first.
        self._hint: Address | None = None
        # Set to read the map again soon.
        self._stale = asyncio.Event()
        # Set and replaced after each attempt to read the map.
        self._refreshed = asyncio.Event()
        self._listener: GuardedListener
        self._tasks: set[asyncio.Task[Any]] = set()
        self._throttle = LogThrottle()

    @property
    def available(self) -> bool:
        """Whether every shard is believed to be reachable."""
        return bool(self._shards) and all(shard.available for shard in self._shards.values())

    @property
    def cursors(self) -> ClusterCursors:
        """The store of read cursors."""
        return self._cursors

    @property
    def presence(self) -> ClusterPresence:
        """The store of presence."""
        return self._presence

    def accepts(self, topic: str) -> bool:
        """Return whether the topic's shard stores publications now."""
        shard = self._owner(topic)
        return shard is not None and shard.accepts(topic)

    async def health(self, *, ping: bool = True) -> BrokerHealth:
        """Return the state of the cluster.

        The status and the reason belong to the first shard that is not `ok`. The seconds of
        deafness are the sum over all shards. The latency is the slowest shard's, and the clock
        difference the largest.
        """
        left = self._left_deaf_seconds
        shards = await asyncio.gather(*(s.health(ping=ping) for s in self._shards.values()))
        if not shards:
            return BrokerHealth("unavailable", left)
        clocks = [s.clock_ahead_seconds for s in shards if s.clock_ahead_seconds is not None]
        first = next((shard for shard in shards if shard.status != "ok"), shards[0])
        latencies = [s.latency_seconds for s in shards if s.latency_seconds is not None]
        return BrokerHealth(
            first.status,
            left + sum(shard.deaf_seconds for shard in shards),
            max(latencies) if len(latencies) == len(shards) else None,
            first.reason,
            max(clocks, key=abs, default=None),
        )

    def reaches(self, topic: str) -> bool:
        """Return whether the topic's shard is believed to be reachable."""
        shard = self._owner(topic)
        return shard is not None and shard.available

    # Life ----------------------------------------------------------------------------------

    async def start(self, listener: Listener) -> None:
        """Begin to deliver to `listener`; wait for unavailable shards in the background."""
        self._listener = GuardedListener(listener)
        refreshed = self._refreshed
        self._spawn(self._keep_map(), "redis cluster")
        with suppress(TimeoutError):
            async with asyncio.timeout(self._timeout):
                await refreshed.wait()

    async def stop(self) -> None:
        """End every task and connection; pending futures fail with `Unavailable`."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        try:
            if tasks:
                await asyncio.wait(tasks)
        finally:
            await self._router.stop()
            shards, self._shards = list(self._shards.values()), {}
            self._owners = [None] * SLOTS
            shards += self._retiring
            await asyncio.gather(*(shard.stop() for shard in shards))

    def _spawn(self, work: Coroutine[Any, Any, T], name: str) -> "asyncio.Task[T]":
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # The map -------------------------------------------------------------------------------

    async def _keep_map(self) -> None:
        """Keep the slot map up to date."""
        least, soon, most = REFRESH_SECONDS
        while True:
            self._stale.clear()
            try:
                await self._refresh()
            except CONNECTION_ERRORS as error:
                if self._throttle.due(type(error).__name__):
                    log.warning("the map of the Redis Cluster cannot be read: %s", error)
            except Exception:
                log.exception("the map of the Redis Cluster could not be followed")
            refreshed, self._refreshed = self._refreshed, asyncio.Event()
            refreshed.set()
            await asyncio.sleep(least)
            with suppress(TimeoutError):
                settled = self.available and None not in self._topics.values()
                async with asyncio.timeout(most if settled else soon):
                    await self._stale.wait()

    async def _refresh(self) -> None:
        # A new map takes a while to reach every node. The node that knew of the last move is asked
        # first, so that the older map of another node does not undo the move. But a master that was
        # cut off and replaced may still serve its own map, so unavailable shards are asked last.
        hint = self._hint
        here = sorted(self._shards, key=self._is_away)
        first = [] if hint is None or self._is_away(hint) else [hint]
        nodes = dict.fromkeys([*first, *here, *self._seeds])
        answered, ranges = await find_shards(self._connect, list(nodes), self._timeout / 2)
        if self._hint is hint:
            self._hint = answered
        await self._apply(ranges)

    def _is_away(self, address: Address) -> bool:
        shard = self._shards.get(address)
        return shard is not None and not shard.available

    def _connect(self, address: Address) -> RedisConnection:
        return RedisPyConnection(self._make(address))

    async def _apply(self, ranges: list[SlotRange]) -> None:
        """Apply a slot map: start and retire shards, and move subscriptions to their owners."""
        masters = {range_.master for range_ in ranges}
        fresh = {master: self._make_shard(master) for master in masters - self._shards.keys()}
        gone = [self._shards.pop(address) for address in self._shards.keys() - masters]
        self._shards |= fresh
        before = self._owners
        owners: list[RedisBroker | None] = [None] * SLOTS
        for first, last, master in ranges:
            owners[first : last + 1] = [self._shards[master]] * (last + 1 - first)
        self._owners = owners
        for shard in self._shards.values():
            if not shard.home or self._owner(shard.home) is not shard:
                # The probe's key must be in one of the shard's slots; trying finds such a hash tag.
                tags = map(str, count())
                shard.set_hash_tag(next(tag for tag in tags if self._owner(tag) is shard))
        for shard in gone:
            self._left_deaf_seconds += shard.deaf_seconds
            self._retiring.add(shard)
            self._spawn(self._retire(shard), "redis shard")
        # Usually no slot has moved, and there may be many topics.
        moved = self._misplaced() if owners != before or None in self._topics.values() else []
        if moved:
            self._listener.lost(moved)
        for start in range(0, len(moved), TOPICS_AT_ONCE):
            await self._move(moved[start : start + TOPICS_AT_ONCE])
        # New shards start with their topics, so no event is missed once the shards answer.
        await asyncio.gather(
            *(shard.start(_ShardListener(self, shard)) for shard in fresh.values())
        )
        # An unavailable shard calls on_restored itself.
        if landed := [topic for topic in moved if self._is_heard(topic)]:
            self._listener.restored(landed)

    def _make_shard(self, address: Address) -> RedisBroker:
        def connect() -> RedisConnection:
            return self._connect(address)

        def on_moved(topic: str) -> None:
            # The topic may have moved to another shard by now.
            if self._topics.get(topic) is shard:
                self._topics[topic] = None
                self.invalidate(address)  # this node knows the new owner

        shard = RedisBroker(
            self._redis,
            self._broker,
            connect=connect,
            sharded=True,
            on_moved=on_moved,
            throttle=self._throttle,
            numbers=self._numbers,
        )
        return shard

    async def _retire(self, shard: RedisBroker) -> None:
        """Stop a shard without slots, once it has answered all calls."""
        with suppress(Unavailable):
            await shard.flushed()
        await shard.stop()
        self._retiring.discard(shard)

    def _misplaced(self) -> list[str]:
        """Return topics whose subscription is at another shard than their owner."""
        return [topic for topic, at in self._topics.items() if at is not self._owner(topic)]

    def _is_heard(self, topic: str) -> bool:
        shard = self._topics.get(topic)
        return shard is not None and shard.available

    async def _move(self, topics: Iterable[str]) -> None:
        """Subscribe to topics at their owners."""
        wanted = [topic for topic in topics if topic in self._topics]  # others: unsubscribed
        for topic in wanted:
            self._displace(topic)
        results = await asyncio.gather(
            *(self._subscribe(topic, self._owner(topic)) for topic in wanted),
            return_exceptions=True,
        )
        for topic, result in zip(wanted, results, strict=True):
            # An unavailable shard remembers the topic. A busy or refusing shard is asked again with
            # the next map.
            if isinstance(result, Busy | Rejected):
                self._displace(topic)
            if isinstance(result, Moved):
                self.invalidate(result.server)

    def _displace(self, topic: str) -> None:
        """Drop the subscription of a topic at its shard; the topic stays wanted."""
        if (shard := self._topics.get(topic)) is not None:
            shard.unsubscribe(topic)
            self._topics[topic] = None

    def _subscribe(self, topic: str, shard: RedisBroker | None) -> "Future[None]":
        self._topics[topic] = shard
        return failed(unavailable()) if shard is None else shard.subscribe(topic)

    def _owner(self, topic: str) -> RedisBroker | None:
        return self._owners[key_slot(topic.encode())]

    def owner(self, slot: int) -> RedisBroker | None:
        """Return the known owner of a slot."""
        return self._owners[slot]

    def invalidate(self, hint: Address | None) -> None:
        """Note that the map is out of date; `hint` is a node that may have a newer one."""
        self._hint = hint or self._hint
        self._stale.set()

    async def refreshed(self) -> None:
        """Wait for a new map."""
        refreshed = self._refreshed
        self._stale.set()
        await refreshed.wait()

    def _on_lost(self, shard: RedisBroker) -> None:
        self._stale.set()
        self._listener.lost(self._topics_at(shard))

    def _on_restored(self, shard: RedisBroker) -> None:
        self._listener.restored(self._topics_at(shard))

    def _topics_at(self, shard: RedisBroker) -> list[str]:
        return [topic for topic, at in self._topics.items() if at is shard]

    # Events --------------------------------------------------------------------------------

    def publish(self, draft: Draft) -> "Future[PublishResult]":
        """Store `draft` and send the event to every worker, on the topic's shard."""
        return self._submit(draft.topic, lambda shard: shard.publish(draft), ordered=True)

    def change(self, change: Change) -> "Future[ChangeResult]":
        """Change a message and send the event to every worker, on the topic's shard."""
        return self._submit(change.topic, lambda shard: shard.change(change), ordered=True)

    def signal(self, topic: str, payload: bytes, kind: Kind = Kind.SIGNAL) -> "Future[None]":
        """Send `payload` to every worker."""
        return self._submit(topic, lambda shard: shard.signal(topic, payload, kind))

    def subscribe(self, topic: str) -> "Future[None]":
        """Receive the topic's events from all workers.

        While the shard is unavailable the future fails, but the broker remembers the topic.
        """
        self._topics.setdefault(topic, None)

        def call(shard: RedisBroker) -> "Future[None]":
            if topic not in self._topics:
                return failed(unavailable())  # the topic was unsubscribed meanwhile
            return self._subscribe(topic, shard)

        return self._submit(topic, call)

    def unsubscribe(self, topic: str) -> None:
        """Forget the subscription."""
        shard = self._topics.pop(topic, None)
        if shard is not None:
            shard.unsubscribe(topic)

    async def history(
        self,
        topic: str,
        *,
        after: int = 0,
        before: int | None = None,
        limit: int,
        newest: bool = False,
        max_bytes: int = READ_BYTES,
        folded: bool = False,
    ) -> HistoryPage:
        """Read stored events or messages and the position, from the topic's shard."""

        def call(shard: RedisBroker) -> "Future[HistoryPage]":
            reading = shard.history(
                topic,
                after=after,
                before=before,
                limit=limit,
                newest=newest,
                max_bytes=max_bytes,
                folded=folded,
            )
            return self._spawn(reading, "redis read")

        return await self._submit(topic, call)

    async def begin_epoch(self, topic: str, lost: str) -> Position:
        """Begin another epoch at the topic's position, unless another worker has begun one."""

        def call(shard: RedisBroker) -> "Future[Position]":
            return self._spawn(shard.begin_epoch(topic, lost), "redis epoch")

        return await self._submit(topic, call)

    async def purge(self, topic: str) -> Position:
        """Delete all stored events of the topic, and begin another epoch at its position."""
        return await self._submit(
            topic, lambda shard: self._spawn(shard.purge(topic), "redis purge")
        )

    def _submit(
        self, topic: str, call: Callable[[RedisBroker], "Future[T]"], *, ordered: bool = False
    ) -> "Future[T]":
        return self._router.submit(key_slot(topic.encode()), call, ordered=ordered)
