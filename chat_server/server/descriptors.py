"""File descriptors: each connection needs one, and the system gives a process so many."""

import logging
import sys

from ..settings import Settings

if sys.platform != "win32":  # which has no such limit
    import resource

logger = logging.getLogger(__name__)

SPARE = 64
"""Kept from connections, for Redis, the issuer's keys and files."""

_NO_LIMIT = 2**31


def raise_limit(settings: Settings) -> int:
    """Ask for as many as the settings may need and return the first that no connection may take."""
    if sys.platform == "win32":
        return _NO_LIMIT
    needed = settings.limits.max_connections + settings.http.max_connections + SPARE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        if soft < needed:
            logger.warning(
                "limits.max_connections: %d connections need %d file descriptors, "
                "but the system allows %d (ulimit -n)",
                *(settings.limits.max_connections, needed, soft),
            )
    # They are numbered from 0, and the lowest that is free is given out.
    return _NO_LIMIT if soft == resource.RLIM_INFINITY else soft - SPARE
