"""The life of the server's processes."""

import secrets
import signal
import sys
from functools import partial

import click

from .. import logs
from ..app import create_app
from ..auth.tokens import issue_token
from ..clock import SystemClock
from ..settings import DEVELOPMENT_SECRET, Settings, SettingsError
from . import sockets
from .hangup import Terminal
from .supervisor import Supervisor
from .worker import run_worker

GUEST_SECONDS = 24 * 3600


def run(settings: Settings) -> int:
    """Serve until SIGINT or SIGTERM and return the process's exit code.

    Args:
        settings: checked by `load_settings`.
    """
    logs.configure(settings.log)
    announce = partial(_announce, settings)
    try:
        if settings.server.workers > 1:
            create_app(settings)  # what is wrong with the settings is said once, and here
            return Supervisor(settings, announce).run()
        listener = sockets.listen(settings)
        run_worker(
            settings,
            listener,
            stop_on=frozenset({signal.SIGINT, signal.SIGTERM}),
            terminal=Terminal(),
            on_ready=partial(announce, listener.getsockname()[:2]),
        )
    except sockets.ListenError as error:
        click.echo(f"chat-server: {error}", err=True)
        return 1
    except SettingsError as error:
        click.echo(f"chat-server: {error}", err=True)
        return 2
    return 0


def _announce(settings: Settings, address: tuple[str, int]) -> None:
    """Tell the person who started the server where it is."""
    host, port = address
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
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
