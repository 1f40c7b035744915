"""Recognizes workers of this machine that were killed, and so never left the store."""

import os


def has_ended(name: str, own: str) -> bool:
    """Return whether the process of a worker has ended; False if this machine cannot tell.

    Args:
        name: of a silent worker: host, process and a random part, as `parts.node_name` makes
            names.
        own: this worker's name.
    """
    host, pid, _ = _parts(name)
    own_host, own_pid, _ = _parts(own)
    if host != own_host or name == own or not pid.isdecimal():
        return False
    if pid == own_pid:
        return True  # An earlier process had our number: a container was restarted.
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False


def _parts(name: str) -> tuple[str, str, str]:
    rest, _, random = name.rpartition("-")
    host, _, pid = rest.rpartition("-")
    return host, pid, random
