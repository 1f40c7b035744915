"""Rates: so many of something in so much time, and what an event counts against those of its topic.

All of them are kept by the generic cell rate algorithm (GCRA): a rate is one point in time, up to
which what has been let pass uses it up. The store keeps the rates of topics, so that all workers
share them; `scripts/rates.lua` is `admit` for Redis.
"""

import re
from typing import Final

from msgspec import Struct

RATE_PATTERN: Final = r"^(|[1-9][0-9]{0,8}/[1-9][0-9]{0,6}(ms|s|m|h))\Z"
"""What a setting says: `30/1m` lets 30 pass at once, and from then on one in two seconds."""

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0}


class Rate(Struct, frozen=True):
    """So many in so much time.

    Args:
        count: how many may pass at once.
        seconds: the time in which as many may pass again.
    """

    count: int
    seconds: float

    @classmethod
    def parse(cls, text: str) -> "Rate | None":
        """Return the rate of a setting that fits `RATE_PATTERN`; None for no limit."""
        if not text:
            return None
        count, length, unit = re.fullmatch(r"(\d+)/(\d+)(\D+)", text).groups()  # type: ignore[union-attr]
        return cls(int(count), int(length) * _UNITS[unit])


class Charge(Struct, frozen=True):
    """What an event counts against one rate of its topic.

    Args:
        name: tells the topic's rates apart.
        interval_ms: milliseconds in which the rate lets one pass.
        window_ms: milliseconds in which it lets its whole count pass.
        cost: how many the event counts as.
        what: what there are too many of, for the error.
        limit: the setting in the topic's namespace, for the numbers.
    """

    name: str
    interval_ms: float
    window_ms: float
    cost: int
    what: str
    limit: str = ""


def admit(until: float, now: float, charge: Charge) -> tuple[float, float]:
    """Count something against a rate.

    An event of any cost passes if one is left of the rate: what it takes beyond that delays those
    behind it.

    Args:
        until: the point up to which the rate is used up, in milliseconds; 0 for a new one.
        now: milliseconds on the same clock.
        charge: the rate, and what is counted.

    Returns:
        The point up to which it is used up then, and 0; or the old one, and the milliseconds until
        one is left again.
    """
    used = max(until, now)
    wait = used - now - (charge.window_ms - charge.interval_ms)
    if wait > 0:
        return until, wait
    return used + charge.interval_ms * charge.cost, 0


class Exceeded(Struct, frozen=True):
    """A rate that is used up.

    Args:
        what: what there are too many of.
        wait_ms: milliseconds until one is left.
        limit: the setting in the topic's namespace.
    """

    what: str
    wait_ms: int
    limit: str
