"""How a connection ended, and what a client does about it (docs/protocol.md, section 6)."""

import math
import random
from collections.abc import Callable

from msgspec import Struct

from ..protocol.close_codes import LONG_BACKOFF

JITTER = 0.1
"""How much a delay that the server asked for is stretched at most, so that not all come at once."""


class Ending(Struct, frozen=True):
    """Why a connection is gone, or was never made.

    Args:
        reason: for people.
        code: the close code, or None if there was none.
        retry_in_ms: milliseconds after which the server expects the client back, if it said so.
    """

    reason: str
    code: int | None = None
    retry_in_ms: int | None = None

    def __str__(self) -> str:
        return self.reason if self.code is None else f"{self.reason or 'no reason'} ({self.code})"


class Backoff:
    """Decides how long to wait before each attempt to reconnect.

    Waits grow exponentially and are spread at random over their whole length ("full jitter"): a
    server that restarts must not see all its clients again in the same second.

    Args:
        first: seconds that the first wait lasts at most.
        longest: seconds that any wait lasts at most.
        patient: the same as `first` for a server that is overloaded or has had too many messages.
        rng: returns a number from 0 up to 1.
    """

    def __init__(
        self,
        first: float = 0.5,
        longest: float = 30.0,
        patient: float = 10.0,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self._first = first
        self._longest = longest
        self._patient = patient
        self._rng = rng
        self._attempts = 0

    def delay(self, ending: Ending) -> float:
        """Return the seconds to wait after `ending`, more with each call since `reset`."""
        attempts, self._attempts = self._attempts, self._attempts + 1
        if ending.retry_in_ms:
            return ending.retry_in_ms / 1000 * (1 + JITTER * self._rng())
        if ending.code in LONG_BACKOFF:
            # Never at once: the least wait is half of the longest.
            return math.ldexp(self._patient, min(attempts, 3)) * (0.5 + self._rng() / 2)
        return min(self._longest, math.ldexp(self._first, min(attempts, 30))) * self._rng()

    def reset(self) -> None:
        """Begin anew, after a connection that lasted."""
        self._attempts = 0
