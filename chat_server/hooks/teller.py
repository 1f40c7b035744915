"""Calls hooks after events, in order and at most once."""

import asyncio
import logging
from asyncio import Task
from collections import deque
from collections.abc import Sequence
from contextlib import suppress

from ..logs import LogThrottle
from ..protocol.errors import ChatError
from .registry import Hook
from .runner import HookFailure, Runner

logger = logging.getLogger(__name__)


class Teller:
    """Calls hooks with events: in order for each key, concurrently for different keys.

    Args:
        runner: runs the hooks.
        most: events that may wait. Further events are dropped, and the log has their number.
    """

    def __init__(self, runner: Runner, most: int) -> None:
        self._runner = runner
        self._most = most
        self._lines: dict[str, deque[tuple[Sequence[Hook], object]]] = {}
        self._tasks: set[Task[None]] = set()
        self._count = 0
        self._missed = 0
        self._throttle = LogThrottle(10.0)

    def tell(self, key: str, hooks: Sequence[Hook], subject: object) -> None:
        """Queue an event for hooks, behind all earlier events of this key."""
        if self._count >= self._most:
            self._missed += 1
            if self._throttle.due("full"):
                logger.error(
                    "%d events wait for slow hooks (hooks.max_pending): %d were not told so far",
                    *(self._count, self._missed),
                )
            return
        self._count += 1
        line = self._lines.get(key)
        if line is not None:
            line.append((hooks, subject))
            return
        self._lines[key] = deque([(hooks, subject)])
        task = asyncio.get_running_loop().create_task(self._drain(key))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _drain(self, key: str) -> None:
        line = self._lines[key]
        try:
            while line:
                hooks, subject = line.popleft()
                self._count -= 1
                for hook in hooks:
                    # `Runner` has counted and logged the failure.
                    with suppress(HookFailure, ChatError):
                        await self._runner.run(hook, subject)
        finally:
            self._count -= len(line)
            del self._lines[key]

    async def stop(self, seconds: float) -> None:
        """Wait at most `seconds` for the queued events, then drop the rest."""
        if not self._tasks:
            return
        await asyncio.wait(list(self._tasks), timeout=seconds)
        if self._count:
            logger.warning("the server stops: %d events were not told to hooks", self._count)
        for task in self._tasks:
            task.cancel()
