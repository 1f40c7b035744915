"""The command line: `chat-server serve | token | publish | tail`."""

import getpass
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click
import msgspec

from ..auth.tokens import issue_token
from ..client import connect
from ..client.client import websocket_url
from ..client.credentials import TokenSource
from ..clock import SystemClock
from ..protocol.errors import BadRequest
from ..protocol.messages import MAX_HISTORY
from ..protocol.topics import check_topic
from ..server.hangup import Terminal
from ..settings import Settings, SettingsError, load_settings, with_flags
from ..version import __version__
from .talking import (
    decoded,
    follow,
    from_json,
    from_text,
    json_line,
    only,
    publish_items,
    text_line,
)
from .terminal import Misuse, complain, read_lines, run, while_read

DEFAULT_URL = "http://127.0.0.1:8000"
OWN_TOKEN_SECONDS = 3600.0


PROXY_TOKEN_BYTES = 7 * 1024
"""Proxies commonly take 8 KB of a header line, which holds more than the token."""


def _seconds(context: click.Context, option: click.Parameter, value: str | None) -> float | None:
    if value is None:
        return None
    match = re.fullmatch(r"([0-9]{1,9})([smhd])", value, re.ASCII)
    if match is None or int(match[1]) == 0:
        raise click.BadParameter(f"{value!r} is no duration such as 30s, 15m, 1h or 7d")
    return float(int(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86_400}[match[2]])


def _topic(context: click.Context, argument: click.Parameter, value: str) -> str:
    try:
        return check_topic(value)
    except BadRequest as error:
        raise click.BadParameter(error.message.removeprefix("topic: ")) from None


def _url(context: click.Context, option: click.Parameter, value: str) -> str:
    try:
        return websocket_url(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


config_option = click.option(
    "--config",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="A TOML file of settings in the form of config/default.toml.",
)
url_option = click.option(
    "--url",
    metavar="URL",
    envvar="CHATCLIENT_URL",
    default=DEFAULT_URL,
    callback=_url,
    show_default=True,
    show_envvar=True,
    help="The server's address.",
)
token_option = click.option(
    "--token",
    metavar="JWT",
    envvar="CHATCLIENT_TOKEN",
    show_envvar=True,
    help="In the development environment the command makes one itself.",
)

wait_option = click.option(
    "--wait",
    metavar="DURATION",
    callback=_seconds,
    help="How long to wait for a server that is not there at the start: 30s, 5m.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(
    __version__, "-V", "--version", prog_name="chat-server", message="%(prog)s %(version)s"
)
def main() -> None:
    """A real-time chat and pub/sub server."""


@main.command()
@click.option(
    "--app",
    "application",
    metavar="MODULE:NAME",
    help="A Quart application that embeds a ChatServer, whose settings hold.",
)
@click.option("--bind", metavar="HOST:PORT", help="Where to listen; port 0 takes any free one.")
@click.option("--workers", metavar="N", help="Processes; more than one needs Redis.")
@click.option("--redis-url", metavar="URL", help="The Redis that joins the workers.")
@config_option
@click.pass_obj
def serve(
    terminal: Terminal | None,
    application: str | None,
    bind: str | None,
    workers: str | None,
    redis_url: str | None,
    config: Path | None,
) -> None:
    """Run the server until SIGINT or SIGTERM."""
    flags = {"server.bind": bind, "server.workers": workers}
    notes: list[str] = []
    if application is None:
        settings = _settings(config, {**flags, "redis.url": redis_url}, notes)
    elif redis_url is not None or config is not None:
        raise Misuse("--redis-url, --config: with --app the application's own settings hold")
    else:
        settings = _embedded_settings(application, flags)
    from ..server.main import run_server  # the other commands start faster without it

    sys.exit(run_server(settings, application or "", notes, terminal))


@main.command()
@click.option("--sub", metavar="USER", required=True, help="Whom the token is for.")
@click.option("--name", help="Shown to others.")
@click.option("--subscribe", metavar="PATTERN", multiple=True, help="Topics to receive.")
@click.option("--publish", metavar="PATTERN", multiple=True, help="Topics to send to.")
@click.option("--history", metavar="PATTERN", multiple=True, help="Topics to look back in.")
@click.option("--presence", metavar="PATTERN", multiple=True, help="Topics to see who is in.")
@click.option("--moderate", metavar="PATTERN", multiple=True, help="Topics to moderate.")
@click.option(
    "--ttl",
    metavar="DURATION",
    callback=_seconds,
    default="1h",
    show_default=True,
    help="How long it is valid: 30s, 15m, 1h, 7d.",
)
@config_option
def token(
    sub: str, name: str | None, ttl: float, config: Path | None, **patterns: Sequence[str]
) -> None:
    """Print a token, a JWT signed with auth.secret.

    Each PATTERN option may be repeated. Of an action without any, the server's
    auth.default_topics hold. In a pattern * stands for one segment of a topic, a last ** for one
    or more, and {sub} for the user: 'room:**'.
    """
    settings = _settings(config)
    topics = {action: given for action, given in patterns.items() if given}
    issued = _issue(settings, sub=sub, name=name, topics=topics, ttl_seconds=ttl)
    click.echo(issued)
    grants = {**msgspec.structs.asdict(settings.auth.default_topics), **topics}
    for warning in _token_warnings(issued, grants):
        complain(warning)


@main.command()
@click.argument("topic", callback=_topic)
@click.argument("text", required=False)
@click.option("--json", "as_json", is_flag=True, help="TEXT, or each line, is a JSON value.")
@click.option("-v", "--verbose", is_flag=True, help="Print each message's seq once it is stored.")
@wait_option
@click.option(
    "--timeout",
    metavar="DURATION",
    callback=_seconds,
    help="Give up when a message is not stored for so long; else it is tried for ever.",
)
@url_option
@token_option
@config_option
def publish(
    topic: str,
    text: str | None,
    as_json: bool,
    verbose: bool,
    wait: float | None,
    timeout: float | None,
    url: str,
    token: str | None,
    config: Path | None,
) -> None:
    """Publish TEXT to TOPIC, or each line of stdin.

    A text becomes the data {"text": TEXT}. Lines are stored in their order and each once, also when
    the connection is lost meanwhile.
    """
    decode = from_json if as_json else from_text
    if text is None and sys.stdin is None:
        raise Misuse("there is no TEXT, and stdin is closed")
    if text is None:
        items = decoded(read_lines(sys.stdin.fileno()), decode)
    else:
        try:
            items = only(decode(text.encode()))
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="TEXT") from None
    source = _token_source(token, config)
    chat = partial(connect, url, token=source, start_wait=wait or 0.0)
    run(publish_items(chat, topic, items, timeout, lines=text is None, verbose=verbose))


