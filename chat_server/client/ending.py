"""The end of a connection, and the wait before the next (docs/protocol.md, section 6)."""

import math
import random
from collections.abc import Callable

from msgspec import Struct

from ..protocol.close_codes import LONG_BACKOFF

JITTER = 0.1
"""The largest share by which a delay that the server asked for is stretched, to spread clients."""

MAX_REQUESTED_SECONDS = 300.0
"""The longest delay that a server may ask for: a client that obeyed any number could be sent away
for ever by one answer."""

RETRY_SECONDS = 1.0
"""Seconds to wait after a temporary refusal that names no time."""

MIN_RETRY_SECONDS = 0.01
MAX_RETRY_SECONDS = 5.0
"""Bounds of the wait after a refusal, in seconds. The wait doubles with each repetition up to the
upper bound, unless the server asks for more."""


class Ending(Struct, frozen=True):
    """The reason why a connection ended or could not be made.

    Args:
        reason: for people.
        code: the close code, if any.
        retry_in_ms: milliseconds after which the server expects the client back, if given.
        announced: whether a chat server sent `code`, in a `goodbye` or in a problem document that
            refused the upgrade. A bare close code or HTTP status may be a proxy's, and so never
            makes a client stop for good.
    """

    reason: str
    code: int | None = None
    retry_in_ms: int | None = None
    announced: bool = False

    def __str__(self) -> str:
        """Return the reason and, if there is one, the close code."""
        return self.reason if self.code is None else f"{self.reason or 'no reason'} ({self.code})"


class Backoff:
    """Computes the wait before each attempt to reconnect.

    Waits grow exponentially and are spread at random over their whole length ("full jitter"): a
    server that restarts must not see all its clients again in the same second. A wait that the
    server asks for is obeyed within bounds: from its second repetition on, the wait is at least
    half of the client's own.

    Args:
        first: seconds that the first wait lasts at most.
        longest: seconds that a wait of the client's own lasts at most.
        patient: `first` after the close codes of overload and of too many connections or messages;
            it doubles three times at most, beyond `longest`.
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
            asked = _requested_seconds(ending.retry_in_ms)
            return max(asked, own / 2 if attempts else 0.0) * (1 + JITTER * self._rng())
        if ending.code in LONG_BACKOFF:
            # Never at once: the least wait is half of the longest.
            return math.ldexp(self._patient, min(attempts, 3)) * (0.5 + self._rng() / 2)
        return own * self._rng()

    def reset(self) -> None:
        """Start over with short waits, after a connection that lasted."""
        self._attempts = 0


def retry_delay(
    retry_in_ms: int | None, repetition: int, rng: Callable[[], float] = random.random
) -> float:
    """Return the seconds to wait after a command was refused for the moment.

    Args:
        retry_in_ms: the wait that the server asked for, if any.
        repetition: refusals of the same command before this one.
        rng: returns a number from 0 up to 1.
    """
    asked = (
        RETRY_SECONDS
        if retry_in_ms is None
        else max(_requested_seconds(retry_in_ms), MIN_RETRY_SECONDS)
    )
    grown = min(math.ldexp(asked, min(repetition, 30)), MAX_RETRY_SECONDS)
    # Spread, or all that were refused together would be refused together again.
    return max(asked, grown) * (1 + rng() / 2)


def _requested_seconds(milliseconds: int) -> float:
    """Return a server's `retry_in_ms`, which may be any integer, as seconds within bounds."""
    return max(0, min(milliseconds, int(MAX_REQUESTED_SECONDS * 1000))) / 1000
