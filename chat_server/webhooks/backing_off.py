"""How long to wait until a failing endpoint is tried again."""

from collections.abc import Callable
from typing import Final

FIRST_SECONDS: Final = 1.0
LONGEST_SECONDS: Final = 300.0
"""An endpoint that was down has everything some five minutes after it is back at the latest."""

LONGEST_ASKED_SECONDS: Final = 3_600.0
"""Seconds of a `Retry-After` that are heeded at most."""


def pause(failures: int, retry_after: float | None, random: Callable[[], float]) -> float:
    """Return the seconds until the next attempt.

    Args:
        failures: how many attempts have failed in a row.
        retry_after: seconds that the endpoint asks for, if it does.
        random: returns a number from 0 to 1: endpoints behind one host come back one by one.
    """
    # 2 ** 9 is beyond the longest pause already.
    full = min(FIRST_SECONDS * 2.0 ** min(failures - 1, 9), LONGEST_SECONDS)
    asked = min(retry_after or 0.0, LONGEST_ASKED_SECONDS)
    return max(full * (0.5 + random() / 2), asked)
