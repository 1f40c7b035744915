"""Limits the rate of commands to the server's rate limit."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable

from ..protocol.messages import Welcome

RATE_SHARE = 0.9
"""The share of the server's rate limit that the client uses: evenly sent messages may arrive in a
burst.
"""

BATCH_SECONDS = 0.25
"""Seconds between two batches at the rate limit: fewer and larger requests."""

MIN_RATE = 0.1
MAX_RATE = 1_000_000
"""Messages per second: bounds of the rate and the burst that a server may announce."""


class Pace:
    """A token bucket like the server's, for all commands of a client that are not urgent.

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
        """Wait until a batch may be sent, and return its maximum number of messages.

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
        """Count messages that are sent together."""
        self._tokens -= count

    def exhaust(self) -> None:
        """Note that the server's bucket is empty: other connections of the user may send, too."""
        self._tokens = min(self._tokens, 0.0)

    async def _refill(self) -> tuple[float, float]:
        """Add the earned tokens; return the rate and the burst."""
        limits = (await self._wait_online()).limits
        rate = RATE_SHARE * min(max(MIN_RATE, limits.messages_per_second), MAX_RATE)
        now = time.monotonic()
        earned = (now - self._updated_at) * rate
        # The server has also counted the first commands of the connection, for example `subscribe`.
        burst = max(RATE_SHARE * min(limits.message_burst, MAX_RATE), 1.0)
        self._tokens = min(burst, self._tokens + earned)
        self._updated_at = now
        return rate, burst
