"""File descriptors: each connection needs one, and the system gives a process so many."""

import logging
import sys

from ..settings import Settings
from .refusals import LISTENED_TO

if sys.platform != "win32":  # which has no such limit
    import resource

logger = logging.getLogger(__name__)

SPARE = 64
"""Kept from connections, for the issuer's keys, files, and what is refused at the moment; those for
Redis come on top."""

LEAST = 192
"""With fewer in all there would hardly be any for connections."""

_NO_LIMIT = 2**31

assert SPARE > 2 * LISTENED_TO  # noqa: S101 - else refusing would take what Redis needs


class DescriptorError(Exception):
    """The system allows too few descriptors; the text is one line with the numbers."""


def require(settings: Settings) -> None:
    """Refuse to start where even a raised limit would leave nothing for connections.

    Raises:
        DescriptorError: it would.
    """
    if sys.platform == "win32":
        return
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    least = LEAST - SPARE + _spare(settings)
    if hard != resource.RLIM_INFINITY and hard < least:
        raise DescriptorError(
            f"the system allows this process {hard} file descriptors (ulimit -Hn), and the server"
            f" needs at least {least} (redis.max_connections among them), and one for each"
            " connection"
        )


def _spare(settings: Settings) -> int:
    return SPARE + (settings.redis.max_connections if settings.redis.url else 0)


def raise_limit(settings: Settings) -> int:
    """Ask for as many as the settings may need and return the first that no connection may take."""
    if sys.platform == "win32":
        return _NO_LIMIT
    spare = _spare(settings)
    needed = settings.limits.max_connections + settings.http.max_connections + spare
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        if soft < needed:
            logger.warning(
                "limits.max_connections: %d connections need %d file descriptors, but the system"
                " allows %d (ulimit -Hn): from about %d connections on they are refused",
                *(settings.limits.max_connections, needed, soft, soft - spare),
            )
    # They are numbered from 0, and the lowest that is free is given out.
    return _NO_LIMIT if soft == resource.RLIM_INFINITY else soft - spare
