"""The limit on file descriptors; each connection needs one."""

import logging
import sys

from ..settings import Settings
from .overflow import MAX_HEADS_READ

if sys.platform != "win32":  # Windows has no such limit.
    import resource

logger = logging.getLogger(__name__)

RESERVED_DESCRIPTORS = 64
"""Descriptors reserved for the issuer's keys, files and refused connections. Redis connections come
on top.
"""

MIN_DESCRIPTORS = 192
"""Descriptors that the server needs to start; fewer would leave hardly any for connections."""

_NO_LIMIT = 2**31

# Otherwise refusing connections would use the descriptors of Redis.
assert RESERVED_DESCRIPTORS > 2 * MAX_HEADS_READ  # noqa: S101


class DescriptorError(Exception):
    """The system allows too few descriptors; the message is one line with the numbers."""


def require(settings: Settings) -> None:
    """Check that the hard limit leaves descriptors for connections.

    Raises:
        DescriptorError: the limit is too low.
    """
    if sys.platform == "win32":
        return
    hard = hard_limit()
    least = MIN_DESCRIPTORS - RESERVED_DESCRIPTORS + _reserved(settings)
    if hard < least:
        raise DescriptorError(
            f"the system allows this process {hard} file descriptors (ulimit -Hn), and the server"
            f" needs at least {least} (redis.max_connections among them), and one for each"
            " connection"
        )


def hard_limit() -> int:
    """Return the number of descriptors that the system allows a process."""
    if sys.platform == "win32":
        return _NO_LIMIT
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _NO_LIMIT if hard == resource.RLIM_INFINITY else hard


def needed(settings: Settings) -> int:
    """Return the number of descriptors that a worker may need."""
    return settings.limits.max_connections + settings.http.max_connections + _reserved(settings)


def _reserved(settings: Settings) -> int:
    return RESERVED_DESCRIPTORS + (settings.redis.max_connections if settings.redis.url else 0)


def raise_limit(settings: Settings) -> int:
    """Raise the soft limit to the needs of the settings.

    Returns:
        the lowest descriptor that no connection may use.
    """
    if sys.platform == "win32":
        return _NO_LIMIT
    reserved, most = _reserved(settings), needed(settings)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < most:
        soft = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        if soft < most:
            logger.warning(
                "limits.max_connections: %d connections need %d file descriptors, but the system"
                " allows %d (ulimit -Hn): from about %d connections on they are refused",
                *(settings.limits.max_connections, most, soft, soft - reserved),
            )
    # Descriptors are numbered from 0, and the system always gives the lowest free one.
    return _NO_LIMIT if soft == resource.RLIM_INFINITY else soft - reserved
