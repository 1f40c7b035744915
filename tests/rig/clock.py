"""A clock that only tests advance."""


class ManualClock:
    """A monotonic and a wall clock that only `advance` moves."""

    def __init__(self, *, monotonic: float = 1_000.0, wall: float = 1_700_000_000.0) -> None:
        self._monotonic = monotonic
        self._wall = wall

    def monotonic(self) -> float:
        return self._monotonic

    def time(self) -> float:
        return self._wall

    def advance(self, seconds: float) -> None:
        """Move both clocks forward by `seconds`."""
        self._monotonic += seconds
        self._wall += seconds
