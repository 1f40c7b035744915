"""Latencies in constant memory, for any number of values."""

import math
from collections.abc import Iterable

BUCKETS_PER_E = 50
"""Buckets per factor of e: a resolution of 2 %, two digits as in the reports."""

_BUCKETS = math.ceil(math.log(3.6e9) * BUCKETS_PER_E)
"""Buckets up to one hour in µs; longer times count as one hour."""


class Histogram:
    """Counts of latencies by their logarithm."""

    def __init__(self, counts: Iterable[int] | None = None) -> None:
        self.counts = list(counts) if counts is not None else [0] * (_BUCKETS + 1)

    def add(self, microseconds: float) -> None:
        """Count one latency; values below 1 µs count as 1 µs."""
        index = int(math.log(microseconds) * BUCKETS_PER_E) if microseconds > 1 else 0
        self.counts[min(index, _BUCKETS)] += 1

    def merge(self, other: "Histogram") -> None:
        """Add the counts of another histogram."""
        self.counts = [
            mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)
        ]

    def quantile(self, share: float) -> float:
        """Return the quantile in µs of `share` (0 to 1); 0 without values."""
        wanted = max(1, math.ceil(sum(self.counts) * share))
        seen = 0
        for index, count in enumerate(self.counts):
            seen += count
            if seen >= wanted:
                return math.exp((index + 1) / BUCKETS_PER_E)
        return 0.0
