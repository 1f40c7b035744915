"""Prolongs the positions of subscribed topics without events."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from ...protocol.errors import Unavailable
from .storage import PASSING_MS

PROLONG_SECONDS: Final = PASSING_MS / 3_000
"""Seconds after which the unused positions of subscribed topics are prolonged."""


class Prolonging:
    """The subscribed topics without events.

    Args:
        is_subscribed: returns whether a topic is still subscribed to.
        read: `EventLog.history`, which prolongs a position, and calls `add` if it is still unused.
    """

    def __init__(
        self, is_subscribed: Callable[[str], bool], read: Callable[..., Awaitable[object]]
    ) -> None:
        self._is_subscribed = is_subscribed
        self._read = read
        self._unused: set[str] = set()

    def add(self, topic: str) -> None:
        """Note a topic without events."""
        self._unused.add(topic)

    async def run(self) -> None:
        """Prolong positions until the task is cancelled."""
        while True:
            await asyncio.sleep(PROLONG_SECONDS)
            for topic in list(self._unused):
                self._unused.discard(topic)
                if self._is_subscribed(topic):
                    try:
                        await self._read(topic, limit=0)
                    except Unavailable:
                        self._unused.add(topic)
