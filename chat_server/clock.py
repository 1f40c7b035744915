"""The two clocks of the server, behind an interface so that tests can move the time by hand."""

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """The clocks, as an interface for all parts that need the time."""

    def monotonic(self) -> float:
        """Return seconds that never go back; only differences have a meaning."""
        ...

    def time(self) -> float:
        """Return seconds since 1970 (UTC)."""
        ...


class SystemClock:
    """The clocks of the operating system."""

    # The functions themselves, because each message asks for the time several times.
    monotonic = staticmethod(time.monotonic)
    time = staticmethod(time.time)


def iso_time(at: int) -> str:
    """Return milliseconds since 1970 as a time of ISO 8601."""
    moment = datetime.fromtimestamp(at // 1_000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{at % 1_000:03}Z"
