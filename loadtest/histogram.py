"""Latencies in constant memory, whatever their number."""

import math
from collections.abc import Iterable

BUCKETS_PER_E = 50
"""Buckets for each factor of e: a value is known to within 2 %, two digits as in the reports."""

_BUCKETS = math.ceil(math.log(3.6e9) * BUCKETS_PER_E)
"""Up to one hour in µs; whatever takes longer counts as that."""


class Histogram:
    """Counts of latencies by their logarithm."""

    def __init__(self, counts: Iterable[int] | None = None) -> None:
        self.counts = list(counts) if counts is not None else [0] * (_BUCKETS + 1)

    def add(self, microseconds: float) -> None:
        """Count one latency; below 1 µs it counts as 1 µs."""
        index = int(math.log(microseconds) * BUCKETS_PER_E) if microseconds > 1 else 0
        self.counts[min(index, _BUCKETS)] += 1

    def merge(self, other: "Histogram") -> None:
        """Add what another one has counted."""
        self.counts = [
            mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)
        ]

    def quantile(self, share: float) -> float:
        """Return the latency in µs that `share` of all (0 to 1) did not exceed; 0 if none."""
        wanted = max(1, math.ceil(sum(self.counts) * share))
        seen = 0
        for index, count in enumerate(self.counts):
            seen += count
            if seen >= wanted:
                return math.exp((index + 1) / BUCKETS_PER_E)
        return 0.0
