"""Ports for servers that tests start, stop and start again."""

import random
import socket
from contextlib import suppress

_given: set[int] = set()


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody listened on a moment ago.

    Each is given once: whoever got it may bind it later, or stop and start again.
    None of those that systems give to outgoing connections (32768 and above): such a connection
    could take it while a server that is restarted does not hold it.
    """
    while True:
        port = random.randrange(15_000, 30_000)
        if port in _given:
            continue
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            _given.add(port)
            return port
