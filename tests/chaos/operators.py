"""The operators of a run, and the checks of their orders."""

import asyncio
import random

from .announcements import Announcements
from .config import Config
from .orders import Orders
from .outcasts import Outcasts
from .system import System
from .violation import Violation

LATE_FACTOR = 3.0
"""Factor: an order may take this many times the longest fault, because faults may coincide."""


class Operators:
    """Operators that exclude users, and that announce to all clients.

    Args:
        config: the run's config; its seed determines the random times.
        system: the server.
        url: the clients' address.

    Attributes:
        orders: the orders given.
        violations: orders that were not obeyed.
    """

    def __init__(self, config: Config, system: System, url: str) -> None:
        self.orders = Orders(system, LATE_FACTOR * config.longest)
        self.violations: list[Violation] = []
        self._patience = config.patience
        moods = random.Random(config.seed)
        self._outcasts = Outcasts(self.orders, system.mint, url, moods, self.violations)
        self._announcements = Announcements(
            self.orders, url, system.mint("listener"), moods, self.violations
        )

    @property
    def heard(self) -> int:
        """Number of checks of a connection for a confirmed announcement."""
        return self._announcements.heard

    def start(self) -> list[asyncio.Task[None]]:
        """Begin; return the tasks to cancel."""
        work = [*self._outcasts.work(), *self._announcements.work()]
        return [asyncio.create_task(each) for each in work]

    async def settle(self) -> list[Violation]:
        """Wait until all permitted users are connected; return missing users."""
        return await self._outcasts.settle(self._patience)
