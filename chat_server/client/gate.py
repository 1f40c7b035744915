"""A gate that tasks pass in their order of arrival."""

import asyncio
from collections import deque


class Gate:
    """Holds tasks while closed, and lets them pass in their order of arrival.

    `asyncio.Event` wakes its waiters in order too. But a task that comes later passes the event
    before the woken waiters have run.
    """

    def __init__(self) -> None:
        self._open = True
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def is_open(self) -> bool:
        """True if tasks may pass."""
        return self._open

    def close(self) -> None:
        """Hold tasks that come from now on."""
        self._open = False

    def open(self) -> None:
        """Let all tasks pass, one after the other."""
        self._open = True
        self._wake_next()

    async def passed(self) -> None:
        """Wait until the gate is open and earlier tasks have passed."""
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
