"""One consumer's work: the topics in which there is something for it, read and handed over."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from ..events import Position
from ..logs import LogThrottle
from ..protocol.errors import Unavailable
from ..realtime.ports import EventLog, LogReader
from .ports import Batch, Consumer, Cursor, Outdated
from .reading import read_batch

logger = logging.getLogger(__name__)

MAX_PENDING: Final = 100_000
"""Topics that may wait; what does not fit is found by the next sweep."""

MAX_CURSORS: Final = 20_000
"""Cursors that are remembered, about 400 bytes each."""

READS_AT_ONCE: Final = 8
"""Topics that are read at the same time."""

TAKE_TOPICS: Final = 64
"""Topics whose events are handed over together."""

TAKE_BYTES: Final = 1_048_576
"""Payload bytes from which on no further topics are read before they are handed over."""

BACKOFF_SECONDS: Final = (0.25, 10.0)
"""First and longest pause after a failure."""


class Follower:
    """Brings one consumer up to date with the log.

    Args:
        log: the log.
        consumer: the consumer.
        on_taken: called with each topic that has been taken from, and how far.
        deep: reads what the log has no more.
    """

    def __init__(
        self,
        log: EventLog,
        consumer: Consumer,
        on_taken: Callable[[str, Cursor], None],
        deep: LogReader | None = None,
    ) -> None:
        self._deep = deep
        self._log = log
        self._consumer = consumer
        self._on_taken = on_taken
        self._pending: dict[str, None] = {}
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._cursors: OrderedDict[str, Cursor] = OrderedDict()
        self._throttle = LogThrottle()

    @property
    def consumer(self) -> Consumer:
        """The consumer."""
        return self._consumer

    def position(self, topic: str) -> Cursor | None:
        """Return how far the consumer has come in a topic, if that is remembered."""
        return self._cursors.get(topic)

    def add(self, topics: Iterable[str]) -> None:
        """Look into these topics soon."""
        wants = self._consumer.wants
        for topic in topics:
            if wants(topic) and len(self._pending) < MAX_PENDING:
                self._pending[topic] = None
        if self._pending:
            self._idle.clear()
            self._wake.set()

    async def compare(self, positions: Mapping[str, Position]) -> None:
        """Look soon into those of these topics that have gone on.

        Raises:
            Unavailable: the cursors cannot be read.
        """
        wanted = [topic for topic in positions if self._consumer.wants(topic)]
        cursors = await self._consumer.cursors(wanted)
        for topic in wanted:
            if self._cursors.get(topic) != cursors.get(topic):
                self._cursors.pop(topic, None)  # Somebody has moved it.
        self.add(topic for topic in wanted if _differs(positions[topic], cursors.get(topic)))

    async def wait_until_idle(self) -> None:
        """Wait until everything that was added has been taken."""
        await self._idle.wait()

    async def run(self) -> None:
        """Take what is added, until it is cancelled."""
        pause, longest = BACKOFF_SECONDS
        while True:
            if not self._pending:
                self._wake.clear()
                self._idle.set()
                await self._wake.wait()
            topics = [topic for topic, _ in zip(self._pending, range(TAKE_TOPICS), strict=False)]
            try:
                await self._bring_up_to_date(topics)
                pause = BACKOFF_SECONDS[0]
            except Unavailable as error:
                if self._throttle.due("unavailable"):
                    logger.warning("%s waits: %s", self._consumer.name, error)
                await asyncio.sleep(pause)
                pause = min(2 * pause, longest)

    async def _bring_up_to_date(self, topics: list[str]) -> None:
        """Take once from as many of these topics as fit."""
        await self._know(topics)
        batches: list[Batch] = []
        size = 0
        while topics and size < TAKE_BYTES:
            now, topics = topics[:READS_AT_ONCE], topics[READS_AT_ONCE:]
            for topic in now:
                del self._pending[topic]  # A hint that comes during the read is for the next one.
            try:
                read = await asyncio.gather(
                    *(
                        read_batch(self._log, topic, self._cursors.get(topic), self._deep)
                        for topic in now
                    )
                )
            except BaseException:
                self.add([*now, *(batch.topic for batch in batches)])
                raise
            batches += read
            size += sum(batch.size for batch in read)
        await self._take_all(batches)

    async def _know(self, topics: Iterable[str]) -> None:
        unknown = [topic for topic in topics if topic not in self._cursors]
        if unknown:
            self._cursors.update(await self._consumer.cursors(unknown))

    async def _take_all(self, batches: list[Batch]) -> None:
        news = [batch for batch in batches if batch.is_news]
        try:
            if news:
                await self._consumer.take(news)
        except Unavailable:
            self._return(news)
            raise
        except Exception as error:
            self._forget(news)
            if len(news) > 1:
                # One of them harms no other.
                for batch in news:
                    await self._take_all([batch])
            elif isinstance(error, Outdated):
                self.add([news[0].topic])
            elif self._throttle.due(news[0].topic):
                logger.exception("%s cannot take from %s", self._consumer.name, news[0].topic)
            return
        except BaseException:
            self._return(news)
            raise
        for batch in batches:
            self._note(batch)

    def _return(self, batches: Iterable[Batch]) -> None:
        """Read again later: what was committed is not known."""
        batches = list(batches)
        self._forget(batches)
        self.add(batch.topic for batch in batches)

    def _forget(self, batches: Iterable[Batch]) -> None:
        for batch in batches:
            self._cursors.pop(batch.topic, None)

    def _note(self, batch: Batch) -> None:
        self._cursors[batch.topic] = batch.after
        self._cursors.move_to_end(batch.topic)
        if len(self._cursors) > MAX_CURSORS:
            self._cursors.popitem(last=False)
        if batch.more:
            self.add([batch.topic])
        self._on_taken(batch.topic, batch.after)


def _differs(position: Position, cursor: Cursor | None) -> bool:
    if cursor is None:
        return position.seq > 0
    return (cursor.epoch, cursor.seq) != (position.epoch, position.seq)
