"""Options that several commands share, and the settings and tokens behind them."""

import getpass
import os
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial, wraps
from pathlib import Path
from typing import Any

import click

from ..client import Client, connect
from ..client.credentials import TokenSource
from ..client.url import websocket_url
from ..clock import SystemClock
from ..events import MAX_SEQ
from ..protocol.errors import BadRequest
from ..protocol.topics import check_topic
from ..settings import Settings, SettingsError, load_settings
from .asking import Asking
from .notices import Notices
from .patience import parse_seconds, patience_options, wait_option, wait_seconds
from .terminal import Misuse, print_error

DEFAULT_URL = "http://127.0.0.1:8000"

OWN_TOKEN_SECONDS = 3600.0
"""Seconds that a token lives when a command signs one in development."""


def parse_topic(context: click.Context, argument: click.Parameter, value: str | None) -> str | None:
    """Return a topic that follows the protocol's rules, for a click argument or option."""
    if value is None:
        return value
    try:
        return check_topic(value)
    except BadRequest as error:
        raise click.BadParameter(error.message.removeprefix("topic: ")) from None


def parse_url(context: click.Context, option: click.Parameter, value: str) -> str:
    """Return the address of a server's WebSocket, for a click option."""
    try:
        return websocket_url(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def parse_token(context: click.Context, option: click.Parameter, value: str | None) -> str | None:
    """Return a token that fits into a header, for a click option; the error does not show it."""
    if value is not None and re.fullmatch("[!-~]+", value) is None:
        raise click.BadParameter("must be visible ASCII characters, without spaces")
    return value


seq_argument = click.argument("seq", type=click.IntRange(1, MAX_SEQ), metavar="SEQ")
config_option = click.option(
    "--config",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="A TOML file of settings in the form of config/default.toml.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
always_json_option = click.option(
    "--json", is_flag=True, expose_value=False, help="Changes nothing: it always prints JSON."
)
_url_option = click.option(
    "--url",
    metavar="URL",
    envvar="CHATCLIENT_URL",
    default=DEFAULT_URL,
    callback=parse_url,
    show_default=True,
    show_envvar=True,
    help="The server's address.",
)
_token_option = click.option(
    "--token",
    metavar="JWT",
    envvar="CHATCLIENT_TOKEN",
    callback=parse_token,
    show_envvar=True,
    help="In the development environment the command makes one itself.",
)

data_option = click.option(
    "--data", "is_json", is_flag=True, help="TEXT, or each line, is a JSON value."
)
storing_timeout_option = click.option(
    "--timeout",
    metavar="DURATION",
    callback=parse_seconds,
    help="Give up when a message or change is not stored for so long; else it is tried for ever.",
)


def setting_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that override settings; the command gets them as `flags`, by dotted key."""

    @click.option("--bind", metavar="HOST:PORT", help="Where to listen; port 0 takes any free one.")
    @click.option("--workers", metavar="N", help="Processes; more than one needs Redis.")
    @click.option("--redis-url", metavar="URL", help="The Redis that joins the workers.")
    @wraps(command)
    def flagged(
        bind: str | None, workers: str | None, redis_url: str | None, **others: Any
    ) -> None:
        flags = {"server.bind": bind, "server.workers": workers, "redis.url": redis_url}
        command(flags=flags, **others)

    return flagged


def client_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of a command that connects to a server.

    In place of the options' values the command gets `connect`: the client's function, with address,
    token and `start_wait` filled in.
    """

    @wait_option
    @_url_option
    @_token_option
    @config_option
    @wraps(command)
    def connecting(url: str, token: str | None, config: Path | None, **others: Any) -> None:
        source = token_source(token, config)
        chat = partial(connect, url, token=source, start_wait=wait_seconds())
        command(connect=chat, **others)

    return connecting


def operator_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of a command for operators.

    In place of the options' values the command gets `ask`, for requests to the operators' API.
    """

    @patience_options
    @_url_option
    @_token_option
    @config_option
    @wraps(command)
    def asking(url: str, token: str | None, config: Path | None, **others: Any) -> None:
        if token is None:
            token = _signer(config, {"admin": ("**",)})()
        command(ask=Asking(url, token, wait_seconds()), **others)

    return asking


async def call(connect: Callable[..., Client], work: Callable[[Client], Awaitable[None]]) -> None:
    """Do `work` with a connected client."""
    async with connect(on_state=Notices().on_state) as client:
        await work(client)


# Settings and tokens ----------------------------------------------------------------------------


def read_settings(
    config: Path | None,
    flags: Mapping[str, str | None] | None = None,
    notes: list[str] | None = None,
    sources: dict[str, str] | None = None,
) -> Settings:
    """Read the settings; print their notes, or append them to `notes` if given."""
    found: list[str] = []
    try:
        return load_settings(config_file=config, flags=flags, notes=found, sources=sources)
    except SettingsError as error:
        raise misuse(error) from None
    finally:
        if notes is not None:
            notes += found
        else:
            for note in found:
                print_error(note)


def misuse(error: SettingsError) -> Misuse:
    """Print all mistakes but the last, and return the last as the program's error."""
    *others, last = error.lines
    for line in others:
        print_error(line)
    return Misuse(last)


def sign_token(settings: Settings, **claims: Any) -> str:
    """Return a token signed with `auth.secret`; the arguments are as in `issue_token`."""
    # Imported here, because clients with a token start sooner without cryptography.
    from ..auth.tokens import issue_token

    try:
        return issue_token(settings.auth, clock=SystemClock(), **claims)
    except (SettingsError, ValueError) as error:
        raise Misuse(str(error)) from None


def token_source(token: str | None, config: Path | None) -> TokenSource:
    """Return the given token or, in development, a function that signs tokens for the user."""
    if token is not None:
        return token
    sign = _signer(config)
    sign()  # so that a mistake in the settings is reported now
    return sign


def _signer(
    config: Path | None, topics: Mapping[str, Sequence[str]] | None = None
) -> Callable[[], str]:
    """Return a function that signs tokens for the user, for development only."""
    settings = read_settings(config)
    if settings.environment != "development":
        raise Misuse("no token: give --token or CHATCLIENT_TOKEN (`chat-server token` prints one)")
    claims: dict[str, Any] = {} if topics is None else {"topics": topics}
    return partial(sign_token, settings, sub=user_name(), ttl_seconds=OWN_TOKEN_SECONDS, **claims)


def user_name() -> str:
    """Return the name of the user running the command."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container may run as a user without a name
        return f"user-{os.getuid()}"
