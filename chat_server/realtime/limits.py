"""How much one connection, one user and one address may ask of the server."""

import math
from collections import Counter, OrderedDict

from ..protocol.errors import RateLimited


class TokenBucket:
    """A rate with a burst: tokens come at `rate` a second and at most `burst` are kept.

    Args:
        rate: tokens per second, above 0.
        burst: tokens kept at most, and held at the start.
        now: seconds on the clock that `take` is told of.
    """

    __slots__ = ("_burst", "_rate", "_tokens", "_updated_at")

    def __init__(self, rate: float, burst: int, now: float) -> None:
        self._rate = rate
        self._burst = float(burst)
        self._tokens = float(burst)
        self._updated_at = now

    def take(self, now: float, cost: float = 1.0) -> float:
        """Take `cost` tokens and return 0.0, or none and return the seconds until there is one.

        One is enough to begin with: what costs more is owed.
        """
        tokens = min(self._burst, self._tokens + (now - self._updated_at) * self._rate)
        self._updated_at = now
        if tokens >= 1.0:
            self._tokens = tokens - cost
            return 0.0
        self._tokens = tokens
        return (1.0 - tokens) / self._rate

    def owe(self, cost: float) -> None:
        """Take tokens whether or not there are so many."""
        self._tokens -= cost


class UserRates:
    """A bucket for each user who publishes or reads by HTTP, where no connection can hold it.

    Only the latest are remembered; whoever is forgotten starts with a full bucket.

    Args:
        rate: commands per second.
        burst: commands at once.
    """

    MAX_USERS = 10_000

    def __init__(self, rate: float, burst: int) -> None:
        self._rate = rate
        self._burst = burst
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def take(self, user: str, now: float) -> None:
        """Take one command of `user`.

        Raises:
            RateLimited: the user has to wait.
        """
        bucket = self._buckets.pop(user, None) or TokenBucket(self._rate, self._burst, now)
        self._buckets[user] = bucket
        if len(self._buckets) > self.MAX_USERS:
            self._buckets.popitem(last=False)
        if wait := bucket.take(now):
            raise RateLimited("too many requests", retry_in_ms=math.ceil(wait * 1000))


class ConnectionCounts:
    """Counts this worker's connections by user and by address.

    Args:
        per_user: connections one user may have.
        per_address: connections one address may have.
    """

    def __init__(self, per_user: int, per_address: int) -> None:
        self._per_user = per_user
        self._per_address = per_address
        self._users: Counter[str] = Counter()
        self._addresses: Counter[str] = Counter()

    def add_address(self, address: str) -> None:
        """Count a connection from `address`.

        Raises:
            RateLimited: it has as many as it may; nothing was counted.
        """
        _add(self._addresses, address, self._per_address, "this address")

    def add_user(self, user: str) -> None:
        """Count a connection of `user`.

        Raises:
            RateLimited: it has as many as it may; nothing was counted.
        """
        _add(self._users, user, self._per_user, "this user")

    def remove_address(self, address: str) -> None:
        """Take back one `add_address`."""
        _remove(self._addresses, address)

    def remove_user(self, user: str) -> None:
        """Take back one `add_user`."""
        _remove(self._users, user)


def _add(counts: Counter[str], name: str, limit: int, whose: str) -> None:
    if counts[name] >= limit:
        raise RateLimited(f"too many connections of {whose} (at most {limit})")
    counts[name] += 1


def _remove(counts: Counter[str], name: str) -> None:
    counts[name] -= 1
    if counts[name] <= 0:
        del counts[name]
