"""Sends the clients of a stopping worker to other workers: in batches, and spread over time."""

import asyncio
import math
import random

from ..protocol.close_codes import CloseCode
from .registry import Registry

RESTARTS = "the server restarts"
"""The reason of every `goodbye` of a stopping worker."""

RETURNS_PER_SECOND = 100
"""Clients per second that a draining worker sends to reconnect.

A large worker exceeds this rate, so that all fit into `server.drain_seconds`.
"""

SHORTEST_SPREAD_SECONDS = 1.0
"""Seconds over which the reconnects of even a few clients are spread."""

BATCH = 100
"""Clients that are closed in one turn of the loop.

A large worker closes more at once, so that half of `server.drain_seconds` is left for slow clients.
"""

BATCH_SECONDS = 0.05
"""Seconds between two batches."""

ABORT_SECONDS = 1.0
"""Seconds the loop may take to report aborted connections."""


class Drain:
    """The end of a worker's connections.

    Args:
        registry: the worker's connections.
        drain_seconds: seconds clients have to go by themselves.

    Attributes:
        announced: True as soon as the worker is not ready any more; connections are still accepted.
        begun: True once connections are being closed.
    """

    def __init__(self, registry: Registry, drain_seconds: float) -> None:
        self.announced = self.begun = False
        self._registry = registry
        self._drain_seconds = drain_seconds
        self._spread_ms = int(1000 * SHORTEST_SPREAD_SECONDS)

    async def run(self) -> None:
        """Close every connection; abort those still open after `drain_seconds`."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._drain_seconds
        self.announced = self.begun = True
        await self._close_all()
        if not await self._registry.wait_until_empty(max(deadline - loop.time(), 0.0)):
            for client in list(self._registry):
                client.abort()
            await self._registry.wait_until_empty(ABORT_SECONDS)

    @property
    def spread_seconds(self) -> float:
        """Seconds over which the clients of a stopping worker come back."""
        return self._spread_ms / 1000

    def reconnect_in_ms(self) -> int:
        """Return the milliseconds after which a client that came during the drain may come back."""
        return random.randint(1, self._spread_ms)  # noqa: S311 - spreads load, no secret

    async def _close_all(self) -> None:
        """Close in batches, and tell each client its own time to return, evenly spread."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        clients = list(self._registry)
        spread = len(clients) / RETURNS_PER_SECOND
        spread = max(min(spread, self._drain_seconds), SHORTEST_SPREAD_SECONDS)
        self._spread_ms = int(1000 * spread)
        done = 0
        while done < len(clients):
            passed = loop.time() - began
            batches = max((self._drain_seconds / 2 - passed) / BATCH_SECONDS, 1.0)
            size = max(BATCH, math.ceil((len(clients) - done) / batches))
            for number, client in enumerate(clients[done : done + size], start=done):
                if client in self._registry:
                    back = (number + random.random()) / len(clients) * spread  # noqa: S311
                    wait_ms = max(math.ceil((back - passed) * 1000), 1)
                    client.close(CloseCode.RESTART, RESTARTS, wait_ms)
            done += size
            if done < len(clients):
                await asyncio.sleep(BATCH_SECONDS)
