"""Takes a topic's history out of everything that keeps it."""

from typing import Protocol

from ..events import Position
from ..protocol.errors import Unavailable
from ..realtime.ports import EventLog


class Archived(Protocol):
    """What keeps events for longer than the store."""

    async def purge(self, topic: str, place: Position) -> None:
        """Forget what a topic said up to a place, which begins an epoch.

        Raises:
            Unavailable: it cannot be reached, and may have forgotten a part.
        """
        ...


class History:
    """What was said in topics.

    Args:
        log: the store.
        archive: what keeps it for longer, if there is such a thing.
    """

    def __init__(self, log: EventLog, archive: Archived | None) -> None:
        self._log = log
        self._archive = archive

    async def purge(self, topic: str) -> tuple[Position, bool]:
        """Forget all that was said in a topic.

        Returns:
            Where the topic goes on, and whether the archive has forgotten it as well.

        Raises:
            Unavailable: the store cannot be reached; nothing is forgotten.
        """
        # The store first: what is archived from now on is what comes behind that place.
        place = await self._log.purge(topic)
        if self._archive is not None:
            try:
                await self._archive.purge(topic, place)
            except Unavailable:
                return place, False
        return place, True
