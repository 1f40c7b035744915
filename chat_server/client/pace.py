"""Spaces commands to stay within the server's rate limit."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable

from ..protocol.messages import Welcome

RATE_SHARE = 0.9
"""The share of the server's rate limit that is used: messages sent evenly may arrive in a bunch."""

BATCH_SECONDS = 0.25
"""Seconds between two batches while the rate is used up: fewer requests, and larger ones."""

MIN_RATE = 0.1
MAX_RATE = 1_000_000
"""Bounds of the rate and the burst that a server may announce, in messages a second."""


class Pace:
    """A token bucket like the server's, for all commands of a client that need not hurry.

    Args:
        wait_online: waits for a connection and returns the server's welcome.
    """

    def __init__(self, wait_online: Callable[[], Awaitable[Welcome]]) -> None:
        self._wait_online = wait_online
        self._tokens = math.inf
        self._updated_at = time.monotonic()

    async def wait(self) -> None:
        """Wait until another command may be sent.

        Raises:
            ClientError: the client has ended.
        """
        rate, _ = await self._refill()
        self._tokens -= 1
        if self._tokens < 0:
            await asyncio.sleep(-self._tokens / rate)

    async def budget(self) -> float:
        """Wait until a batch may be sent, and return how many messages it may have.

        Raises:
            ClientError: the client has ended.
        """
        rate, burst = await self._refill()
        least = max(1.0, min(burst, rate * BATCH_SECONDS))
        if self._tokens < least:
            await asyncio.sleep((least - self._tokens) / rate)
            await self._refill()
        return max(1.0, self._tokens)

    def spend(self, count: float) -> None:
        """Count messages that leave together."""
        self._tokens -= count

    def exhaust(self) -> None:
        """Note that the server has no message left for us: others of the user may send, too."""
        self._tokens = min(self._tokens, 0.0)

    async def _refill(self) -> tuple[float, float]:
        """Add what was earned; return the rate and the burst."""
        limits = (await self._wait_online()).limits
        rate = RATE_SHARE * min(max(MIN_RATE, limits.messages_per_second), MAX_RATE)
        now = time.monotonic()
        earned = (now - self._updated_at) * rate
        # The connection's first commands, `subscribe` for one, have been counted by the server too.
        burst = max(RATE_SHARE * min(limits.message_burst, MAX_RATE), 1.0)
        self._tokens = min(burst, self._tokens + earned)
        self._updated_at = now
        return rate, burst
