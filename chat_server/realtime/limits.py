"""Rate limits: messages that a user may send to a worker, and bytes that a user may read."""

import asyncio
import logging
import math
from collections import Counter, OrderedDict
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
"""Pace of a user's burst of reads, in units of the rate that applies after the burst."""

UNPACED_BYTES = 1_048_576
"""Bytes that a user may read at once before the pace applies."""

READS_AT_ONCE = 4
"""Concurrent reads of one user; a further read waits until one of these has read all its pages."""

RESERVED_BYTES = UNPACED_BYTES // READS_AT_ONCE
"""Bytes charged for a read until the read ends; without a charge waiting reads begin together."""


class TokenBucket:
    """A token bucket: tokens come at `rate` per second, and at most `burst` tokens are kept.

    Args:
        rate: tokens per second, above 0.
        burst: maximum number of tokens; a new bucket is full.
        now: seconds on the clock that later calls of `acquire` use.
    """

    __slots__ = ("_burst", "_rate", "_tokens", "_updated_at")

    def __init__(self, rate: float, burst: int, now: float) -> None:
        self._rate = rate
        self._burst = float(burst)
        self._tokens = float(burst)
        self._updated_at = now

    def acquire(self, now: float, cost: float = 1.0) -> float:
        """Spend `cost` tokens and return 0.0, or spend none and return the seconds to wait.

        A command of any cost passes if one token is left, or its cost if the cost is below one
        token. The balance may go negative.
        """
        # Thirds of a token do not add up exactly: the rest of the last third is slightly too small.
        least = 1.0 if cost >= 1.0 else cost - 1e-9
        tokens = min(self._burst, self._tokens + (now - self._updated_at) * self._rate)
        self._updated_at = now
        if tokens >= least:
            self._tokens = tokens - cost
            return 0.0
        self._tokens = tokens
        return (least - tokens) / self._rate

    def charge(self, cost: float) -> None:
        """Spend tokens even if the balance becomes negative."""
        self._tokens -= cost

    def left(self, now: float) -> tuple[float, float]:
        """Return the number of tokens, and the seconds until the bucket is full again."""
        tokens = min(self._burst, self._tokens + (now - self._updated_at) * self._rate)
        return tokens, (self._burst - tokens) / self._rate

    def is_full(self, now: float) -> bool:
        """Return whether the bucket is full, like a new bucket."""
        return self._tokens + (now - self._updated_at) * self._rate >= self._burst


class UserRates:
    """Token buckets by user, shared by all connections and requests of a user on this worker.

    A bucket outlives the user's connections, so that a reconnect does not give a new bucket. A full
    bucket is forgotten. If there are too many buckets, the least recently used goes first.

    Args:
        rate: tokens per second and user.
        burst: tokens that a user may spend at once.
        limit: names the rates in the numbers.
        setting: the setting that the log names together with a refused user. Each user is logged
            once a minute at most, and one user a second. Refusals are not logged if it is empty.
    """

    MAX_USERS = 65_536
    """Maximum number of buckets."""

    KEPT_USERS = 1_024
    """Number of buckets below which full buckets stay: a forgotten bucket soon costs a new one."""

    def __init__(self, rate: float, burst: int, limit: str = "requests", setting: str = "") -> None:
        self._rate = rate
        self._burst = burst
        self.limit = limit
        self._setting = setting
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()
        self._named, self._lines = LogThrottle(60.0), LogThrottle(1.0)

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
        """Spend `cost` from the bucket of `user`.

        Args:
            user: the user.
            now: monotonic seconds.
            cost: tokens to spend.
            what: the text of the error if the bucket does not have the tokens.
            address: the client's address, for the log.
            topic: the topic of the command, for the log.

        Returns:
            The bucket, for later charges once the real cost is known.

        Raises:
            RateLimited: the user has to wait.
        """
        bucket = self._buckets.get(user)
        if bucket is None:
            bucket = self.bucket(user, now)
        else:
            self._buckets.move_to_end(user)
        if wait := bucket.acquire(now, cost):
            self.log_refusal(user, address, topic)
            raise self._refusal(wait, what)
        return bucket

    def find(self, user: str, now: float, what: str) -> RateLimited | None:
        """Return the refusal of a user who must wait, without spending tokens."""
        bucket = self._buckets.get(user)
        lacks = 0.0 if bucket is None else 1.0 - bucket.left(now)[0]
        # As in `TokenBucket.acquire`, thirds of a token do not add up exactly.
        return self._refusal(lacks / self._rate, what) if lacks > 1e-9 else None

    def _refusal(self, wait: float, what: str) -> RateLimited:
        return RateLimited.by(self.limit, what, retry_in_ms=math.ceil(wait * 1000))

    def log_refusal(self, user: str, address: str, topic: str, setting: str = "") -> None:
        """Log the name of a user who had to wait.

        Args:
            user: the user.
            address: source of the user's message or request; empty if the source is unknown.
            topic: the topic as the client wrote it; empty for no topic.
            setting: the setting, if another limit than that of these rates refused the user.
        """
        setting = setting or self._setting
        if setting and self._named.due(user) and self._lines.due(""):
            extra = {"user": user, "address": address or "unknown", "topic": shown(topic or None)}
            logger.warning("a user is refused by %s", setting, extra=extra)

    @property
    def policy(self) -> tuple[int, float]:
        """The burst, and the seconds in which a whole burst comes again."""
        return self._burst, self._burst / self._rate

    def charge(self, user: str, now: float, cost: float) -> None:
        """Spend the real cost of a command; a negative balance delays the next command."""
        if cost > 0:
            self.bucket(user, now).charge(cost)

    def bucket(self, user: str, now: float) -> TokenBucket:
        """Return the bucket of a user, for immediate use: the bucket may be forgotten later."""
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
        # Two buckets for each new one, so that the buckets of absent users become fewer.
        for _ in range(2):
            oldest = next(iter(self._buckets.values()), None)
            if oldest is None:
                return
            if len(self._buckets) >= self.MAX_USERS or oldest.is_full(now):
                self._buckets.popitem(last=False)


