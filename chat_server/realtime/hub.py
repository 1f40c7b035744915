"""This worker's topics: opened with their first subscriber, repaired after trouble, then closed."""

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
from contextlib import suppress

from ..events import Event, HistoryPage, Position
from ..logs import LogThrottle
from ..protocol.errors import Unavailable
from .ports import Broker, Transport
from .recovery import Recovery, recover_last, recover_since, start_here
from .topic import Topic

logger = logging.getLogger(__name__)

MAX_CONCURRENT_REPAIRS = 32
RETRY_SECONDS = 0.5
REPLAY_CHUNK = 100
"""Events read at once for one subscriber: what it may hold in memory beside its buffer."""


class Hub:
    """Keeps subscribers in their topics and every topic in its order.

    It is the broker's listener. One path leads to subscribers: the broker's events, also for what
    this worker published itself, so that all workers see one order.

    Args:
        broker: where events come from and where they are read again.
        max_replay: events read at once for a subscriber that resumes, or for a repair.
    """

    def __init__(self, broker: Broker, max_replay: int) -> None:
        self._broker = broker
        self._max_replay = max_replay
        self._topics: dict[str, Topic] = {}
        self._opened: dict[str, asyncio.Event] = {}
        self._repairing: set[Topic] = set()
        self._throttle = LogThrottle()
        self._repair_slots = asyncio.Semaphore(MAX_CONCURRENT_REPAIRS)
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def topic_count(self) -> int:
        """Topics with subscribers on this worker."""
        return len(self._topics)

    async def stop(self) -> None:
        """End all repairs."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # Subscribers ---------------------------------------------------------------------------

    def join_now(self, transport: Transport, name: str) -> Recovery | None:
        """Let a subscriber join from here on, if that needs nothing of the store."""
        topic = self._topics.get(name)
        if topic is None or not topic.established:
            return None
        topic.join(transport)
        return start_here(topic.position)

    async def join(
        self,
        transport: Transport,
        name: str,
        since: Position | None,
        last: int | None,
        not_before: float = 0.0,
    ) -> Recovery:
        """Let a subscriber join a topic; it is sent nothing before `enter`.

        Args:
            transport: the subscriber's.
            name: the topic.
            since: the last position the subscriber saw.
            last: how many stored events it wants instead.
            not_before: seconds since 1970; no event older than this follows `since`.

        Returns:
            What it is told, and where it starts.

        Raises:
            Unavailable: the store does not answer; the subscriber is not in the topic.
        """
        topic = self._topics.get(name) or self._open(name)
        topic.join(transport)
        try:
            if not topic.established:
                await self._opened[name].wait()
                if not topic.established:
                    raise Unavailable("the topic cannot be reached now", topic=name)
            if last is not None:
                return await self._recover_last(name, last)
            if since is not None:
                return await self._recover_since(topic, since, not_before)
            return start_here(topic.position)
        except BaseException:
            self._remove(transport, topic)
            raise

    def enter(self, transport: Transport, name: str, recovery: Recovery) -> bool:
        """Place a subscriber that joined; return whether it must be replayed more than was read."""
        topic = self._topics[name]
        topic.enter(transport, recovery.start)
        if topic.lag_of(transport) is not None and transport.writable:
            topic.replay(transport, recovery.page)
        return topic.lag_of(transport) is not None

    def leave(self, transport: Transport, name: str) -> None:
        """Take a subscriber out of a topic."""
        topic = self._topics.get(name)
        if topic is not None:
            self._remove(transport, topic)

    def lag(self, transport: Transport, names: Iterable[str]) -> None:
        """Send a subscriber of these topics nothing until it is replayed."""
        for name in names:
            topic = self._topics.get(name)
            if topic is not None:
                topic.lag(transport)

    async def replay(
        self,
        transport: Transport,
        names: Collection[str],
        charge: Callable[[int], None] = lambda size: None,
    ) -> None:
        """Send a subscriber of these topics what it missed, where it lags.

        Ends when it lags nowhere, or is not writable any more.

        Args:
            transport: the subscriber's.
            names: its topics; may change while they are replayed.
            charge: told how many bytes were read for it.
        """
        while transport.writable and (lagging := [n for n in names if self._lags(transport, n)]):
            # None waits for another: the store may be away with one of them only.
            done = [await self._replay(transport, name, charge) for name in lagging]
            if not any(done):
                await asyncio.sleep(RETRY_SECONDS)

    def _lags(self, transport: Transport, name: str) -> bool:
        topic = self._topics.get(name)
        return topic is not None and topic.lag_of(transport) is not None

    async def _replay(self, transport: Transport, name: str, charge: Callable[[int], None]) -> bool:
        """Replay one topic; return False if it has to be tried again after a while."""
        while transport.writable:
            topic = self._topics.get(name)
            seen = None if topic is None else topic.lag_of(transport)
            if topic is None or seen is None:
                return True
            try:
                page = await self._broker.history(name, after=seen.seq, limit=REPLAY_CHUNK)
                charge(page.size)
                if page.epoch == seen.epoch and page.seq < seen.seq:
                    await self._begin_epoch(name, page.epoch)
                    continue
            except Unavailable:
                return False
            # It may have left, come back, moved on or filled up while the store was read.
            moved = self._topics.get(name) is not topic or topic.lag_of(transport) != seen
            if moved or not transport.writable:
                continue
            topic.replay(transport, page)
            if topic.lag_of(transport) == seen and transport.writable:
                # The store has no more, and yet this worker stands elsewhere: it must look.
                topic.stale = True
                self._repair(topic)
                return False
        return True

    async def _recover_last(self, name: str, last: int) -> Recovery:
        page = await self._broker.history(name, limit=last, newest=True)
        if page.more and len(page.events) < last:
            # They are too large to be read at once, so the first of them come first.
            after = max(page.seq - last, 0)
            page = await self._broker.history(name, after=after, limit=REPLAY_CHUNK)
        return recover_last(page)

    async def _recover_since(self, topic: Topic, since: Position, not_before: float) -> Recovery:
        page = await self._broker.history(topic.name, after=since.seq, limit=REPLAY_CHUNK)
        recovery = recover_since(since, page, self._max_replay, not_before)
        if recovery.recovered or recovery.position.epoch != topic.position.epoch:
            return recovery
        return start_here(max(recovery.position, topic.position, key=_seq), recovery.reason)

    def _remove(self, transport: Transport, topic: Topic) -> None:
        topic.leave(transport)
        if topic.empty and self._topics.get(topic.name) is topic:
            self._close(topic)

    # Topics --------------------------------------------------------------------------------

    def _open(self, name: str) -> Topic:
        topic = self._topics[name] = Topic(name)
        opened = self._opened[name] = asyncio.Event()
        self._spawn(self._establish(topic, opened))
        return topic

    async def _establish(self, topic: Topic, opened: asyncio.Event) -> None:
        try:
            if self._topics.get(topic.name) is not topic:
                return  # whoever wanted it has left, and nobody would end the subscription
            await self._broker.subscribe(topic.name)
            while not topic.established:
                await self._catch_up(topic)
            if topic.stale:
                self._repair(topic)
        except Unavailable:
            # Whoever waits is told so; the next one to come starts afresh.
            if self._topics.get(topic.name) is topic:
                self._close(topic)
        finally:
            opened.set()

    def _close(self, topic: Topic) -> None:
        del self._topics[topic.name]
        del self._opened[topic.name]
        self._broker.unsubscribe(topic.name)

    async def _catch_up(self, topic: Topic) -> None:
        generation = topic.generation
        page = await self._read_on(topic)
        if topic.generation == generation:  # else the page may be older than what was missed
            topic.catch_up(page)

    async def _read_on(self, topic: Topic) -> HistoryPage:
        """Read what follows a topic's position, or all of another epoch if that one is lost."""
        name = topic.name
        if not topic.established:
            return await self._broker.history(name, limit=1, newest=True)
        # Taken now: what subscribers are sent during the read is no evidence against the page. The
        # page begins with the last event that they have seen, to be compared.
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
            batches.setdefault(event.topic, []).append(event)
        for name, batch in batches.items():
            topic = self._topics.get(name)
            if topic is not None and topic.offer(batch):
                if self._throttle.due("missing"):
                    logger.warning("topic %s: events are missing, reading them again", name)
                self._repair(topic)

    def on_lost(self, topics: Iterable[str] | None = None) -> None:
        """Hold these topics' events from now on: their seqs may be given out for the second time.

        Whether that is so only a read can tell, once the store is back.
        """
        if interrupted := self._interrupt(topics):
            logger.warning("the events of %d topics may be missed", len(interrupted))

    def on_restored(self, topics: Iterable[str] | None = None) -> None:
        """Read again, for each of these topics, what may have been missed."""
        if interrupted := self._interrupt(topics):
            logger.info("the store is back; catching up %d topics", len(interrupted))
        for topic in interrupted:
            self._repair(topic)

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
