"""The end of a connection, and the wait before the next (docs/protocol.md, section 6)."""

import math
import random
from collections.abc import Callable

from msgspec import Struct

from ..protocol.close_codes import LONG_BACKOFF

JITTER = 0.1
"""The largest share by which a delay requested by the server is stretched, to spread clients."""

MAX_REQUESTED_SECONDS = 300.0
"""Seconds of the longest delay that a server may request. Without a bound a single answer could
disconnect a client for ever.
"""

RETRY_SECONDS = 1.0
"""Seconds to wait after a temporary refusal without a time."""

MIN_RETRY_SECONDS = 0.01
MAX_RETRY_SECONDS = 5.0
"""Seconds: bounds of the wait after a refusal. The wait doubles with each repetition up to the
upper bound, unless the server requests more.
"""


class Ending(Struct, frozen=True):
    """The reason why a connection ended or could not be made.

    Args:
        reason: the reason, for people.
        code: the close code, if any.
        retry_in_ms: milliseconds after which the server expects the client back, if given.
        announced: True if a chat server sent `code`, in a `goodbye` or in a problem document that
            refused the upgrade. A bare close code or HTTP status may be a proxy's, so a client
            never stops for good because of one.
    """

    reason: str
    code: int | None = None
    retry_in_ms: int | None = None
    announced: bool = False

    def __str__(self) -> str:
        """Return the reason, with the close code if present."""
        return self.reason if self.code is None else f"{self.reason or 'no reason'} ({self.code})"


class Backoff:
    """Computes the wait before each attempt to reconnect.

    Waits grow exponentially and are spread at random over their whole length ("full jitter"), so a
    restarting server does not see all its clients again in the same second. The client obeys a wait
    requested by the server within bounds. From the second repetition on, the wait is at least half
    of the client's own.

    Args:
        first: seconds of the first wait at most.
        longest: seconds of the client's own waits at most.
        patient: `first` after the close codes of overload and of too many connections or messages;
            this wait doubles three times at most, even beyond `longest`.
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
            # Never immediate: the least wait is half of the longest.
            return math.ldexp(self._patient, min(attempts, 3)) * (0.5 + self._rng() / 2)
        return own * self._rng()

    def reset(self) -> None:
        """Start over with short waits, after a connection that lasted."""
        self._attempts = 0


def retry_delay(
    retry_in_ms: int | None, repetition: int, rng: Callable[[], float] = random.random
) -> float:
    """Return the seconds to wait after a transient refusal of a command.

    Args:
        retry_in_ms: the wait requested by the server, if any.
        repetition: earlier refusals of the same command.
        rng: returns a number from 0 up to 1.
    """
    asked = (
        RETRY_SECONDS
        if retry_in_ms is None
        else max(_requested_seconds(retry_in_ms), MIN_RETRY_SECONDS)
    )
    grown = min(math.ldexp(asked, min(repetition, 30)), MAX_RETRY_SECONDS)
    # The jitter spreads commands that were refused together.
    return max(asked, grown) * (1 + rng() / 2)


def _requested_seconds(milliseconds: int) -> float:
    """Return a server's `retry_in_ms`, which may be any integer, as seconds within bounds."""
    return max(0, min(milliseconds, int(MAX_REQUESTED_SECONDS * 1000))) / 1000
