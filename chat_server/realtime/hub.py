"""This worker's topics: opened with their first subscriber, repaired after trouble, then closed."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress

from ..clock import Clock, SystemClock
from ..events import Event, HistoryPage, Kind, Position
from ..logs import LogThrottle
from ..metrics.numbers import Numbers
from ..protocol.errors import Unavailable
from .ports import Broker, Listener, LogReader, Transport
from .recovery import Recovery, recover_last, recover_since, start_here
from .shared_reads import (
    MAX_SPREAD,
    REPLAY_BYTES,
    REPLAY_CHUNK,
    PagesAfter,
    SharedReads,
    read_newest,
)
from .topic import Topic
from .trail import NO_TRAIL, Trail

logger = logging.getLogger(__name__)

MAX_CONCURRENT_REPAIRS = 32
"""Number of topics that are read at the same time after trouble."""

RETRY_SECONDS = 0.5
"""Seconds between two reads of a store that does not answer."""

SAMPLED = 16
"""Batches per measured batch age: to measure an age costs as much as half a delivery."""

ReadPage = Callable[[str, int], Awaitable[HistoryPage]]
"""Reads the events of a topic after a seq, like `SharedReads.read`."""


class _Opening:
    """A topic that is being opened.

    One read gives the topic its position. The same read answers the subscribers that asked before
    the read began. The first subscriber chooses the page, so that opening costs no extra read.
    """

    def __init__(self) -> None:
        self.done = asyncio.Event()
        # The request of the first subscriber, and the range of near positions that others asked
        # for.
        self._first: tuple[Position | None, int | None] | None = None
        self._lowest = self._highest = 0
        self._begun = False
        self._page: HistoryPage | None = None
        self._pages: PagesAfter | None = None

    def ask(self, since: Position | None, last: int | None) -> bool:
        """Ask for a page; return False if the read has begun, for its answer may be too old."""
        if self._first is None:
            self._first = (since, last)
            self._lowest = self._highest = 0 if since is None else since.seq
        elif since is not None and not self._begun:
            lowest, highest = min(since.seq, self._lowest), max(since.seq, self._highest)
            if highest - lowest <= MAX_SPREAD:
                self._lowest, self._highest = lowest, highest
        return not self._begun

    async def read(self, log: LogReader, reads: SharedReads, topic: str) -> HistoryPage:
        """Read the page that the first subscriber asked for.

        The page begins with the event at the subscriber's position, not after the position. If no
        newer event exists, the topic keeps this event's fingerprint, to notice a failover later.
        """
        self._begun = True
        since, last = self._first or (None, None)
        if since is None:
            page = await read_newest(log, topic, last or 1, folded=last is not None)
        else:
            after = max(self._lowest - 1, 0)
            limit = REPLAY_CHUNK + self._highest - after
            page = await log.history(topic, after=after, limit=limit, max_bytes=REPLAY_BYTES)
            self._pages = PagesAfter(page, after)
            reads.keep(topic, page, after, self._pages)
        self._page = page
        return page

    def page_for(self, since: Position | None, last: int | None) -> HistoryPage | None:
        """Return the page for a subscriber that asked in time, or None if the read has none."""
        if since is not None:
            return None if self._pages is None else self._pages.get(since.seq)
        return self._page if (None, last) == self._first else None


class Hub:
    """Keeps subscribers in their topics, and every topic at the position of its log.

    The hub is the broker's listener. Events reach subscribers on one path only: through the broker,
    even for publications of this worker. So all workers see the same log.

    Args:
        broker: delivers events, and reads them again.
        max_replay: maximum number of missed events for a recovery; also the number of events in one
            read of a repair.
        on_read: called with each event of the kind `read`, which concerns a single user.
        log: reads missed events for subscribers; the broker by default.
        clock: measures the age of an event at its delivery.
        numbers: the worker's counters.
        latest_only: returns True for a topic whose slow subscribers skip missed events.
        trail: notes the deliveries of events.

    Attributes:
        reads: the shared reads of missed events.
        others: listener for the events of topics without subscribers on this worker.
        subscription_count: number of subscriptions in all topics together, with pending ones.
    """

    def __init__(
        self,
        broker: Broker,
        max_replay: int,
        on_read: Callable[[Event], None] = lambda event: None,
        log: LogReader | None = None,
        *,
        clock: Clock | None = None,
        numbers: Numbers | None = None,
        latest_only: Callable[[str], bool] = lambda topic: False,
        trail: Trail = NO_TRAIL,
    ) -> None:
        self._on_read = on_read
        self._clock = clock or SystemClock()
        self._numbers = numbers or Numbers()
        self._broker = broker
        self._log = log or broker
        self.reads = SharedReads(self._log, self._position_of)
        self.others: Listener | None = None
        self.subscription_count = 0
        self._batches = 0
        self._max_replay = max_replay
        self._latest_only = latest_only
        self._trail = trail
        self._topics: dict[str, Topic] = {}
        self._openings: dict[str, _Opening] = {}
        self._repairing: set[Topic] = set()
        self._throttle = LogThrottle()
        self._repair_slots = asyncio.Semaphore(MAX_CONCURRENT_REPAIRS)
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def topic_count(self) -> int:
        """Number of topics with subscribers on this worker."""
        return len(self._topics)

    @property
    def topics(self) -> Mapping[str, Topic]:
        """The topics with subscribers on this worker, by name."""
        return self._topics

    async def stop(self) -> None:
        """End all repairs."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.reads.stop()

    # Subscribers ---------------------------------------------------------------------------

    def join_now(self, transport: Transport, name: str) -> Recovery | None:
        """Let a subscriber join at the topic's position; return None if a read is needed first."""
        topic = self._topics.get(name)
        if topic is None or not topic.established:
            return None
        self._join(transport, topic)
        return start_here(topic.position)

    async def join(
        self,
        transport: Transport,
        name: str,
        since: Position | None,
        last: int | None,
        not_before: float = 0.0,
    ) -> Recovery:
        """Let a subscriber join a topic; the subscriber gets no event before `enter`.

        Args:
            transport: the subscriber's transport.
            name: the topic.
            since: the last position that the subscriber has seen.
            last: the number of newest messages to send, in place of `since`.
            not_before: seconds since 1970; older events are not replayed after `since`.

        Returns:
            The subscriber's start, and its answer.

        Raises:
            Unavailable: the store does not answer; the subscriber is not in the topic.
        """
        topic = self._topics.get(name)
        if topic is None:
            topic = self._open(name)
        self._join(transport, topic)
        try:
            page = None
            opening = self._openings.get(name)
            if opening is not None:
                in_time = opening.ask(since, last)
                await opening.done.wait()
                if not topic.established:
                    raise Unavailable("the topic cannot be reached now", topic=name)
                page = opening.page_for(since, last) if in_time else None
            if last is not None:
                return await self._recover_last(name, last, page)
            if since is None:
                return start_here(topic.position)
            if page is None:
                page = await self.reads.read(name, since.seq)
            recovery = recover_since(since, page, self._max_replay, not_before)
            if recovery.recovered or recovery.position.epoch != topic.position.epoch:
                return recovery
            newest = max(recovery.position, topic.position, key=_seq)
            return start_here(newest, recovery.reason)
        except BaseException:
            self._remove(transport, topic)
            raise

    def enter(self, transport: Transport, name: str, recovery: Recovery) -> bool:
        """Place a subscriber that joined; return whether it needs a `replay` of further pages."""
        topic = self._topics[name]
        if recovery.page.events:
            return topic.replay(transport, recovery.page, recovery.start)
        return topic.enter(transport, recovery.start)

    def leave(self, transport: Transport, name: str) -> None:
        """Take a subscriber out of a topic."""
        topic = self._topics.get(name)
        if topic is not None:
            self._remove(transport, topic)

    def lag(self, transport: Transport, names: Iterable[str]) -> None:
        """Send a subscriber no events of these topics until `replay`."""
        for name in names:
            topic = self._topics.get(name)
            if topic is not None:
                topic.lag(transport)

    async def replay(
        self,
        transport: Transport,
        names: Collection[str],
        read: ReadPage | None = None,
    ) -> None:
        """Send a subscriber its missed events, in each of these topics where the subscriber lags.

        Ends when the subscriber lags nowhere, or its buffer is full.

        Args:
            transport: the subscriber's transport.
            names: the subscriber's topics; the collection may change meanwhile.
            read: reads the pages; `reads` by default.
        """
        read = read or self.reads.read
        while transport.writable and (lagging := [n for n in names if self._lags(transport, n)]):
            # Each topic independently of the others: a single shard may be down.
            done = [await self._replay(transport, name, read) for name in lagging]
            if not any(done):
                await asyncio.sleep(RETRY_SECONDS)

    def _lags(self, transport: Transport, name: str) -> bool:
        topic = self._topics.get(name)
        return topic is not None and topic.lag_of(transport) is not None

    async def _replay(self, transport: Transport, name: str, read: ReadPage) -> bool:
        """Replay one topic; return False if another attempt is needed after a while."""
        while transport.writable:
            topic = self._topics.get(name)
            seen = None if topic is None else topic.lag_of(transport)
            if topic is None or seen is None:
                return True
            try:
                if topic.skips(transport):
                    page = await self._log.history(name, after=seen.seq, limit=1, newest=True)
                else:
                    page = await read(name, seen.seq)
                if page.epoch == seen.epoch and page.seq < seen.seq:
                    await self._begin_epoch(name, page.epoch)
                    continue
            except Unavailable:
                return False
            # During the read the subscriber may have left, come back, moved on or filled its
            # buffer.
            moved = self._topics.get(name) is not topic or topic.lag_of(transport) != seen
            if moved or not transport.writable:
                continue
            topic.replay(transport, page)
            if topic.lag_of(transport) == seen and transport.writable:
                # The topic's position differs from the end of the log: repair the topic.
                topic.stale = True
                self._repair(topic)
                return False
        return True

    async def _recover_last(self, name: str, last: int, page: HistoryPage | None) -> Recovery:
        if page is None:
            page = await read_newest(self._log, name, last, folded=True)
        if page.more and len(page.events) < last:
            # The messages are too large for one page, so a page with the oldest of the messages
            # comes first.
            after = max(page.seq - last, 0)
            page = await self._log.history(
                name, after=after, limit=REPLAY_CHUNK, max_bytes=REPLAY_BYTES, folded=True
            )
        return recover_last(page)

    def _position_of(self, name: str) -> Position | None:
        topic = self._topics.get(name)
        return None if topic is None or topic.stale else topic.position

    def _join(self, transport: Transport, topic: Topic) -> None:
        self.subscription_count += topic.join(transport)

    def _remove(self, transport: Transport, topic: Topic) -> None:
        if self._trail.enabled and (seen := topic.seen_by(transport)) is not None:
            self._trail.moved(topic.name, transport, "left", seen)
        before = topic.subscriber_count
        topic.leave(transport)
        self.subscription_count += topic.subscriber_count - before
        if topic.empty and self._topics.get(topic.name) is topic:
            self._close(topic)

    # Topics --------------------------------------------------------------------------------

    def _open(self, name: str) -> Topic:
        topic = self._topics[name] = Topic(
            name, self._numbers, latest_only=self._latest_only(name), trail=self._trail
        )
        opening = self._openings[name] = _Opening()
        # The task is separate, because others may wait for the topic when its first subscriber
        # gives up.
        self._spawn(self._establish(topic, opening))
        return topic

    async def _establish(self, topic: Topic, opening: _Opening) -> None:
        name = topic.name
        try:
            if self._topics.get(name) is not topic:
                return  # all subscribers have left, and no later call would unsubscribe
            await self._broker.subscribe(name)
            while not topic.established:
                await self._place(topic, opening)
            if topic.stale:
                self._repair(topic)
        except Unavailable:
            pass  # the waiting subscribers get this error; the next one opens the topic anew
        finally:
            if self._openings.get(name) is opening:
                del self._openings[name]
                if not topic.established:
                    self._close(topic)
            opening.done.set()

    async def _place(self, topic: Topic, opening: _Opening) -> None:
        """Give a topic its position, unless the page is outdated."""
        generation = topic.generation
        page = await opening.read(self._log, self.reads, topic.name)
        if not page.has_newest:
            page = await self._broker.history(topic.name, limit=1, newest=True)
        if topic.generation == generation:  # else events may have been missed since the reads
            topic.catch_up(page)

    def _close(self, topic: Topic) -> None:
        del self._topics[topic.name]
        self._openings.pop(topic.name, None)
        self._broker.unsubscribe(topic.name)

    async def _catch_up(self, topic: Topic) -> None:
        generation = topic.generation
        page = await self._read_on(topic)
        if topic.generation == generation:  # else the page may be older than the missed events
            before = topic.position
            topic.catch_up(page)
            self._trail.heard(topic.name, before, topic.position)

    async def _read_on(self, topic: Topic) -> HistoryPage:
        """Read the events after a topic's position, or a whole new epoch if the old one is lost."""
        name = topic.name
        # Taken before the read: events delivered during the read may be newer than the page. The
        # page begins with the last event that subscribers have seen, so that the event can be
        # compared.
        snapshot = topic.snapshot()
        here = snapshot.position
        after = max(here.seq - 1, 0)
        page = await self._broker.history(name, after=after, limit=self._max_replay + 1)
        start = Position(page.epoch, page.epoch_start)
        if snapshot.diverged_from(page):
            start = await self._begin_epoch(name, page.epoch)
        if start.epoch == here.epoch:
            return page
        return await self._broker.history(name, after=start.seq, limit=self._max_replay)

    async def _begin_epoch(self, name: str, lost: str) -> Position:
        if self._throttle.due("lost"):
            logger.warning("topic %s: the store lost events that were delivered", name)
        return await self._broker.begin_epoch(name, lost)

    def _repair(self, topic: Topic) -> None:
        if topic in self._repairing or not topic.established:
            return
        self._repairing.add(topic)
        self._spawn(self._run_repair(topic))

    async def _run_repair(self, topic: Topic) -> None:
        try:
            async with self._repair_slots:
                while self._topics.get(topic.name) is topic and topic.stale:
                    try:
                        await self._catch_up(topic)
                    except Unavailable:
                        if not self._broker.reaches(topic.name):
                            return  # on_restored starts it again
                        await asyncio.sleep(RETRY_SECONDS)
        finally:
            self._repairing.discard(topic)

    # The broker's listener -----------------------------------------------------------------

    def on_events(self, events: Sequence[Event]) -> None:
        """Deliver a batch; see `ports.Listener`."""
        batches: dict[str, list[Event]] = {}
        for event in events:
            if event.kind is Kind.READ:
                self._on_read(event)
            else:
                batches.setdefault(event.topic, []).append(event)
        for name, batch in batches.items():
            topic = self._topics.get(name)
            if topic is None:
                if self.others is not None:
                    self.others.on_events(batch)
                continue
            before = topic.position
            is_stale = topic.offer(batch)
            self._trail.heard(name, before, topic.position)
            self._batches += 1
            if self._batches % SAMPLED == 1 and (at := batch[0].at) is not None:
                # One event per batch is enough: the events of a batch came together.
                self._numbers.delivery_seconds.observe(self._clock.time() - at / 1_000)
            if is_stale:
                if self._throttle.due("missing"):
                    logger.warning("topic %s: events are missing, reading them again", name)
                self._repair(topic)

    def on_lost(self, topics: Iterable[str] | None = None) -> None:
        """Mark these topics as stale.

        The next event may have a `seq` that subscribers have seen with another event. So events
        wait until the log has been read again.
        """
        if interrupted := self._interrupt(topics):
            logger.warning("the events of %d topics may be missed", len(interrupted))

    def on_restored(self, topics: Iterable[str] | None = None) -> None:
        """Read these topics again, because events may have been missed."""
        if self.others is not None:
            topics = None if topics is None else list(topics)
            self.others.on_restored(topics)
        if interrupted := self._interrupt(topics):
            logger.info("the store is back; catching up %d topics", len(interrupted))
        for topic in interrupted:
            self._repair(topic)

    def doubt(self, name: str) -> int:
        """Read a topic again, because its log was changed; return its number of subscribers."""
        interrupted = self._interrupt([name])
        for topic in interrupted:
            self._repair(topic)
        return sum(topic.subscriber_count for topic in interrupted)

    def _interrupt(self, names: Iterable[str] | None) -> list[Topic]:
        names = self._topics if names is None else names
        topics = [self._topics[name] for name in names if name in self._topics]
        for topic in topics:
            topic.interrupt()
        return topics

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._reap)

    def _reap(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        with suppress(asyncio.CancelledError):
            if (error := task.exception()) is not None:
                logger.error("a topic's upkeep failed", exc_info=error)


def _seq(position: Position) -> int:
    return position.seq
