"""The body of `chat-server serve`, after the settings are read."""

import atexit
import logging
import platform
import secrets
import signal
import sys
from collections.abc import Sequence
from functools import partial

import click

from .. import logs
from ..auth.tokens import issue_token
from ..broker.redis.urls import parse_redis_url
from ..clock import SystemClock
from ..linewriter import LineWriter
from ..settings import LogSettings, Settings, SettingsError, advice, decide_accounts
from ..version import __version__
from . import descriptors, sockets
from .checks import mistakes_at_start
from .hangup import Terminal
from .late_signals import ignore_in_finalization
from .notify import notify
from .reloading import Reread
from .supervisor import Supervisor

GUEST_SECONDS = 24 * 3600
GUESTS = ("Ann", "Ben")
"""Two guests, so that each has a partner for a chat."""

logger = logging.getLogger(__name__)


def run_server(
    settings: Settings,
    application: str = "",
    notes: Sequence[str] = (),
    terminal: Terminal | None = None,
    reread: Reread | None = None,
) -> int:
    """Serve until SIGINT or SIGTERM and return the process's exit code.

    Args:
        settings: the result of `load_settings`.
        application: MODULE:NAME of an application to serve instead of our own.
        notes: the notes of `load_settings`.
        terminal: the terminal of the process's start; None detects the terminal here.
        reread: reads the settings again; None keeps the settings.
    """
    terminal = terminal or Terminal()
    ignore_in_finalization((signal.SIGINT, signal.SIGTERM))
    logs.configure(settings.log)
    logs.capture_stderr()
    logger.info("chat_server %s starts", __version__, extra=_circumstances(settings))
    for line in (*notes, *advice(settings)):
        logger.warning("%s", line)
    announce = partial(_announce, settings)
    try:
        descriptors.require(settings)
        if settings.server.workers > 1:
            # Logged once here instead of by every worker.
            if mistakes := list(mistakes_at_start(settings, application)):
                return _fail(settings, mistakes, 2)
            return Supervisor(settings, application, announce, reread).run(terminal)
        # Imported late: a supervisor needs no application, and starts sooner without one.
        from .worker import run_worker

        listener = sockets.listen(settings)
        run_worker(
            settings,
            application,
            listener,
            stop_on=frozenset({signal.SIGINT, signal.SIGTERM}),
            terminal=terminal,
            reread=reread,
            on_ready=partial(announce, listener.getsockname()[:2]),
        )
    except (sockets.ListenError, descriptors.DescriptorError) as error:
        return _fail(settings, [str(error)], 1)
    except SettingsError as error:
        return _fail(settings, error.lines, 2)
    return 0


def refuse(error: SettingsError) -> int:
    """Log the mistakes of settings with JSON logging as JSON, and return the exit code."""
    logs.configure(LogSettings(format="json"))
    for line in error.lines:
        logger.critical("%s", line)
    return 2


def _circumstances(settings: Settings) -> dict[str, str | int]:
    """Return fields for the first log line: the environment, and the enabled features."""
    decided = decide_accounts(settings)
    parts = {
        "page": settings.http.page,
        "admin_page": settings.http.admin_page,
        "docs": settings.http.docs,
        "accounts": decided.accounts.enabled == "on",
        "archive": settings.has_archive,
        "webhooks": bool(settings.webhooks),
        "presence": settings.has_presence,
        "spool": settings.spools,
        "metrics": settings.metrics.enabled,
        "compression": settings.gateway.compression,
        "tls": bool(settings.server.tls_certificate_file),
    }
    return {
        "environment": settings.environment,
        "python": platform.python_version(),
        "bind": settings.server.bind,
        "workers": settings.server.workers,
        "broker": _broker(settings),
        "on": ",".join(name for name, on in parts.items() if on),
    }


def _fail(settings: Settings, lines: Sequence[str], exit_code: int) -> int:
    for line in lines:
        if settings.log.format == "json":
            logger.critical("%s", line)
        else:
            click.echo(f"chat-server: {line}", err=True)
    return exit_code


def _announce(settings: Settings, address: sockets.Address) -> None:
    """Announce the server's address to the log, the service manager and the terminal."""
    scheme = "https" if settings.server.tls_certificate_file else "http"
    url = f"{scheme}://{sockets.authority(address)}"
    notify(f"READY=1\nSTATUS={settings.server.workers} workers on {url}")
    logger.info(
        "chat_server %s listens on %s",
        *(__version__, url),
        extra={
            "environment": settings.environment,
            "workers": settings.server.workers,
            "broker": _broker(settings),
        },
    )
    if settings.log.format == "json":
        return  # stdout may be the same stream as stderr, and there each line must be JSON
    # stdout may have no reader.
    stdout = LineWriter(sys.stdout, lambda count: "")
    atexit.register(stdout.flush, logs.FLUSH_SECONDS)
    stdout.write(f"chat_server listens on {url} (Ctrl-C stops it)")
    if settings.auth.uses_public_secret and settings.http.page:
        for name in GUESTS:
            token = issue_token(
                settings.auth,
                sub=f"{name.lower()}-{secrets.token_hex(2)}",
                name=name,
                ttl_seconds=GUEST_SECONDS,
                clock=SystemClock(),
            )
            stdout.write(f"Chat as {name}: {url}/#token={token}&room=lobby")


def _broker(settings: Settings) -> str:
    if not settings.redis.url:
        return "memory"
    several = parse_redis_url(settings.redis.url)
    return f"redis {several.kind}" if several else "redis"
