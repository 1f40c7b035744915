"""Removes a topic's history from the store and the archive."""

from typing import Protocol

from ..events import Position
from ..protocol.errors import Unavailable
from ..realtime.ports import EventLog


class Archived(Protocol):
    """An archive, which keeps events for longer than the store."""

    async def purge(self, topic: str, place: Position) -> None:
        """Forget a topic's events up to a place, the beginning of an epoch.

        Raises:
            Unavailable: the archive cannot be reached, and may have forgotten a part.
        """
        ...


class History:
    """The stored events of topics.

    Args:
        log: the store.
        archive: the archive, if configured.
    """

    def __init__(self, log: EventLog, archive: Archived | None) -> None:
        self._log = log
        self._archive = archive

    async def purge(self, topic: str) -> tuple[Position, bool]:
        """Forget all stored events of a topic.

        Returns:
            The position at which the topic goes on, and whether the archive has forgotten too.

        Raises:
            Unavailable: the store cannot be reached; nothing is forgotten.
        """
        # The store first: events archived from now on come behind its new place.
        place = await self._log.purge(topic)
        if self._archive is not None:
            try:
                await self._archive.purge(topic, place)
            except Unavailable:
                return place, False
        return place, True
