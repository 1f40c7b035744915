"""Keeps the garbage collector from stopping a worker that holds many connections.

A full collection looks at every object: half a second for 20,000 connections. So nothing may wait
for one. Where the objects of a connection or a handshake refer to one another in a circle, the
class that knows the end of their life has a method `release` (private, unless others call it),
which drops those references; reference counts free the rest at once. A method `release` has no
other purpose, and tests/server/test_leftovers.py counts what is left without it.

The objects of the start are set aside for good. A full collection for what young ones miss runs
only while it is quick, or when the process has grown much though its connections have not.
"""

import asyncio
import gc
from collections.abc import Callable

from ..metrics.process import resident_bytes

THRESHOLDS = (1_000, 5, 1_000_000)
"""Thresholds of `gc.set_threshold`. Young collections visit 6,000 objects at most, a few ms; with
smaller thresholds each object would be visited just as often. A full collection never starts by
itself: a million collections of generation 1 would have to precede it."""

FULL_SECONDS = 60.0
"""Seconds between two looks whether a full collection may run."""

FULL_MAX_CONNECTIONS = 300
"""Connections up to which a full collection runs anyway: at 30 objects each it takes about 8 ms."""

MAX_GROWTH = 1.25
"""Factor by which the process may outgrow its expected memory before a full collection runs at any
price. Connections that leave nothing behind never reach it."""

CONNECTION_BYTES = 65_536
"""Memory expected for each further connection, without TLS."""

MIN_GROWTH_BYTES = 64 * 2**20
"""Growth below this never causes a full collection: it is not worth the pause."""


class GcPolicy:
    """Runs full collections while connections are few, or if memory grows and connections do not.

    Args:
        connections: returns the number of open connections.
    """

    def __init__(self, connections: Callable[[], int]) -> None:
        self._connections = connections
        self._timer: asyncio.TimerHandle | None = None
        self._collected_at = (0, 0)

    def start(self) -> None:
        """Exempt all present objects from collection, and plan the first full one."""
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
        """Return whether memory has grown more than new connections explain."""
        resident, before = self._collected_at
        expected = resident + max(0, connections - before) * CONNECTION_BYTES
        return resident_bytes() > max(expected * MAX_GROWTH, expected + MIN_GROWTH_BYTES)
