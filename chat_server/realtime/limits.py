"""Rates: how many messages a user may send to a worker, and how many bytes a user may read."""

import asyncio
import logging
import math
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import cast

from ..clock import Clock
from ..logs import LogThrottle, shown
from ..protocol.errors import RateLimited
from ..rates import Rate
from ..settings import LimitSettings

logger = logging.getLogger(__name__)

BURST_PACE = 4
"""Pace at which a user's burst of reads is served, in units of the rate behind the burst."""

UNPACED_BYTES = 1_048_576
"""Bytes that a user may read at once before the pace applies."""

READS_AT_ONCE = 4
"""Reads of one user that are under way at once: whoever comes next waits for all of their pages."""

RESERVED_BYTES = UNPACED_BYTES // READS_AT_ONCE
"""Bytes as which a read counts until it has ended: else those that wait would begin together."""


class TokenBucket:
    """A rate with a burst: tokens come at `rate` a second and at most `burst` are kept.

    Args:
        rate: tokens per second, above 0.
        burst: maximum number of tokens; a new bucket is full.
        now: seconds on the clock that `acquire` gets its `now` from.
    """

    __slots__ = ("_burst", "_rate", "_tokens", "_updated_at")

    def __init__(self, rate: float, burst: int, now: float) -> None:
        self._rate = rate
        self._burst = float(burst)
        self._tokens = float(burst)
        self._updated_at = now

    def acquire(self, now: float, cost: float = 1.0) -> float:
        """Spend `cost` tokens and return 0.0, or none and return the seconds until there is one.

        A command of any cost passes if one token is left, or its cost if that is less; the balance
        may go negative.
        """
        # What is left of thirds is not quite a third.
        least = 1.0 if cost >= 1.0 else cost - 1e-9
        tokens = min(self._burst, self._tokens + (now - self._updated_at) * self._rate)
        self._updated_at = now
        if tokens >= least:
            self._tokens = tokens - cost
            return 0.0
        self._tokens = tokens
        return (least - tokens) / self._rate

    def charge(self, cost: float) -> None:
        """Spend tokens whether or not there are so many."""
        self._tokens -= cost

    def left(self, now: float) -> tuple[float, float]:
        """Return how many tokens there are, and the seconds until all are there again."""
        tokens = min(self._burst, self._tokens + (now - self._updated_at) * self._rate)
        return tokens, (self._burst - tokens) / self._rate

    def is_full(self, now: float) -> bool:
        """Return whether the bucket is as good as a new one."""
        return self._tokens + (now - self._updated_at) * self._rate >= self._burst


