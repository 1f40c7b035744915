"""The two clocks the server reads, behind one seam so that tests can move time by hand."""

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What a part that needs the time is given."""

    def monotonic(self) -> float:
        """Return seconds that never go back; only differences mean anything."""
        ...

    def time(self) -> float:
        """Return seconds since 1970 (UTC)."""
        ...


class SystemClock:
    """The clocks of the operating system."""

    # The functions themselves: each message asks several times, and calls add up.
    monotonic = staticmethod(time.monotonic)
    time = staticmethod(time.time)


def iso_time(at: int) -> str:
    """Return milliseconds since 1970 as a time of ISO 8601."""
    moment = datetime.fromtimestamp(at // 1_000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{at % 1_000:03}Z"
