"""The pause before the next attempt at a failing endpoint."""

from collections.abc import Callable
from typing import Final

FIRST_SECONDS: Final = 1.0
LONGEST_SECONDS: Final = 300.0
"""Seconds: an endpoint that was down has all events at most some five minutes after its return."""

LONGEST_ASKED_SECONDS: Final = 3_600.0
"""Seconds of a `Retry-After` that the server obeys at most."""


def pause(failures: int, retry_after: float | None, random: Callable[[], float]) -> float:
    """Return the seconds until the next attempt.

    Args:
        failures: number of failed attempts in a row.
        retry_after: the endpoint's `Retry-After` in seconds, if present.
        random: returns a number from 0 to 1. The jitter spreads the attempts at endpoints of one
            host.
    """
    # 2 ** 9 already exceeds the longest pause.
    full = min(FIRST_SECONDS * 2.0 ** min(failures - 1, 9), LONGEST_SECONDS)
    asked = min(retry_after or 0.0, LONGEST_ASKED_SECONDS)
    return max(full * (0.5 + random() / 2), asked)
