"""Timers of all connections on one timer of the loop: a heap of slots, each 100 ms long.

With a timer per connection the process would wake up for every single heartbeat, and load its code
and data into the processor's caches anew: 250 µs of CPU for a ping and its answer.
"""

import asyncio
import heapq
import logging
import math
from collections.abc import Callable

logger = logging.getLogger(__name__)

SLOT_SECONDS = 0.1
"""Seconds of a slot; a call may be late by a slot. All calls of a slot come together."""

MAX_SECONDS = 60.0
"""Maximum wait in seconds. A slot is kept until it is due, so there are at most 600 slots."""

Callback = Callable[[], None]


class SlottedTimers:
    """Calls many callbacks, each about at the time that its owner asked for."""

    def __init__(self) -> None:
        self._slots: dict[int, set[Callback]] = {}
        # The numbers of the slots, as a heap.
        self._order: list[int] = []
        # The loop's timer for the end of the first slot.
        self._timer: asyncio.TimerHandle | None = None

    def schedule(self, callback: Callback, seconds: float) -> int:
        """Call `callback` once, at least `seconds` from now, but within MAX_SECONDS.

        Returns:
            The slot, for `cancel`.
        """
        now = asyncio.get_running_loop().time()
        slot = math.ceil((now + min(seconds, MAX_SECONDS)) / SLOT_SECONDS)
        callbacks = self._slots.get(slot)
        if callbacks is None:
            callbacks = self._slots[slot] = set()
            heapq.heappush(self._order, slot)
            if self._order[0] == slot:
                self._sleep(now)
        callbacks.add(callback)
        return slot

    def cancel(self, callback: Callback, slot: int) -> None:
        """Cancel the call of `callback`; does nothing if the slot is over."""
        callbacks = self._slots.get(slot)
        if callbacks is not None:
            callbacks.discard(callback)

    def stop(self) -> None:
        """Cancel everything."""
        if self._timer is not None:
            self._timer.cancel()
        self._slots.clear()
        self._order.clear()

    def _sleep(self, now: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        wait = self._order[0] * SLOT_SECONDS - now
        self._timer = asyncio.get_running_loop().call_later(max(wait, 0.0), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        while self._order and self._order[0] * SLOT_SECONDS <= now:
            callbacks = self._slots.pop(heapq.heappop(self._order))
            while callbacks:  # a callback may cancel another
                _call(callbacks.pop())
        if self._order:
            self._sleep(now)


def _call(callback: Callback) -> None:
    try:
        callback()
    except Exception:
        logger.exception("a timer failed")
