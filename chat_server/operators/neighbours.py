"""Workers of this machine that were killed, and so could not say that they end."""

import os


def has_ended(name: str, own: str) -> bool:
    """Return whether the process of a worker has ended; False if that cannot be seen from here.

    Args:
        name: of a worker that is silent: host, process and something random, as `parts.node_name`
            makes it.
        own: this worker's.
    """
    host, pid, _ = _parts(name)
    own_host, own_pid, _ = _parts(own)
    if host != own_host or name == own or not pid.isdecimal():
        return False
    if pid == own_pid:
        return True  # Its process had our number before us: a container was started again.
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