class PacedBucket(TokenBucket):
    """A bucket whose burst is served at a pace, after the first `UNPACED_BYTES`.

    Attributes:
        free_at: monotonic seconds at which the next read may begin.
        pace: bytes per second at which the burst is served.
        turns: semaphore of the reads that are under way.
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
    """Limits the bytes that each user may read from the store on this worker.

    Commands beyond the burst are refused. The burst itself is paced: reads wait for their turn. So
    one user's burst of many megabytes does not occupy a worker for seconds.

    Args:
        rate: bytes per second.
        burst: bytes that may be read without a refusal.
        clock: tells the time for refusals and turns.
    """

    def __init__(self, rate: float, burst: int, clock: Clock) -> None:
        super().__init__(rate, burst, "reads")
        self._clock = clock

    def begin(
        self, user: str, now: float | None = None
    ) -> AbstractAsyncContextManager[TokenBucket]:
        """Return the turn of a reading command; see `turn`.

        Args:
            user: the reading user.
            now: monotonic seconds, if the caller knows the time.

        Raises:
            RateLimited: the user has read too many bytes.
        """
        now = self._clock.monotonic() if now is None else now
        return self._turn(
            self.acquire(user, now, what="too much was read in too short a time"), now
        )

    def turn(self, user: str) -> AbstractAsyncContextManager[TokenBucket]:
        """Wait for a turn of `user` to read; the turn ends with the block.

        Yields:
            The bucket, to be charged with the bytes of the read.
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
                # The charged bytes count from now on, in place of the reservation.
                bucket.free_at -= RESERVED_BYTES / bucket.pace

    def _new_bucket(self, now: float) -> TokenBucket:
        return PacedBucket(self._rate, self._burst, now)


class ConnectionRate:
    """Limits the messages of a connection; a `protocol.effects.RateLimit`.

    Until its user is known a connection has its own bucket, and can do nothing but
    authenticate.

    Args:
        users: the buckets of all users.
        rate: messages per second without a user.
        burst: messages at once without a user.
        address: the connection's address, for the log.
        refused: counts refusals by limit; a new counter if None.

    Attributes:
        limit: name of the rate that refused last, for the numbers.
        user: the user; None until authentication.
        factor: multiplies the user's rates.
    """

    __slots__ = ("_address", "_burst", "_own", "_rate", "_refused", "_users", "factor", "user")

    limit = "messages"

    def __init__(
        self,
        users: UserRates,
        rate: float,
        burst: int,
        address: str = "",
        refused: Counter[str] | None = None,
    ) -> None:
        self._refused = Counter() if refused is None else refused
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
            return self._users.bucket(self.user, now).acquire(now, cost / self.factor)
        if self._own is None:
            self._own = TokenBucket(self._rate, self._burst, now)
        return self._own.acquire(now, cost)

    def note_refusal(self, topic: str) -> None:
        """See `protocol.effects.RateLimit`."""
        self._refused[self.limit] += 1
        if self.user is not None:
            own = self.limit != ConnectionRate.limit
            self._users.log_refusal(
                *(self.user, self._address, topic, f"limits.{self.limit}" if own else "")
            )


class BoundConnectionRate(ConnectionRate):
    """A `ConnectionRate` that has a rate of the connection besides the rate of the user.

    Args:
        users: see `ConnectionRate`.
        limits: the rates.
        rate: the rate of the connection.
        address: see `ConnectionRate`.
        refused: see `ConnectionRate`.
    """

    __slots__ = ("_bucket", "limit")

    def __init__(
        self,
        users: UserRates,
        limits: LimitSettings,
        rate: Rate,
        address: str,
        refused: Counter[str] | None,
    ) -> None:
        super().__init__(users, limits.messages_per_second, limits.message_burst, address, refused)
        self.limit = ConnectionRate.limit
        # With this start time the bucket is full whenever the first message comes.
        self._bucket = TokenBucket(rate.count / rate.seconds, rate.count, -math.inf)

    def acquire(self, now: float, cost: float = 1.0) -> float:
        """See `protocol.effects.RateLimit`."""
        wait = self._bucket.acquire(now, cost / self.factor)
        self.limit = "messages_per_connection" if wait else ConnectionRate.limit
        return wait or super().acquire(now, cost)


def connection_rate(
    users: UserRates, limits: LimitSettings, address: str, refused: Counter[str] | None = None
) -> ConnectionRate:
    """Return the rate of a new connection; for the arguments see `ConnectionRate`."""
    rate = Rate.parse(limits.messages_per_connection)
    if rate is not None:
        return BoundConnectionRate(users, limits, rate, address, refused)
    return ConnectionRate(
        *(users, limits.messages_per_second, limits.message_burst, address, refused)
    )
