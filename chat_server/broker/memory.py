"""The broker for a single process; keeps its state in dictionaries."""

import asyncio
import math
from asyncio import Future
from collections import OrderedDict
from collections.abc import Iterable
from typing import Final, TypeVar

from msgspec.structs import replace

from ..changes import Append, Change, ChangeResult, Outcome
from ..clock import Clock
from ..events import READ_BYTES, Draft, Event, HistoryPage, Kind, Position, PublishResult, Retention
from ..protocol.errors import RateLimited
from ..realtime.ports import BrokerHealth, Listener
from ..settings import BrokerSettings
from .common import GuardedListener, epochs, failed, unavailable
from .memory_cursors import MemoryCursors
from .memory_feed import MemoryFeed
from .memory_orders import MemoryOrders
from .memory_presence import MemoryPresence
from .memory_rates import MemoryRates
from .topic_log import Kept, TopicLog

T = TypeVar("T")

MAX_KEYS: Final = 100_000
"""Maximum number of idempotency keys, some 300 bytes each. Beyond it the oldest expire early. The
bound is enough for five minutes of 300 publications with a key per second."""

UNUSED_SECONDS: Final = 90.0
"""Lifetime of a topic without events and without subscribers."""

EVICTION_TRIES: Final = 16
"""Topics examined for eviction when a topic is added to a full table. The table exceeds its limit
only while most of its topics have subscribers, and then by a fifteenth."""


class _Topic:
    """A topic's log, and its times of expiry.

    Attributes:
        log: position and history.
        expires_at: monotonic seconds at which the position is forgotten.
        history_seconds: lifetime of the history after its last event.
        history_expires_at: monotonic seconds at which the history is forgotten.
    """

    __slots__ = ("expires_at", "history_expires_at", "history_seconds", "log")

    def __init__(self, epoch: str, expires_at: float) -> None:
        self.log = TopicLog(epoch)
        self.expires_at = expires_at
        self.history_seconds = 0.0
        self.history_expires_at = 0.0


