"""`chat-server serve`."""

import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import click

from ..server.hangup import Terminal
from ..settings import Settings, SettingsError, load_settings, with_flags
from .options import config_option, misuse, setting_flags
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
    try:
        settings = _settings(application, flags, config, notes)
    except SettingsError as error:
        if not error.as_json:
            raise misuse(error) from None
        from ..server.main import refuse

        sys.exit(refuse(error))
    from ..server.main import run_server  # Other commands start faster without the server.

    reread = None
    if application is None:
        reread = partial(load_settings, config_file=config, flags=flags)
    sys.exit(run_server(settings, application or "", notes, terminal, reread))


def _settings(
    application: str | None,
    flags: Mapping[str, str | None],
    config: Path | None,
    notes: list[str],
) -> Settings:
    if application is None:
        return load_settings(config_file=config, flags=flags, notes=notes)
    if flags["redis.url"] is not None or config is not None:
        raise Misuse("--redis-url, --config: with --app the application's own settings hold")
    from ..server.application import application_settings, load_application

    return with_flags(application_settings(load_application(application)), flags)
