"""The feed of the memory broker."""

import asyncio
from asyncio import Future
from collections.abc import AsyncIterator, Callable, Mapping
from itertools import islice
from typing import Final

from ..events import Position
from .common import unavailable
from .topic_log import TopicLog

POSITIONS_AT_ONCE: Final = 500


class MemoryFeed:
    """Keeps `realtime.ports.FeedStore` for one process, the only user of its hints.

    Args:
        topics: the topics with events.
        log_of: returns a topic's log; None without a log, or once the broker is stopped.
        is_running: returns whether the broker runs.
    """

    def __init__(
        self,
        topics: Callable[[], list[str]],
        log_of: Callable[[str], TopicLog | None],
        is_running: Callable[[], bool],
    ) -> None:
        self._topics = topics
        self._log_of = log_of
        self._is_running = is_running
        # Topics in the order of storing; bounded by the topics of the broker.
        self.touched: dict[str, None] = {}

    async def share(self) -> None:
        """Do nothing: there is no other worker."""

    async def take(self, limit: int) -> list[str]:
        """Remove and return hints."""
        if not self._is_running():
            raise unavailable()
        topics = list(islice(self.touched, limit))
        for topic in topics:
            del self.touched[topic]
        return topics

    async def positions(self) -> AsyncIterator[Mapping[str, Position]]:
        """Iterate over all topics with events."""
        if not self._is_running():
            raise unavailable()
        names = iter(self._topics())
        while chunk := list(islice(names, POSITIONS_AT_ONCE)):
            logs = ((name, self._log_of(name)) for name in chunk)
            yield {name: Position(log.epoch, log.seq) for name, log in logs if log is not None}
            await asyncio.sleep(0)

    def release(self, topic: str, position: Position) -> "Future[None]":
        """Let the topic's log be trimmed up to a position."""
        log = self._log_of(topic)
        if log is not None and log.epoch == position.epoch:
            log.taken = position.seq
        future: Future[None] = asyncio.get_running_loop().create_future()
        future.set_result(None)
        return future
