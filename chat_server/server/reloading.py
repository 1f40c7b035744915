"""What SIGHUP changes: the settings are read again, for the workers that come or the only one."""

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
"""Reads the settings again, from where they came."""

FIXED: Final = ("environment", "server.bind", "server.workers", "redis.prefix")
"""These need a restart: workers with different ones would not work together."""

FIXED_PLACES: Final = ("redis.url", "database.url")
"""Likewise, but for user and password, which may change."""


IN_PLACE: Final = ("log.level", "log.format")
"""A process takes these over while it runs; it reads the files of its certificate again, too."""


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
    """Read the settings again for the only worker, which goes on; log what needs a restart.

    Args:
        settings: as they are.
        reread: as for `reload`.

    Returns:
        The settings that hold from now on, which `tell_taken` tells once they do; None if there are
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
    """Log what the only worker has taken over.

    Args:
        before: the settings that held.
        after: those that hold now.
    """
    taken = _changed(before, after)
    if after.server.tls_certificate_file:
        taken.append("the certificate")
    what = ", ".join(taken) or "nothing that holds without a restart"
    logger.info("SIGHUP: read again: %s", what)


def _read(reread: Reread, what: str) -> Settings | None:
    """Return the settings; None if they have mistakes, which are logged, and `what` that means."""
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
