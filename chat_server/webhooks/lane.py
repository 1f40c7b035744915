"""A lane of an endpoint: topics whose messages are sent one after the other."""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Final
from zlib import crc32

from ..auth.permissions import allows
from ..consumers.ports import Batch, Cursor, Outdated
from ..logs import LogThrottle
from ..protocol.errors import Unavailable
from .endpoint import Endpoint
from .messages import messages

logger = logging.getLogger(__name__)

COMMIT_MS: Final = 2_000
"""Milliseconds of deliveries that a crash repeats at most, besides the requests under way."""


class Lane:
    """Takes the events of every nth topic of an endpoint, and delivers them in order.

    Each topic is in one lane. The messages of different lanes therefore overlap, and a message that
    the endpoint refuses blocks only the topics of its own lane.

    Args:
        endpoint: the endpoint.
        number: the number of this lane, from 0.
        count: number of lanes of the endpoint.
        keeps: returns True if the server stores events of a topic.
    """

    def __init__(
        self, endpoint: Endpoint, number: int, count: int, keeps: Callable[[str], bool]
    ) -> None:
        self._endpoint = endpoint
        self._keeps = keeps
        self._number = number
        self._count = count
        self._kinds = frozenset(endpoint.settings.events)
        self._throttle = LogThrottle()

    @property
    def name(self) -> str:
        """Name of the lane in the log."""
        return f"webhook {self._endpoint.name}"

    def wants(self, topic: str) -> bool:
        """Return True if the lane takes the events of a topic."""
        if crc32(topic.encode()) % self._count != self._number:
            return False
        return self._keeps(topic) and allows(self._endpoint.settings.topics, topic, "")

    async def cursors(self, topics: Collection[str]) -> Mapping[str, Cursor]:
        """Return the endpoint's cursors in these topics."""
        return await self._endpoint.store.cursors(self._endpoint.name, topics)

    async def take(self, batches: Sequence[Batch]) -> None:
        """Deliver batches of different topics, without a time limit.

        Raises:
            Unavailable: the database cannot be used now.
            Outdated: the cursor of a topic is not the batch's `before`.
        """
        endpoint = self._endpoint
        here: dict[str, Cursor | None] = {batch.topic: batch.before for batch in batches}
        known = await self.cursors(here)
        if any(known.get(topic) != before for topic, before in here.items()):
            endpoint.distrust()
            raise Outdated  # Prevents a second delivery.
        since = (await endpoint.open()).created_at
        for batch in batches:
            self._tell_gaps(batch)
        size = endpoint.settings.batch_size
        moved: dict[str, Cursor] = {}
        committed_at = endpoint.now()
        try:
            for message in messages(batches, self._kinds, size, since):
                await endpoint.deliver(message.body, since)
                moved |= message.cursors
                if endpoint.now() - committed_at >= COMMIT_MS:
                    await self._move(here, moved)
                    here |= moved
                    moved, committed_at = {}, endpoint.now()
        except BaseException:
            # An orderly shutdown commits the delivered part, so no other process repeats the part.
            with suppress(Unavailable, Outdated):
                await self._move(here, moved)
            raise
        await self._move(here, {batch.topic: batch.after for batch in batches})
        await endpoint.tidy()

    async def _move(self, before: Mapping[str, Cursor | None], after: Mapping[str, Cursor]) -> None:
        await self._endpoint.store.move(self._endpoint.name, before, after, self._endpoint.now())

    def _tell_gaps(self, batch: Batch) -> None:
        name = self._endpoint.name
        for first, last in batch.gaps:
            if self._throttle.due(batch.topic):
                logger.warning(
                    "webhook %s: the log had lost events %d to %d of %s before they were sent",
                    *(name, first, last, batch.topic),
                )
