"""The life of the server's processes."""

import logging
import secrets
import signal
import sys
from collections.abc import Sequence
from functools import partial

import click

from .. import logs
from ..auth.tokens import issue_token
from ..clock import SystemClock
from ..settings import DEVELOPMENT_SECRET, Settings, SettingsError, advice
from . import sockets
from .application import application_settings, load_application, make_application
from .hangup import Terminal
from .supervisor import Supervisor
from .tls import tls_context
from .worker import run_worker

__all__ = ["application_settings", "load_application", "run"]

GUEST_SECONDS = 24 * 3600

logger = logging.getLogger(__name__)


def run(settings: Settings, application: str = "", notes: Sequence[str] = ()) -> int:
    """Serve until SIGINT or SIGTERM and return the process's exit code.

    Args:
        settings: checked by `load_settings`.
        application: MODULE:NAME of one to serve instead of our own.
        notes: what `load_settings` noted.
    """
    logs.configure(settings.log)
    for line in (*notes, *advice(settings)):
        logger.warning("%s", line)
    announce = partial(_announce, settings)
    try:
        if settings.server.workers > 1:
            # What is wrong with the settings is said once, and here.
            make_application(settings, application)
            tls_context(settings)
            return Supervisor(settings, application, announce).run()
        listener = sockets.listen(settings)
        run_worker(
            settings,
            application,
            listener,
            stop_on=frozenset({signal.SIGINT, signal.SIGTERM}),
            terminal=Terminal(),
            on_ready=partial(announce, listener.getsockname()[:2]),
        )
    except sockets.ListenError as error:
        click.echo(f"chat-server: {error}", err=True)
        return 1
    except SettingsError as error:
        for line in error.lines:
            click.echo(f"chat-server: {line}", err=True)
        return 2
    return 0


def _announce(settings: Settings, address: tuple[str, int]) -> None:
    """Tell the person who started the server where it is."""
    host, port = address
    scheme = "https" if settings.server.tls_certificate_file else "http"
    url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
    click.echo(f"chat_server listens on {url} (Ctrl-C stops it)")
    if settings.auth.secret == DEVELOPMENT_SECRET and settings.http.page:
        token = issue_token(
            settings.auth,
            sub=f"guest-{secrets.token_hex(2)}",
            ttl_seconds=GUEST_SECONDS,
            clock=SystemClock(),
        )
        click.echo(f"Chat as a guest: {url}/#token={token}&room=lobby")
    sys.stdout.flush()
