"""Ports for servers that tests start, stop and start again."""

import random
import socket
from contextlib import suppress


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody listened on a moment ago.

    None of those that systems give to outgoing connections (32768 and above): such a connection
    could take it while a server that is restarted does not hold it.
    """
    while True:
        port = random.randrange(15_000, 30_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
