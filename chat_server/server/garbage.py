"""Keeps the garbage collector from stopping a worker that holds many connections.

A full collection looks at every object: half a second for 20,000 connections. Connections and
handshakes are therefore taken apart when they end and need none, the objects of the start are set
aside for good, and what young collections still miss is looked for only while that is quick.
"""

import asyncio
import gc
from collections.abc import Callable

THRESHOLDS = (1_000, 5, 1_000_000)
"""Young collections look at some 6,000 objects at most, a few ms; each object is looked at twice
however small they are. A full one does not come by itself: it would take a million of them."""

FULL_SECONDS = 60.0
FULL_MAX_CONNECTIONS = 300
"""Connections up to which a full collection is quick: at some 30 objects each, about 8 ms."""


class Collector:
    """Runs full collections when there are few connections.

    Args:
        connections: tells how many there are.
    """

    def __init__(self, connections: Callable[[], int]) -> None:
        self._connections = connections
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Set aside all that exists, and begin."""
        gc.collect()
        gc.freeze()
        gc.set_threshold(*THRESHOLDS)
        self._plan()

    def stop(self) -> None:
        """End the full collections."""
        if self._timer is not None:
            self._timer.cancel()

    def _plan(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(FULL_SECONDS, self._collect)

    def _collect(self) -> None:
        if self._connections() <= FULL_MAX_CONNECTIONS:
            gc.collect()
        self._plan()
