"""A gate that commands pass in their order."""

import asyncio
from collections import deque


class Gate:
    """Holds whoever comes while it is closed, and lets them through in the order they came.

    `asyncio.Event` wakes those who wait in their order too, but a newcomer passes it before they
    have run.
    """

    def __init__(self) -> None:
        self._open = True
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def is_open(self) -> bool:
        """Whether those who come are let through."""
        return self._open

    def close(self) -> None:
        """Hold whoever comes from now on."""
        self._open = False

    def open(self) -> None:
        """Let everybody through, one after the other."""
        self._open = True
        self._wake_next()

    async def passed(self) -> None:
        """Wait until the gate is open and those who came before are through."""
        if self._open and not self._waiting:
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._wake_next()
        try:
            await turn
        finally:
            self._waiting.remove(turn)
            self._wake_next()

    def _wake_next(self) -> None:
        if self._open and self._waiting and not self._waiting[0].done():
            self._waiting[0].set_result(None)
