"""Keeps the garbage collector from pausing a worker with many connections.

A full collection visits every object: half a second for 20,000 connections. Therefore no object may
depend on a full collection to be freed. Some objects of a connection or a handshake refer to each
other in a cycle. In this case the class that knows the end of their life has a method `release`,
private unless other classes call it. `release` drops the references of the cycle, and reference
counting then frees the objects at once. `release` has no other purpose, and
tests/server/test_leftovers.py counts the objects left without it.

`gc.freeze` exempts the objects of the start. Young collections miss some garbage, so a full
collection still runs. It runs only while it is quick, or if the process has grown much without new
connections.
"""

import asyncio
import gc
from collections.abc import Callable

from ..metrics.process import resident_bytes

THRESHOLDS = (1_000, 5, 1_000_000)
"""Thresholds of `gc.set_threshold`. Young collections visit 6,000 objects at most, a few ms.
Smaller thresholds would visit each object just as often. A full collection never starts by
itself, because a million collections of generation 1 would have to come first.
"""

FULL_SECONDS = 60.0
"""Seconds between two checks for a full collection."""

FULL_MAX_CONNECTIONS = 300
"""Connections up to which a full collection runs in any case: about 8 ms at 30 objects each."""

MAX_GROWTH = 1.25
"""Factor by which the process may exceed its expected memory. Beyond this factor a full collection
runs at any price. Connections that leave nothing behind never reach the factor.
"""

CONNECTION_BYTES = 65_536
"""Memory expected for each further connection, without TLS."""

MIN_GROWTH_BYTES = 64 * 2**20
"""Bytes of growth below which a full collection is not worth the pause."""


class GcPolicy:
    """Runs full collections while connections are few, or after growth without new connections.

    Args:
        connections: returns the number of open connections.
    """

    def __init__(self, connections: Callable[[], int]) -> None:
        self._connections = connections
        self._timer: asyncio.TimerHandle | None = None
        self._collected_at = (0, 0)

    def start(self) -> None:
        """Exempt all present objects from collection, and plan the first full collection."""
        gc.collect()
        gc.freeze()
        gc.set_threshold(*THRESHOLDS)
        self._collected_at = (resident_bytes(), 0)
        self._plan()

    def stop(self) -> None:
        """Plan no further collection."""
        if self._timer is not None:
            self._timer.cancel()

    def _plan(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(FULL_SECONDS, self._collect)

    def _collect(self) -> None:
        connections = self._connections()
        if connections <= FULL_MAX_CONNECTIONS or self._has_grown(connections):
            gc.collect()
            self._collected_at = (resident_bytes(), connections)
        self._plan()

    def _has_grown(self, connections: int) -> bool:
        """Return True if new connections do not explain the growth of memory."""
        resident, before = self._collected_at
        expected = resident + max(0, connections - before) * CONNECTION_BYTES
        return resident_bytes() > max(expected * MAX_GROWTH, expected + MIN_GROWTH_BYTES)
