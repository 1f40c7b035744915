"""How a connection ended, and what a client does about it (docs/protocol.md, section 6)."""

import math
import random
from collections.abc import Callable

from msgspec import Struct

from ..protocol.close_codes import LONG_BACKOFF

JITTER = 0.1
"""How much a delay that the server asked for is stretched at most, so that not all come at once."""

LONGEST_WISH_SECONDS = 300.0
"""The longest delay that a server may ask for. A client that obeyed any number could be sent away
for ever by one answer."""

RETRY_SECONDS = 1.0
"""The wait after a refusal that may pass and names no time."""

LEAST_RETRY_SECONDS = 0.01
LONGEST_RETRY_SECONDS = 5.0
"""Waits after refusals double with each repetition up to this, unless the server asks for more."""


class Ending(Struct, frozen=True):
    """Why a connection is gone, or was never made.

    Args:
        reason: for people.
        code: the close code, or None if there was none.
        retry_in_ms: milliseconds after which the server expects the client back, if it said so.
        announced: whether a chat server said `code`: in a `goodbye`, or in a problem document that
            refused the upgrade. A bare close code or HTTP status may come from a proxy, and so
            never makes a client stop for good.
    """

    reason: str
    code: int | None = None
    retry_in_ms: int | None = None
    announced: bool = False

    def __str__(self) -> str:
        """Return the reason and, if there is one, the close code."""
        return self.reason if self.code is None else f"{self.reason or 'no reason'} ({self.code})"


class Backoff:
    """Decides how long to wait before each attempt to reconnect.

    Waits grow exponentially and are spread at random over their whole length ("full jitter"): a
    server that restarts must not see all its clients again in the same second. A wait that the
    server asks for is obeyed within bounds: from its second repetition on, it is no shorter than
    half of what the client would have waited by itself.

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
        own = min(self._longest, math.ldexp(self._first, min(attempts, 30)))
        if ending.retry_in_ms is not None and ending.retry_in_ms > 0:
            asked = _wish(ending.retry_in_ms)
            return max(asked, own / 2 if attempts else 0.0) * (1 + JITTER * self._rng())
        if ending.code in LONG_BACKOFF:
            # Never at once: the least wait is half of the longest.
            return math.ldexp(self._patient, min(attempts, 3)) * (0.5 + self._rng() / 2)
        return own * self._rng()

    def reset(self) -> None:
        """Begin anew, after a connection that lasted."""
        self._attempts = 0


def retry_delay(
    retry_in_ms: int | None, repetition: int, rng: Callable[[], float] = random.random
) -> float:
    """Return the seconds to wait after a command was refused for the moment.

    Args:
        retry_in_ms: what the server asked for, if anything.
        repetition: refusals of the same command before this one.
        rng: returns a number from 0 up to 1.
    """
    asked = RETRY_SECONDS if retry_in_ms is None else max(_wish(retry_in_ms), LEAST_RETRY_SECONDS)
    grown = min(math.ldexp(asked, min(repetition, 30)), LONGEST_RETRY_SECONDS)
    # Spread, or all that were refused together would be refused together again.
    return max(asked, grown) * (1 + rng() / 2)


def _wish(milliseconds: int) -> float:
    """Return what a server asked for in seconds, within bounds; it may be any integer."""
    return max(0, min(milliseconds, int(LONGEST_WISH_SECONDS * 1000))) / 1000