@main.command()
@click.argument("topic", callback=_topic)
@click.option(
    "--last",
    metavar="N",
    type=click.IntRange(0, MAX_HISTORY),
    default=0,
    help="Begin with the last N messages.",
)
@click.option("--json", "as_json", is_flag=True, help="Print each message as a JSON object.")
@wait_option
@click.option(
    "--timeout",
    metavar="DURATION",
    callback=_seconds,
    help="Give up when the server is away for so long; else it is waited for.",
)
@url_option
@token_option
@config_option
def tail(
    topic: str,
    last: int,
    as_json: bool,
    wait: float | None,
    timeout: float | None,
    url: str,
    token: str | None,
    config: Path | None,
) -> None:
    """Print the messages of TOPIC as they come, until Ctrl-C."""
    source = _token_source(token, config)
    chat = partial(connect, url, token=source, start_wait=wait or 0.0)
    line = json_line if as_json else text_line
    run(while_read(follow(chat, topic, last, timeout, line)))


# Settings and tokens ----------------------------------------------------------------------------


def _settings(
    config: Path | None,
    flags: Mapping[str, str | None] | None = None,
    notes: list[str] | None = None,
) -> Settings:
    """Read the settings; what there is to note about them is printed, unless `notes` gets it."""
    found: list[str] = []
    try:
        return load_settings(config_file=config, flags=flags, notes=found)
    except SettingsError as error:
        raise _misuse(error) from None
    finally:
        if notes is not None:
            notes += found
        else:
            for note in found:
                complain(note)


def _embedded_settings(application: str, flags: Mapping[str, str | None]) -> Settings:
    from ..server.application import application_settings, load_application

    try:
        return with_flags(application_settings(load_application(application)), flags)
    except SettingsError as error:
        raise _misuse(error) from None


def _misuse(error: SettingsError) -> Misuse:
    """Print what is wrong but for the last line, which ends the program."""
    *others, last = error.lines
    for line in others:
        complain(line)
    return Misuse(last)


def _issue(settings: Settings, **claims: Any) -> str:
    try:
        return issue_token(settings.auth, clock=SystemClock(), **claims)
    except (SettingsError, ValueError) as error:
        raise Misuse(str(error)) from None


def _token_source(token: str | None, config: Path | None) -> TokenSource:
    """Return the token that was given or, in development, what signs one for the user."""
    if token is not None:
        return token
    settings = _settings(config)
    if settings.environment != "development":
        raise Misuse("no token: give --token or CHATCLIENT_TOKEN (`chat-server token` prints one)")
    sign = partial(_issue, settings, sub=_user_name(), ttl_seconds=OWN_TOKEN_SECONDS)
    sign()  # so that what is wrong is said at once
    return sign


def _token_warnings(token: str, grants: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Yield what a token may not do, as far as these settings tell, and what to look out for."""
    actions = ("subscribe", "publish", "history")
    missing = [action for action in actions if not grants[action]]
    if missing:
        may = [f"{action} ({', '.join(grants[action])})" for action in actions if grants[action]]
        options = ", ".join(f"--{action} 'room:**'" for action in missing)
        allows = f"{' and '.join(may)}, but not {' or '.join(missing)}" if may else "nothing"
        yield f"this token allows {allows}; add patterns, say {options}, or set auth.default_topics"
    if len(token) > PROXY_TOKEN_BYTES:
        yield (
            f"this token has {len(token)} bytes; many proxies refuse headers above 8 KB, see"
            " docs/operations.md"
        )


def _user_name() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container may run as a user without a name
        return f"user-{os.getuid()}"
