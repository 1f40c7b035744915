"""Ports for servers that tests, chaos and load tests start and restart."""

import functools
import os
import random
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress

FIRST, LAST = 15_000, 30_000
"""The ports of pytest. Programs started by tests use ports of `PROGRAMS`."""

PROGRAMS = range(10_000, FIRST)

WORKERS = 8
"""Parts of the range. Each pytest-xdist worker has its own part."""


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 without a listener a moment ago.

    A process gets each port once, so a server may be restarted on its port. No port is in the
    system's range for outgoing connections (32768 and above): such a connection could take the port
    of a restarting server.

    Raises:
        RuntimeError: all ports have been given.
    """
    for port in _left():
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("all ports have been given")


@functools.cache
def _left() -> Iterator[int]:
    """Return the ports that this process has not returned yet, in random order."""
    ports = _range()
    return iter(random.sample(ports, len(ports)))


def _range() -> range:
    if "pytest" not in sys.modules:
        return PROGRAMS
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if not worker:
        return range(FIRST, LAST)
    size = (LAST - FIRST) // WORKERS
    first = FIRST + int(worker.removeprefix("gw")) % WORKERS * size
    return range(first, first + size)
