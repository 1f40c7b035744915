"""Explains a refusal of Redis for the log: which command, which version?"""

import asyncio
import logging
import re
from collections.abc import Callable, Sequence
from typing import Final

from redis.exceptions import AuthenticationError, RedisError

from ...logs import LogThrottle
from .connection import CONNECTION_ERRORS, RedisConnection
from .probe import Deaf
from .refusals import TOO_OLD, UNNAMED, Refusal, refusal_of
from .storage import Keys
from .topology import ask

COMMANDS: Final[dict[str, tuple[str, ...]]] = {
    "time": (),
    # From here on the key is a string, so commands for another type fail without effect.
    "set": ("1", "PX", "10000"),
    "get": (),
    "hget": ("f",),
    "hmget": ("f",),
    "hset": ("f", "1"),
    "hdel": ("f",),
    "zadd": ("1", "m"),
    "zcard": (),
    "zcount": ("0", "0"),
    "zpopmin": (),
    "zrangebyscore": ("0", "0"),
    "zrem": ("m",),
    "zremrangebyscore": ("0", "0"),
    "zrevrangebyscore": ("0", "0"),
    "pexpire": ("10000",),
    "del": (),
}
"""The commands of the scripts, with their arguments after the key."""

UNPROBED_COMMANDS: Final = frozenset(("exists", "pttl", "zrange", "zscore"))
"""Further commands of the scripts for presence and cursors, which the probe does not run."""


log = logging.getLogger(__name__)


def report(error: Exception, refusal: Refusal | None, prefix: str) -> None:
    """Log the reason why there is no connection to Redis."""
    if refusal is not None:
        log.error("Redis cannot be used: %s (%s)", refusal.describe(prefix), error)
    elif isinstance(error, AuthenticationError):
        log.error("Redis does not let us in; see redis.url and its ACL: %s", error)
    elif isinstance(error, Deaf):
        log.error("Redis takes what is published but does not deliver it; subscribing anew")
    else:
        log.warning("Redis cannot be reached: %s", str(error) or type(error).__name__)


async def explain(
    connect: Callable[[], RedisConnection], keys: Keys, publish: str, refusal: Refusal
) -> Refusal:
    """Return a refusal whose reason names everything that an operator must change.

    An error reply of a script does not always name the command that an ACL denies.

    Args:
        connect: makes a connection.
        keys: keys for this purpose alone.
        publish: the command that sends to a channel.
        refusal: the refusal as far as it is known.
    """
    connection = connect()
    try:
        await connection.open(60.0)
        if refusal is TOO_OLD:
            version = await _info(connection, "server", "redis_version")
            return refusal._replace(
                reason=f"{refusal.reason}; this is {version}" if version else refusal.reason
            )
        if refusal is UNNAMED:
            key = f"{keys.meta}:acl"
            commands = {name: (key, *rest) for name, rest in COMMANDS.items()}
            commands |= {"time": (), publish.lower(): (keys.channel, "")}
            missing = [
                f"+{name}"
                for name, arguments in commands.items()
                if await _is_denied(connection, name, arguments)
            ]
            if missing:
                return refusal._replace(reason=f"ACL: {' '.join(missing)} is missing")
    except CONNECTION_ERRORS:
        pass  # the caller's reason remains
    finally:
        await connection.close()
    return refusal


async def warn_of_eviction(
    connect: Callable[[], RedisConnection], seconds: float, throttle: LogThrottle
) -> None:
    """Log that Redis may evict keys, so that messages and changes would be lost unnoticed.

    Args:
        connect: makes a connection.
        seconds: maximum duration of the check.
        throttle: limits the log lines.
    """
    connection = connect()
    try:
        async with asyncio.timeout(seconds):
            await connection.open(seconds)
            policy = await _info(connection, "memory", "maxmemory_policy")
    except CONNECTION_ERRORS:
        return  # other connections find out whether Redis is unavailable
    finally:
        await connection.close()
    if policy not in ("", "noeviction") and throttle.due(f"maxmemory-policy {policy}"):
        log.warning(
            "Redis may evict stored messages, and nobody would be told:"
            " maxmemory-policy is %s; set it to noeviction",
            policy,
        )


async def _is_denied(connection: RedisConnection, name: str, arguments: Sequence[str]) -> bool:
    try:
        await ask(connection, name, *arguments)
    except RedisError as error:
        found = refusal_of(error)
        return found is not None and found.reason == f"ACL: +{name} is missing"
    return False


async def _info(connection: RedisConnection, section: str, field: str) -> str:
    """Return a field of INFO, or "" without the field or if an ACL hides INFO."""
    try:
        text = (await ask(connection, "INFO", section)).decode()
    except RedisError:
        return ""
    found = re.search(rf"^{field}:(\S+)", text, re.MULTILINE)
    return found[1] if found else ""
