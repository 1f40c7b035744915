"""Reads the settings again at SIGHUP, for the next workers or for the only one."""

import logging
from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from .. import logs
from ..settings import Settings, SettingsError, masked, reference
from .checks import mistakes_at_start

logger = logging.getLogger(__name__)

Reread = Callable[[], Settings]
"""Reads the settings again from their source."""

FIXED: Final = ("environment", "server.bind", "server.workers", "redis.prefix")
"""Settings that need a restart: workers with different values could not work together."""

FIXED_PLACES: Final = ("redis.url", "database.url")
"""Settings that need a restart as well, except for user and password."""


IN_PLACE: Final = ("log.level", "log.format")
"""Settings that a running process adopts. The process also reads the certificate's files again."""


def reload(settings: Settings, reread: Reread | None) -> Settings | None:
    """Read the settings again; log the changes, and the settings that need a restart.

    Args:
        settings: the present settings.
        reread: reads the settings; None for an application's settings, which each new worker reads
            itself.

    Returns:
        The settings of the next workers; None if the settings have mistakes, which are logged.
    """
    if reread is None:
        return settings
    read = _read(reread, "no worker is replaced")
    if read is None:
        return None
    before, after = dict(reference.values(settings)), dict(reference.values(read))
    changed = _changed(settings, read)
    kept = [key for key in changed if _is_fixed(key, before.get(key), after.get(key))]
    _tell_kept(kept)
    if taken := [key for key in changed if key not in kept]:
        logger.info("SIGHUP: the next workers have other settings: %s", ", ".join(sorted(taken)))
    result = _with(read, {key: before[key] for key in kept})
    if result.log != settings.log:
        logs.configure(result.log)
    return result


def reload_in_place(settings: Settings, reread: Reread | None) -> Settings | None:
    """Read the settings again for the only worker; log the settings that need a restart.

    Args:
        settings: the present settings.
        reread: as for `reload`.

    Returns:
        The settings from now on, for a later call of `tell_taken`; None if the settings have
        mistakes, which are logged.
    """
    read = _read(reread or (lambda: settings), "nothing is reloaded")
    if read is None:
        return None
    changed = _changed(settings, read)
    _tell_kept([key for key in changed if key not in IN_PLACE])
    log = replace(settings.log, level=read.log.level, format=read.log.format)
    if log != settings.log:
        logs.configure(log)
    return replace(settings, log=log)


def tell_taken(before: Settings, after: Settings) -> None:
    """Log the settings that the only worker has adopted.

    Args:
        before: the previous settings.
        after: the present settings.
    """
    taken = _changed(before, after)
    if after.server.tls_certificate_file:
        taken.append("the certificate")
    what = ", ".join(taken) or "nothing that holds without a restart"
    logger.info("SIGHUP: read again: %s", what)


def _read(reread: Reread, what: str) -> Settings | None:
    """Return the settings; None after logging their mistakes, with the consequence `what`."""
    try:
        read = reread()
        mistakes = list(mistakes_at_start(read))
    except SettingsError as error:
        mistakes = list(error.lines)
    if not mistakes:
        return read
    for line in mistakes:
        logger.error("%s", line)
    logger.error("SIGHUP: the settings have mistakes; %s", what)
    return None


def _changed(before: Settings, after: Settings) -> list[str]:
    old, new = dict(reference.values(before)), dict(reference.values(after))
    return [key for key in {**old, **new} if old.get(key) != new.get(key)]


def _tell_kept(keys: Iterable[str]) -> None:
    for key in keys:
        logger.warning("%s: has changed, which needs a restart; until then the old one holds", key)


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
