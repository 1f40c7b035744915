"""The two clocks the server reads, behind one seam so that tests can move time by hand."""

import time
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

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        return time.monotonic()

    def time(self) -> float:
        """Return seconds since 1970 (UTC)."""
        return time.time()
