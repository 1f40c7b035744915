"""Rates: a number of events in a period, and the charges of an event against its topic's rates.

All rates use the generic cell rate algorithm (GCRA): the state of a rate is one point in time, up
to which the rate is used up. The store keeps the rates of topics, so that all workers share them.
`scripts/rates.lua` is `admit` for Redis.
"""

import re
from typing import Final

from msgspec import Struct

RATE_PATTERN: Final = r"^(|[1-9][0-9]{0,8}/[1-9][0-9]{0,6}(ms|s|m|h))\Z"
"""The form of a rate in settings: `30/1m` admits 30 events at once, then one every two seconds."""

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0}


class Rate(Struct, frozen=True):
    """A number of events in a period.

    Args:
        count: number of events admitted at once.
        seconds: the period in which as many events are admitted again.
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
    """The charge of an event against one rate of its topic.

    Args:
        name: distinguishes the topic's rates.
        interval_ms: milliseconds in which the rate admits one event.
        window_ms: milliseconds in which the rate admits its whole count.
        cost: number of events that the event counts as.
        what: the text of the error if the rate is exceeded.
        limit: the setting in the topic's namespace, for the numbers.
    """

    name: str
    interval_ms: float
    window_ms: float
    cost: int
    what: str
    limit: str = ""


def admit(until: float, now: float, charge: Charge) -> tuple[float, float]:
    """Count an event against a rate.

    An event of any cost is admitted if one unit of the rate is left: the cost beyond this unit
    delays later events.

    Args:
        until: the point up to which the rate is used up, in milliseconds; 0 for a new rate.
        now: milliseconds on the same clock.
        charge: the rate, and the cost.

    Returns:
        The new point up to which the rate is used up, and 0; or the old point, and the
        milliseconds until one unit is left again.
    """
    used = max(until, now)
    wait = used - now - (charge.window_ms - charge.interval_ms)
    if wait > 0:
        return until, wait
    return used + charge.interval_ms * charge.cost, 0


class Exceeded(Struct, frozen=True):
    """An exceeded rate.

    Args:
        what: the text of the error.
        wait_ms: milliseconds until one unit is left.
        limit: the setting in the topic's namespace.
    """

    what: str
    wait_ms: int
    limit: str
