"""The used parts of topics' rates, for a single process."""

import math
from collections import OrderedDict
from typing import Final

from ..clock import Clock
from ..events import Draft
from ..rates import Exceeded, admit

MAX_RATES: Final = 100_000
"""Maximum number of rates, some 200 bytes each. Beyond it the least recently used begin anew."""


class MemoryRates:
    """Keeps for each rate of a topic the point in time up to which the rate is used up.

    Args:
        clock: tells the time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        # Times in milliseconds by topic and name of the rate; the least recently used first.
        self._used: OrderedDict[tuple[str, str], float] = OrderedDict()

    def charge(self, draft: Draft) -> Exceeded | None:
        """Count an event against all of its rates; if one is exceeded, count none and return it."""
        now = self._clock.monotonic() * 1_000
        used: dict[tuple[str, str], float] = {}
        for charge in draft.charges:
            key = (draft.topic, charge.name)
            used[key], wait = admit(self._used.get(key, 0.0), now, charge)
            if wait:
                return Exceeded(charge.what, math.ceil(wait), charge.limit)
        for key, until in used.items():
            self._used[key] = until
            self._used.move_to_end(key)
        self._forget(now)
        return None

    def _forget(self, now: float) -> None:
        # Two for each charge, so that the rates of absent users become fewer.
        for _ in range(2):
            key = next(iter(self._used), None)
            if key is None or (self._used[key] > now and len(self._used) <= MAX_RATES):
                return
            del self._used[key]
