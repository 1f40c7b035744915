"""What operators do in a run, and whether they are obeyed."""

import asyncio
import random

from .announcements import Announcements
from .config import Config
from .orders import Orders
from .outcasts import Outcasts
from .system import System
from .violation import Violation

LATE_FACTOR = 3.0
"""How much longer than a fault it may take until an order is carried out: faults may meet."""


class Operators:
    """Those who keep users out, and who speak to everybody.

    Args:
        config: of the run; its seed decides their moods.
        system: the server.
        url: where clients connect.

    Attributes:
        orders: what they have ordered.
        violations: how that was not obeyed.
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
        """How often a connection had to have had an announcement, and was asked."""
        return self._announcements.heard

    def start(self) -> list[asyncio.Task[None]]:
        """Begin; return what is to be cancelled."""
        work = [*self._outcasts.work(), *self._announcements.work()]
        return [asyncio.create_task(each) for each in work]

    async def settle(self) -> list[Violation]:
        """Wait until all are in who may be; return who is not."""
        return await self._outcasts.settle(self._patience)
