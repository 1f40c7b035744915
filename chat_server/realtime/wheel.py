"""A timer wheel: one timer of the loop for all connections, Varghese and Lauck, SOSP 1987.

With a timer each, the process is woken for every heartbeat by itself, and what it needs has to be
fetched into the processor's caches anew: 250 µs of CPU for a ping and its answer.
"""

import asyncio
import heapq
import logging
import math
from typing import Protocol

logger = logging.getLogger(__name__)

GRAIN_SECONDS = 0.1
"""How late a call may come, so that those that are due at about the same time come together."""

MAX_SECONDS = 60.0
"""How far ahead the wheel looks. Slots are kept until their time has come, so it bounds them."""


class Timed(Protocol):
    """What is called when its time has come."""

    def on_timer(self) -> None:
        """Do what is due."""
        ...


class Wheel:
    """Calls many, each about when it asked for it."""

    def __init__(self) -> None:
        self._slots: dict[int, set[Timed]] = {}
        self._order: list[int] = []
        self._timer: asyncio.TimerHandle | None = None

    def plan(self, timed: Timed, seconds: float) -> int:
        """Call `timed` once, at least `seconds` from now but after MAX_SECONDS at the latest.

        Returns:
            What `cancel` wants to know.
        """
        now = asyncio.get_running_loop().time()
        slot = math.ceil((now + min(seconds, MAX_SECONDS)) / GRAIN_SECONDS)
        members = self._slots.get(slot)
        if members is None:
            members = self._slots[slot] = set()
            heapq.heappush(self._order, slot)
            if self._order[0] == slot:
                self._sleep(now)
        members.add(timed)
        return slot

    def cancel(self, timed: Timed, slot: int) -> None:
        """Do not call it any more."""
        members = self._slots.get(slot)
        if members is not None:
            members.discard(timed)

    def stop(self) -> None:
        """Call nobody any more."""
        if self._timer is not None:
            self._timer.cancel()
        self._slots.clear()
        self._order.clear()

    def _sleep(self, now: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        wait = self._order[0] * GRAIN_SECONDS - now
        self._timer = asyncio.get_running_loop().call_later(max(wait, 0.0), self._turn)

    def _turn(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        while self._order and self._order[0] * GRAIN_SECONDS <= now:
            members = self._slots.pop(heapq.heappop(self._order))
            while members:  # one that is called may cancel another
                self._call(members.pop())
        if self._order:
            self._sleep(now)

    @staticmethod
    def _call(timed: Timed) -> None:
        try:
            timed.on_timer()
        except Exception:
            logger.exception("a timer failed")
