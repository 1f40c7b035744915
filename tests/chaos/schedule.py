"""The schedule of faults: determined by the seed before the run, independent of the run."""

import random
from collections.abc import Sequence

from msgspec import Struct


class Fault(Struct, frozen=True):
    """A planned fault.

    Args:
        number: counts from 1.
        at: seconds from the start.
        seconds: the duration, for faults with a duration.
        share: share of the affected connections.
    """

    number: int
    at: float
    kind: str
    seconds: float
    share: float


def plan(
    seed: int, kinds: Sequence[str], *, faults: int, seconds: float, longest: float
) -> list[Fault]:
    """Spread faults over a time; every kind comes once before any kind is repeated.

    Args:
        seed: the same seed gives the same plan.
        longest: seconds of the longest fault.
    """
    rng = random.Random(seed)
    times = sorted(rng.uniform(0, seconds) for _ in range(faults))
    found: list[Fault] = []
    deck: list[str] = []
    for number, at in enumerate(times, start=1):
        if not deck:
            deck = rng.sample(kinds, len(kinds))
        # Most are short: the moments of change are what is dangerous.
        lasts = longest * rng.random() ** 2
        found.append(Fault(number, at, deck.pop(), lasts, rng.choice((0.1, 0.3, 1.0))))
    return found
