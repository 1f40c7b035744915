"""The work of one consumer: read the topics with new events and hand the events over."""

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
"""Topics that may wait. The next sweep finds topics beyond this bound."""

MAX_CURSORS: Final = 20_000
"""Cursors kept in memory, about 400 bytes each."""

READS_AT_ONCE: Final = 8
"""Topics read at the same time."""

TAKE_TOPICS: Final = 64
"""Topics whose events are handed over together."""

TAKE_BYTES: Final = 1_048_576
"""Payload bytes after which the events are handed over before further topics are read."""

BACKOFF_SECONDS: Final = (0.25, 10.0)
"""Seconds: the first and the longest pause after a failure."""


class Follower:
    """Brings one consumer up to date with the log.

    Args:
        log: the log.
        consumer: the consumer.
        on_taken: called after each batch, with the topic and the consumer's new cursor.
        deep: reads older events that the log has trimmed.
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
        """Return the consumer's cursor in a topic; None if the cursor is not in memory."""
        return self._cursors.get(topic)

    def add(self, topics: Iterable[str]) -> None:
        """Queue the topics that the consumer wants."""
        wants = self._consumer.wants
        for topic in topics:
            if wants(topic) and len(self._pending) < MAX_PENDING:
                self._pending[topic] = None
        if self._pending:
            self._idle.clear()
            self._wake.set()

    async def compare(self, positions: Mapping[str, Position]) -> None:
        """Queue each topic with another position than the consumer's cursor.

        Raises:
            Unavailable: the cursors cannot be read.
        """
        wanted = [topic for topic in positions if self._consumer.wants(topic)]
        cursors = await self._consumer.cursors(wanted)
        for topic in wanted:
            if self._cursors.get(topic) != cursors.get(topic):
                self._cursors.pop(topic, None)  # Another process has moved the cursor.
        self.add(topic for topic in wanted if _differs(positions[topic], cursors.get(topic)))

    async def wait_until_idle(self) -> None:
        """Wait until all queued topics are up to date."""
        await self._idle.wait()

    async def run(self) -> None:
        """Hand over the events of queued topics until the task is cancelled."""
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
        """Read and hand over one batch of each topic, up to `TAKE_BYTES` in all."""
        await self._know(topics)
        batches: list[Batch] = []
        size = 0
        while topics and size < TAKE_BYTES:
            now, topics = topics[:READS_AT_ONCE], topics[READS_AT_ONCE:]
            for topic in now:
                del self._pending[topic]  # A hint during the read queues the topic again.
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
                # One faulty batch must not block the other topics.
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
        """Queue the topics again; the commit may or may not have succeeded."""
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
