"""What SIGHUP changes: the settings are read again, for the workers that come."""

import logging
from collections.abc import Callable
from typing import Any, Final

import msgspec

from .. import logs
from ..settings import Settings, SettingsError, masked, reference
from .checks import mistakes_at_start

logger = logging.getLogger(__name__)

Reread = Callable[[], Settings]
"""Reads the settings again, from where they came."""

FIXED: Final = ("environment", "server.bind", "server.workers", "redis.prefix")
"""These need a restart: workers with different ones would not work together."""

FIXED_PLACES: Final = ("redis.url", "database.url")
"""Likewise, but for user and password, which may change."""


def reload(settings: Settings, reread: Reread | None) -> Settings | None:
    """Read the settings again; log what has changed, and what cannot.

    Args:
        settings: as they are.
        reread: how to; None for those of an application, which each new worker reads itself.

    Returns:
        The settings of the next workers; None if they have mistakes, which are logged.
    """
    if reread is None:
        return settings
    try:
        read = reread()
        mistakes = list(mistakes_at_start(read))
    except SettingsError as error:
        mistakes = list(error.lines)
    if mistakes:
        for line in mistakes:
            logger.error("%s", line)
        logger.error("SIGHUP: the settings have mistakes; no worker is replaced")
        return None
    before, after = dict(reference.values(settings)), dict(reference.values(read))
    changed = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    kept = [key for key in changed if _is_fixed(key, before.get(key), after.get(key))]
    for key in kept:
        logger.warning("%s: has changed, which needs a restart; until then the old one holds", key)
    if taken := [key for key in changed if key not in kept]:
        logger.info("SIGHUP: the next workers have other settings: %s", ", ".join(sorted(taken)))
    result = _with(read, {key: before[key] for key in kept})
    if result.log != settings.log:
        logs.configure(result.log)
    return result


def _is_fixed(key: str, before: Any, after: Any) -> bool:
    if key in FIXED_PLACES:
        return bool(masked("url", before) != masked("url", after))
    return key in FIXED


def _with(settings: Settings, values: dict[str, Any]) -> Settings:
    """Return `settings` with some values, by dotted key, replaced."""
    nested: dict[str, Any] = msgspec.to_builtins(settings)
    for key, value in values.items():
        group, _, name = key.rpartition(".")
        (nested[group] if group else nested)[name] = value
    return msgspec.convert(nested, Settings)
