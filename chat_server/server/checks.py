"""Checks of settings that otherwise only a start does: key files, certificates, Redis address."""

from collections.abc import Callable, Iterator

from ..auth.tokens import Verifier
from ..broker.factory import make_broker
from ..clock import SystemClock
from ..settings import Settings, SettingsError
from .tls import tls_context


def mistakes_at_start(settings: Settings, application: str = "") -> Iterator[str]:
    """Yield a line for each mistake that would stop every worker.

    Args:
        settings: the result of `load_settings`.
        application: MODULE:NAME of an application that has used its settings already, or "".
    """
    attempts: list[Callable[[], object]] = [lambda: tls_context(settings)]
    if not application:
        attempts += [
            lambda: Verifier(settings.auth, SystemClock()),
            lambda: make_broker(settings, SystemClock()),
        ]
    for attempt in attempts:
        try:
            attempt()
        except SettingsError as error:
            yield from error.lines
