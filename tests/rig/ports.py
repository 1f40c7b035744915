"""Ports for servers that tests start, stop and start again."""

import os
import random
import socket
from contextlib import suppress

FIRST, LAST = 15_000, 30_000
WORKERS = 8
"""Parts the range is divided into, so that tests which run side by side do not meet."""

_given: set[int] = set()


def _range() -> range:
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if not worker:
        return range(FIRST, LAST)
    size = (LAST - FIRST) // WORKERS
    first = FIRST + int(worker.removeprefix("gw")) % WORKERS * size
    return range(first, first + size)


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody listened on a moment ago.

    Each is given once: whoever got it may bind it later, or stop and start again.
    None of those that systems give to outgoing connections (32768 and above): such a connection
    could take it while a server that is restarted does not hold it.
    """
    while True:
        port = random.choice(_range())
        if port in _given:
            continue
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            _given.add(port)
            return port
