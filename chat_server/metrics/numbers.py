"""The numbers of one worker: plain integers and counters, raised by the code that counts."""

from bisect import bisect_left
from collections import Counter
from typing import Any

from .families import BOUNDS


class Histogram:
    """Counts observations by size.

    Attributes:
        counts: observations in each bucket, the last without an upper bound.
        total: the sum of all observations.
    """

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.total = 0.0

    def observe(self, seconds: float, times: int = 1) -> None:
        """Count an observation. A negative duration, from clocks that differ, counts as zero."""
        seconds = max(seconds, 0.0)
        self.counts[bisect_left(BOUNDS, seconds)] += times
        self.total += seconds * times


class StoreNumbers:
    """Commands, errors and response times of a worker's Redis."""

    __slots__ = ("commands", "errors", "seconds")

    def __init__(self) -> None:
        self.commands = 0
        self.errors: Counter[str] = Counter()
        self.seconds = Histogram()


class Numbers:
    """Counts of a worker since its start; `families` has the meaning of each."""

    __slots__ = (
        "closed",
        "commands",
        "connections",
        "delivered_bytes",
        "deliveries",
        "delivery_seconds",
        "errors",
        "gaps",
        "gc_seconds",
        "hooks",
        "http_responses",
        "loop_lag_seconds",
        "messages_received",
        "messages_sent",
        "opened",
        "publish_seconds",
        "rate_limited",
        "received_bytes",
        "replayed_events",
        "resumes",
        "sent_bytes",
        "slow_readers",
        "sockets_refused",
        "store",
        "tokens_refused",
        "webhooks",
    )

    def __init__(self) -> None:
        # By transport and encoding.
        self.connections: Counter[tuple[str, str]] = Counter()
        self.opened: Counter[tuple[str, str]] = Counter()
        self.closed: Counter[int] = Counter()
        self.tokens_refused: Counter[str] = Counter()
        self.rate_limited: Counter[str] = Counter()
        self.sockets_refused = 0
        self.slow_readers = 0
        # By name and outcome.
        self.hooks: Counter[tuple[str, str]] = Counter()
        self.resumes: Counter[str] = Counter()
        self.replayed_events = 0
        self.gaps: Counter[str] = Counter()
        self.messages_received = 0
        self.received_bytes = 0
        # Pushes of topics; then messages to single connections.
        self.deliveries = 0
        self.delivered_bytes = 0
        self.messages_sent = 0
        self.sent_bytes = 0
        # By the class of the command, and `ok` or the code of the error.
        self.commands: Counter[tuple[Any, str]] = Counter()
        self.errors: Counter[str] = Counter()
        self.http_responses: Counter[int] = Counter()
        # By the webhook's name and outcome.
        self.webhooks: Counter[tuple[str, str]] = Counter()
        self.publish_seconds = Histogram()
        self.delivery_seconds = Histogram()
        self.store = StoreNumbers()
        self.loop_lag_seconds = Histogram()
        # By generation.
        self.gc_seconds = [0.0, 0.0, 0.0]
