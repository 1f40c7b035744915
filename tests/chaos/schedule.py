"""Which faults come when: decided by the seed before the run, whatever happens in it."""

import random
from collections.abc import Sequence

from msgspec import Struct


class Fault(Struct, frozen=True):
    """A fault to be.

    Args:
        number: counts from 1.
        at: seconds from the start.
        seconds: how long it lasts, where it lasts.
        share: of the connections that it strikes.
    """

    number: int
    at: float
    kind: str
    seconds: float
    share: float


def plan(
    seed: int, kinds: Sequence[str], *, faults: int, seconds: float, longest: float
) -> list[Fault]:
    """Spread faults over a time; every kind comes before any comes again.

    Args:
        seed: of the same seed comes the same plan.
        longest: seconds that one fault lasts at most.
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
