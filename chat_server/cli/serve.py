"""`chat-server serve`."""

import sys
from collections.abc import Mapping
from pathlib import Path

import click

from ..server.hangup import Terminal
from ..settings import Settings, SettingsError, with_flags
from .options import config_option, misuse, read_settings, setting_flags
from .terminal import Misuse


@click.command()
@click.option(
    "--app",
    "application",
    metavar="MODULE:NAME",
    help="A Quart application that embeds a ChatServer, whose settings hold.",
)
@setting_flags
@config_option
@click.pass_obj
def serve(
    terminal: Terminal | None,
    application: str | None,
    flags: dict[str, str | None],
    config: Path | None,
) -> None:
    """Run the server until SIGINT or SIGTERM."""
    notes: list[str] = []
    if application is None:
        settings = read_settings(config, flags, notes)
    elif flags["redis.url"] is not None or config is not None:
        raise Misuse("--redis-url, --config: with --app the application's own settings hold")
    else:
        settings = _embedded_settings(application, flags)
    from ..server.main import run_server  # the other commands start faster without it

    sys.exit(run_server(settings, application or "", notes, terminal))


def _embedded_settings(application: str, flags: Mapping[str, str | None]) -> Settings:
    from ..server.application import application_settings, load_application

    try:
        return with_flags(application_settings(load_application(application)), flags)
    except SettingsError as error:
        raise misuse(error) from None