class UserRates:
    """A bucket for each user, shared by all connections and requests of the user on this worker.

    A bucket lives on when a connection ends, so that coming back is no way to a new one. The bucket
    is forgotten when it is full again; if there are too many, the least recently used goes first.

    Args:
        rate: tokens per second and user.
        burst: tokens that a user may spend at once.
        limit: the setting that the log names with who is refused: each user once a minute, and one
            user a second. Nobody is named if it is empty.

    Attributes:
        refused: how often somebody had to wait.
    """

    MAX_USERS = 65_536
    """Buckets at most."""

    KEPT_USERS = 1_024
    """Buckets of which none is looked at: to forget one costs its user a new one a moment later."""

    def __init__(self, rate: float, burst: int, limit: str = "") -> None:
        self._rate = rate
        self._burst = burst
        self._limit = limit
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()
        self._named, self._lines = LogThrottle(60.0), LogThrottle(1.0)
        self.refused = 0

    def acquire(
        self,
        user: str,
        now: float,
        cost: float = 1.0,
        what: str = "too many requests",
        *,
        address: str = "",
        topic: str = "",
    ) -> TokenBucket:
        """Spend `cost` of `user`'s bucket.

        Args:
            user: whose.
            now: monotonic seconds.
            cost: how much.
            what: what the error says if there is too much of it.
            address: where it comes from, for the log.
            topic: what it is about, for the log.

        Returns:
            The bucket, to be charged with what the command turns out to cost.

        Raises:
            RateLimited: the user has to wait.
        """
        bucket = self._buckets.get(user)
        if bucket is None:
            bucket = self.bucket(user, now)
        else:
            self._buckets.move_to_end(user)
        if wait := bucket.acquire(now, cost):
            self.refused += 1
            self.log_refusal(user, address, topic)
            raise RateLimited(what, retry_in_ms=math.ceil(wait * 1000))
        return bucket

    def log_refusal(self, user: str, address: str, topic: str, limit: str = "") -> None:
        """Name in the log a user who had to wait.

        Args:
            user: who.
            address: where the user's message or request came from; empty if that is not known.
            topic: what it was about, as the client wrote it; empty for no topic.
            limit: the setting, if it is not that of these rates.
        """
        limit = limit or self._limit
        if limit and self._named.due(user) and self._lines.due(""):
            extra = {"user": user, "address": address or "unknown", "topic": shown(topic or None)}
            logger.warning("a user is refused by %s", limit, extra=extra)

    @property
    def policy(self) -> tuple[int, float]:
        """What a user may spend at once, and the seconds in which as much comes again."""
        return self._burst, self._burst / self._rate

    def charge(self, user: str, now: float, cost: float) -> None:
        """Spend what a command turned out to cost; a negative balance delays the next command."""
        if cost > 0:
            self.bucket(user, now).charge(cost)

    def bucket(self, user: str, now: float) -> TokenBucket:
        """Return the bucket of a user, for now: it may be forgotten later."""
        bucket = self._buckets.get(user)
        if bucket is not None:
            self._buckets.move_to_end(user)
            return bucket
        self._forget(now)
        bucket = self._buckets[user] = self._new_bucket(now)
        return bucket

    def _new_bucket(self, now: float) -> TokenBucket:
        return TokenBucket(self._rate, self._burst, now)

    def _forget(self, now: float) -> None:
        if len(self._buckets) < self.KEPT_USERS:
            return
        # Two for each new bucket, so that the buckets of users who have gone grow fewer.
        for _ in range(2):
            oldest = next(iter(self._buckets.values()), None)
            if oldest is None:
                return
            if len(self._buckets) >= self.MAX_USERS or oldest.is_full(now):
                self._buckets.popitem(last=False)


class PacedBucket(TokenBucket):
    """A bucket whose burst is served at a pace, behind its first `UNPACED_BYTES`.

    Attributes:
        free_at: monotonic seconds at which the next read may begin.
        pace: bytes per second at which the burst is served.
        turns: held by the reads that are under way.
    """

    __slots__ = ("free_at", "pace", "turns")

    def __init__(self, rate: float, burst: int, now: float) -> None:
        super().__init__(rate, burst, now)
        self.turns = asyncio.Semaphore(READS_AT_ONCE)
        self.pace = BURST_PACE * rate
        self.free_at = now - UNPACED_BYTES / self.pace

    def reserve(self, now: float) -> float:
        """Take a place for a read, and return the seconds until it may begin."""
        self.free_at = max(self.free_at, now - UNPACED_BYTES / self.pace)
        delay = max(self.free_at - now, 0.0)
        self.free_at += RESERVED_BYTES / self.pace
        return delay

    def charge(self, cost: float) -> None:
        """Count bytes that were read."""
        self._tokens -= cost
        self.free_at += cost / self.pace