class MemoryBroker:
    """Keeps `realtime.ports.Broker` for one process.

    Topics beyond `memory_max_topics` are evicted with their events: the least recently used first,
    and none with subscribers. Topics without events are counted separately, so that reading evicts
    no topic with events. The next call for any topic drops expired entries.

    Args:
        settings: lifetimes of positions and idempotency keys, and the number of topics.
        clock: the clock of events and of expiry.

    Attributes:
        orders: the store of operators' orders.
    """

    def __init__(self, settings: BrokerSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._epochs = epochs()
        self._listener: GuardedListener | None = None
        self._loop: asyncio.AbstractEventLoop
        self._undelivered: list[Event] = []
        self._subscribed: set[str] = set()
        # The least recently used topic first: topics with events, and topics without.
        self._topics: OrderedDict[str, _Topic] = OrderedDict()
        self._unused: OrderedDict[str, _Topic] = OrderedDict()
        self._bytes = 0
        # By lifetime of the history; in each the first to expire comes first.
        self._histories: dict[float, OrderedDict[str, _Topic]] = {}
        self._keys: OrderedDict[tuple[str, str | None], tuple[float, PublishResult]] = OrderedDict()
        self._next_expiry = math.inf
        self._rates = MemoryRates(clock)
        self._cursors = MemoryCursors(settings.position_seconds, clock, self._log_of)
        self._feed = MemoryFeed(
            lambda: list(self._topics), self._known_log, lambda: self._listener is not None
        )
        self.orders = MemoryOrders(clock, lambda: self._listener is not None)
        self._presence = MemoryPresence(
            settings, clock, self._send, lambda: self._listener is not None
        )

    @property
    def cursors(self) -> MemoryCursors:
        """The store of read cursors."""
        return self._cursors

    @property
    def feed(self) -> MemoryFeed:
        """Names the topics with new events."""
        return self._feed

    @property
    def presence(self) -> MemoryPresence:
        """The store of presence."""
        return self._presence

    def reaches(self, topic: str) -> bool:
        """Return whether the broker has been started."""
        return self._listener is not None

    def accepts(self, topic: str) -> bool:
        """Return whether the broker has been started."""
        return self._listener is not None

    async def health(self, *, ping: bool = True) -> BrokerHealth:
        """Return whether the broker has been started."""
        if self._listener is None:
            return BrokerHealth("unavailable")
        return BrokerHealth("ok", latency_seconds=0.0 if ping else None)

    # Life ----------------------------------------------------------------------------------

    async def start(self, listener: Listener) -> None:
        """Begin to deliver to `listener`."""
        self._loop = asyncio.get_running_loop()
        self._listener = GuardedListener(listener)

    async def stop(self) -> None:
        """Stop all deliveries; stored events stay."""
        self._listener = None
        self._undelivered.clear()

    # Events --------------------------------------------------------------------------------

    def publish(self, draft: Draft) -> "Future[PublishResult]":
        """Store `draft`; subscribers get the event in the next turn of the loop, as with Redis."""
        if self._listener is None:
            return failed(unavailable())
        now = self._clock.monotonic()
        if now >= self._next_expiry:
            self._expire(now)
        name, key = draft.topic, draft.key
        if key is not None and (name, key) in self._keys:
            _, first = self._keys[name, key]
            return self._resolved(replace(first, duplicate=True))
        if draft.charges and (exceeded := self._rates.charge(draft)) is not None:
            return failed(RateLimited.of_topic(exceeded, name))
        topic = self._use(name, now)
        log = topic.log
        if log.seq == 0:
            self._topics[name] = self._unused.pop(name)
            self._evict(self._topics, name)
        at = int(self._clock.time() * 1_000)
        payload, grown = log.publish(draft, at)
        self._bytes += grown
        self._keep(topic, name, draft.retention, now)
        place = PublishResult(log.seq, log.epoch, at)
        if key is not None:
            self._remember((name, key), place, now)
        if name in self._subscribed:
            self._send(Event(name, log.epoch, log.seq, draft.kind, payload))
        return self._resolved(place)

    def change(self, change: Change) -> "Future[ChangeResult]":
        """Store a change of a message; subscribers get the event in the next turn of the loop."""
        if self._listener is None:
            return failed(unavailable())
        now = self._clock.monotonic()
        self._expire(now)
        pieces = change.pieces if isinstance(change, Append) else (change,)
        keys = [(change.topic, piece.key) for piece in pieces]
        known = {key: self._keys[key][1] for key in keys if key in self._keys}
        if known and isinstance(change, Append):
            fresh = [p for p, key in zip(change.pieces, keys, strict=True) if key not in known]
            change = replace(change, pieces=tuple(fresh))
        if len(known) < len(keys):
            if change.charges and (exceeded := self._rates.charge(change)) is not None:
                return self._resolved(ChangeResult(Outcome.RATE_LIMITED, limited=exceeded))
            result = self._change(change, now)
            if result.outcome is not Outcome.STORED:
                return self._resolved(result)
        places = []
        for key in keys:
            if key in known:
                places.append(replace(known[key], duplicate=True))
            else:
                places.append(result.places[0])
                self._remember(key, result.places[0], now)
        return self._resolved(ChangeResult(Outcome.STORED, tuple(places)))

    def _change(self, change: Change, now: float) -> ChangeResult:
        topic = self._use(change.topic, now)
        log = topic.log
        held = log.size
        result, payload = log.change(change, int(self._clock.time() * 1_000))
        self._bytes += log.size - held
        if payload:
            self._keep(topic, change.topic, change.retention, now)
            self._send(Event(change.topic, log.epoch, log.seq, change.kind, payload))
        return result

    def _remember(self, once: tuple[str, str | None], place: PublishResult, now: float) -> None:
        """Note the place of an event with an idempotency key."""
        if once[1] is not None:
            self._keys[once] = self._until(now + self._settings.idempotency_seconds), place
            if len(self._keys) > MAX_KEYS:
                self._keys.popitem(last=False)

    def signal(self, topic: str, payload: bytes, kind: Kind = Kind.SIGNAL) -> "Future[None]":
        """Deliver `payload` in the next turn of the loop."""
        if self._listener is None:
            return failed(unavailable())
        self._send(Event(topic, "", 0, kind, payload))
        return self._resolved(None)

    def subscribe(self, topic: str) -> "Future[None]":
        """Receive the topic's events from now on."""
        self._subscribed.add(topic)
        return failed(unavailable()) if self._listener is None else self._resolved(None)

    def unsubscribe(self, topic: str) -> None:
        """Stop receiving the topic's events."""
        self._subscribed.discard(topic)

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
        """Read stored events or messages and the topic's position."""
        if self._listener is None:
            raise unavailable()
        now = self._clock.monotonic()
        self._expire(now)
        return self._use(topic, now).log.read(
            topic,
            after=after,
            before=before,
            limit=limit,
            newest=newest,
            max_bytes=max_bytes,
            folded=folded,
        )

    def restore(
        self,
        topic: str,
        position: Position,
        kept: Iterable[Kept],
        retention: Retention,
        *,
        new_epoch: bool,
    ) -> None:
        """Continue a topic of another process at its position, unless the topic has events here.

        Args:
            topic: the topic.
            position: the topic's position in the other process.
            kept: the topic's newest messages, ascending.
            retention: the topic's retention.
            new_epoch: True if events after `position` may be lost.
        """
        now = self._clock.monotonic()
        entry = self._use(topic, now)
        if entry.log.seq or not position.seq:
            return
        epoch = entry.log.epoch
        entry.log.restore(position, kept)
        if new_epoch:
            entry.log.begin_epoch(epoch)
        self._topics[topic] = self._unused.pop(topic)
        self._bytes += entry.log.size
        self._keep(entry, topic, retention, now)

    async def begin_epoch(self, topic: str, lost: str) -> Position:
        """Begin another epoch at the topic's position."""
        if self._listener is None:
            raise unavailable()
        log = self._use(topic, self._clock.monotonic()).log
        if log.epoch == lost:
            log.begin_epoch(next(self._epochs))
        return Position(log.epoch, log.epoch_start)

    async def purge(self, topic: str) -> Position:
        """Delete all stored events of the topic, and begin another epoch at its position."""
        if self._listener is None:
            raise unavailable()
        entry = self._use(topic, self._clock.monotonic())
        self._leave_histories(topic, entry)
        self._clear(entry)
        self._cursors.purge(topic)
        entry.log.begin_epoch(next(self._epochs))
        return Position(entry.log.epoch, entry.log.epoch_start)

    def _log_of(self, topic: str) -> TopicLog | None:
        if self._listener is None:
            return None
        now = self._clock.monotonic()
        self._expire(now)
        return self._use(topic, now).log

    def _known_log(self, topic: str) -> TopicLog | None:
        """Return the log of a topic with events, without marking the topic as used."""
        known = self._topics.get(topic)
        return None if known is None else known.log

    def _send(self, event: Event) -> None:
        if event.topic not in self._subscribed:
            return
        if not self._undelivered:
            self._loop.call_soon(self._deliver)
        self._undelivered.append(event)

    def _deliver(self) -> None:
        events, self._undelivered = self._undelivered, []
        if events and self._listener is not None:
            self._listener.events(events)

    def _resolved(self, result: T) -> "Future[T]":
        future: Future[T] = self._loop.create_future()
        future.set_result(result)
        return future

    # Storage -------------------------------------------------------------------------------

    def _use(self, name: str, now: float) -> _Topic:
        topic = self._topics.get(name)
        if topic is not None and topic.expires_at > now:
            self._topics.move_to_end(name)
            return topic
        topics = self._topics if topic is not None else self._unused
        topic = topics.get(name)
        if topic is not None and topic.expires_at <= now and not self._is_held(name, topic):
            self._forget(topics, name)
            topic = None
        if topic is None:
            unused = min(UNUSED_SECONDS, self._settings.position_seconds)
            topic = _Topic(next(self._epochs), self._until(now + unused))
            self._unused[name] = topic
            self._evict(self._unused, name)
        else:
            topics.move_to_end(name)
        return topic

    def _is_held(self, name: str, topic: _Topic) -> bool:
        """Return whether subscribers keep a topic without events."""
        return topic.log.seq == 0 and name in self._subscribed

    def _evict(self, topics: OrderedDict[str, _Topic], newcomer: str) -> None:
        for _ in range(EVICTION_TRIES):
            name = next(iter(topics))
            if name == newcomer or len(topics) <= self._settings.memory_max_topics:
                return
            if name in self._subscribed:
                topics.move_to_end(name)
            else:
                self._forget(topics, name)

    def _keep(self, topic: _Topic, name: str, retention: Retention, now: float) -> None:
        """Restart a topic's lifetimes, and keep all topics within the bound of bytes."""
        seconds = retention.seconds
        topic.expires_at = self._until(now + max(self._settings.position_seconds, seconds))
        if retention.held_size:
            self._feed.touched[name] = None
        history = self._histories.get(seconds)
        if history is not None and name in history and len(topic.log):
            history.move_to_end(name)
            topic.history_expires_at = self._until(now + seconds)
        else:
            self._begin_history(topic, name, seconds, now)
        while self._bytes > self._settings.memory_max_bytes:
            self._trim()

    def _begin_history(self, topic: _Topic, name: str, seconds: float, now: float) -> None:
        self._leave_histories(name, topic)
        if len(topic.log):
            topic.history_seconds = seconds
            topic.history_expires_at = self._until(now + seconds)
            self._histories.setdefault(seconds, OrderedDict())[name] = topic

    def _clear(self, topic: _Topic) -> None:
        """Delete a topic's events."""
        self._bytes -= topic.log.size
        topic.log.clear()

    def _trim(self) -> None:
        """Delete the oldest message of the topic whose last publication is the oldest."""
        oldest = (next(iter(history.items())) for history in self._histories.values() if history)
        name, topic = min(oldest, key=_last_published)
        self._bytes -= topic.log.drop_oldest()
        if not len(topic.log):
            self._leave_histories(name, topic)

    def _leave_histories(self, name: str, topic: _Topic) -> None:
        history = self._histories.get(topic.history_seconds)
        if history is not None:
            history.pop(name, None)

    def _forget(self, topics: OrderedDict[str, _Topic], name: str) -> None:
        topic = topics.pop(name)
        self._leave_histories(name, topic)
        self._clear(topic)

    def _until(self, expiry: float) -> float:
        if expiry < self._next_expiry:
            self._next_expiry = expiry
        return expiry

    def _expire(self, now: float) -> None:
        if now < self._next_expiry:
            return
        self._next_expiry = math.inf
        for history in self._histories.values():
            while history:
                topic = next(iter(history.values()))
                if topic.history_expires_at > now:
                    self._until(topic.history_expires_at)
                    break
                history.popitem(last=False)
                self._clear(topic)
        while self._keys:
            expires_at, _ = next(iter(self._keys.values()))
            if expires_at > now:
                self._until(expires_at)
                break
            self._keys.popitem(last=False)
        for topics in (self._topics, self._unused):
            self._expire_topics(topics, now)

    def _expire_topics(self, topics: OrderedDict[str, _Topic], now: float) -> None:
        # Incomplete: after a recently used topic others may have expired. `_use` checks again.
        while topics:
            name, first = next(iter(topics.items()))
            if self._is_held(name, first):
                topics.move_to_end(name)
                first.expires_at = now + UNUSED_SECONDS
            if first.expires_at > now:
                self._until(first.expires_at)
                break
            self._forget(topics, name)


def _last_published(item: tuple[str, _Topic]) -> float:
    _, topic = item
    return topic.history_expires_at - topic.history_seconds