class ReadRates(UserRates):
    """What each user may read from the store on this worker.

    Commands beyond the burst are refused. The burst itself is paced: reads wait for their turn, so
    that one user's burst of many megabytes does not fill a worker's seconds.

    Args:
        rate: bytes per second.
        burst: bytes that may be read without a refusal.
        clock: tells when a user may read.
    """

    def __init__(self, rate: float, burst: int, clock: Clock) -> None:
        super().__init__(rate, burst)
        self._clock = clock

    def begin(
        self, user: str, now: float | None = None
    ) -> AbstractAsyncContextManager[TokenBucket]:
        """Return the turn of a command that reads; see `turn`.

        Args:
            user: who reads.
            now: monotonic seconds, if the caller knows them.

        Raises:
            RateLimited: the user has read too much.
        """
        now = self._clock.monotonic() if now is None else now
        return self._turn(
            self.acquire(user, now, what="too much was read in too short a time"), now
        )

    def turn(self, user: str) -> AbstractAsyncContextManager[TokenBucket]:
        """Wait until it is `user`'s turn to read, which ends with the block.

        Yields:
            The bucket, to be charged with the bytes that were read.
        """
        now = self._clock.monotonic()
        return self._turn(self.bucket(user, now), now)

    @asynccontextmanager
    async def _turn(self, user_bucket: TokenBucket, now: float) -> AsyncIterator[TokenBucket]:
        bucket = cast(PacedBucket, user_bucket)
        waits = bucket.turns.locked()
        async with bucket.turns:
            delay = bucket.reserve(self._clock.monotonic() if waits else now)
            try:
                if delay:
                    await asyncio.sleep(delay)
                yield bucket
            finally:
                # The bytes that it was charged with count from now on.
                bucket.free_at -= RESERVED_BYTES / bucket.pace

    def _new_bucket(self, now: float) -> TokenBucket:
        return PacedBucket(self._rate, self._burst, now)


class ConnectionRate:
    """How many messages a connection may send; a `protocol.effects.RateLimit`.

    Until its user is known a connection has a bucket of its own: it can do nothing but
    authenticate.

    Args:
        users: the buckets of all users.
        rate: messages per second without a user.
        burst: messages at once without a user.
        address: where the connection comes from, for the log.

    Attributes:
        user: the user; None until somebody is known.
        factor: how many times what others may send the user may.
    """

    __slots__ = ("_address", "_burst", "_own", "_rate", "_users", "factor", "user")

    _limit = ""  # of a refusal by another than the user's rate

    def __init__(self, users: UserRates, rate: float, burst: int, address: str = "") -> None:
        self._address = address
        self.user: str | None = None
        self.factor = 1.0
        self._users = users
        self._rate = rate
        self._burst = burst
        self._own: TokenBucket | None = None

    def acquire(self, now: float, cost: float = 1.0) -> float:
        """See `protocol.effects.RateLimit`."""
        if self.user is not None:
            self._own = None
            wait = self._users.bucket(self.user, now).acquire(now, cost / self.factor)
            self._users.refused += wait > 0
            return wait
        if self._own is None:
            self._own = TokenBucket(self._rate, self._burst, now)
        return self._own.acquire(now, cost)

    def log_refusal(self, topic: str) -> None:
        """See `protocol.effects.RateLimit`."""
        if self.user is not None:
            self._users.log_refusal(self.user, self._address, topic, self._limit)


class BoundConnectionRate(ConnectionRate):
    """The same with a rate of the connection besides its user's.

    Args:
        users: see `ConnectionRate`.
        limits: the rates.
        rate: of the connection.
        address: see `ConnectionRate`.
    """

    __slots__ = ("_bucket", "_limit")

    def __init__(
        self, users: UserRates, limits: LimitSettings, rate: Rate, address: str = ""
    ) -> None:
        super().__init__(users, limits.messages_per_second, limits.message_burst, address)
        # It is full whenever the first message comes.
        self._bucket = TokenBucket(rate.count / rate.seconds, rate.count, -math.inf)

    def acquire(self, now: float, cost: float = 1.0) -> float:
        """See `protocol.effects.RateLimit`."""
        wait = self._bucket.acquire(now, cost / self.factor)
        self._limit = "limits.messages_per_connection" if wait else ""
        return wait or super().acquire(now, cost)


def connection_rate(users: UserRates, limits: LimitSettings, address: str) -> ConnectionRate:
    """Return the rate of a new connection from an address; `users` are the buckets of all users."""
    rate = Rate.parse(limits.messages_per_connection)
    if rate is not None:
        return BoundConnectionRate(users, limits, rate, address)
    return ConnectionRate(users, limits.messages_per_second, limits.message_burst, address)
