"""The command line: `chat-server serve | token | publish | tail`."""

import getpass
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import click
import msgspec

from .. import __version__
from ..auth.tokens import issue_token
from ..client import (
    CommandFailed,
    Gap,
    LinkState,
    Message,
    Subscription,
    connect,
    publish_all,
)
from ..client.client import websocket_url
from ..client.credentials import TokenSource
from ..clock import SystemClock
from ..protocol.errors import BadRequest
from ..protocol.messages import MAX_HISTORY
from ..protocol.topics import check_topic
from ..settings import Settings, SettingsError, load_settings, with_flags
from .terminal import Failure, Misuse, complain, harmless, read_lines, run, while_read, write_line

DEFAULT_URL = "http://127.0.0.1:8000"
OWN_TOKEN_SECONDS = 3600.0


def _seconds(context: click.Context, option: click.Parameter, value: str) -> float:
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


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="chat-server", message="%(prog)s %(version)s")
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
def serve(
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
    from ..server import run as run_server  # the other commands start faster without it

    sys.exit(run_server(settings, application or "", notes))


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
    topics = {action: given for action, given in patterns.items() if given}
    click.echo(_issue(_settings(config), sub=sub, name=name, topics=topics, ttl_seconds=ttl))


@main.command()
@click.argument("topic", callback=_topic)
@click.argument("text", required=False)
@click.option("--json", "as_json", is_flag=True, help="TEXT, or each line, is a JSON value.")
@click.option("-v", "--verbose", is_flag=True, help="Print each message's seq once it is stored.")
@url_option
@token_option
@config_option
def publish(
    topic: str,
    text: str | None,
    as_json: bool,
    verbose: bool,
    url: str,
    token: str | None,
    config: Path | None,
) -> None:
    """Publish TEXT to TOPIC, or each line of stdin.

    A text becomes the data {"text": TEXT}. Lines are stored in their order and each once, also when
    the connection is lost meanwhile.
    """
    decode = _from_json if as_json else _from_text
    if text is None and sys.stdin is None:
        raise Misuse("there is no TEXT, and stdin is closed")
    if text is None:
        items = _decoded(read_lines(sys.stdin.fileno()), decode)
    else:
        try:
            items = _only(decode(text.encode()))
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="TEXT") from None
    source = _token_source(token, config)
    run(_publish(url, source, topic, items, lines=text is None, verbose=verbose))


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
@url_option
@token_option
@config_option
def tail(
    topic: str, last: int, as_json: bool, url: str, token: str | None, config: Path | None
) -> None:
    """Print the messages of TOPIC as they come, until Ctrl-C."""
    source = _token_source(token, config)
    run(while_read(_tail(url, source, topic, last, _json_line if as_json else _text_line)))


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
    from ..server import application_settings, load_application

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


def _user_name() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container may run as a user without a name
        return f"user-{os.getuid()}"


# Publishing -------------------------------------------------------------------------------------


async def _publish(
    url: str,
    token: TokenSource,
    topic: str,
    items: AsyncIterator[object],
    *,
    lines: bool,
    verbose: bool,
) -> None:
    stored = 0
    notice = _Notices()
    try:
        async with (
            connect(url, token=token, on_state=notice.on_state) as chat,
            aclosing(publish_all(chat, topic, items, on_refusal=notice.on_refusal)) as run,
        ):
            async for published in run:
                stored += 1
                if verbose:
                    await write_line(str(published.seq))
    except CommandFailed as error:
        raise Failure(f"line {stored + 1}: {error}" if lines else str(error)) from None


async def _only(item: object) -> AsyncIterator[object]:
    yield item


async def _decoded(
    lines: AsyncIterator[bytes], decode: Callable[[bytes], object]
) -> AsyncIterator[object]:
    number = 0
    async for line in lines:
        number += 1
        try:
            item = decode(line)
        except ValueError as error:
            raise Failure(f"line {number}: {error}") from None
        yield item


def _from_text(line: bytes) -> object:
    try:
        return {"text": line.removesuffix(b"\r").decode()}
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8") from None


def _from_json(line: bytes) -> object:
    try:
        return msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"is not JSON: {error}") from None


# Following --------------------------------------------------------------------------------------


async def _tail(
    url: str, token: TokenSource, topic: str, last: int, line: Callable[[Message], str]
) -> None:
    async with (
        connect(url, token=token, on_state=_Notices().on_state) as chat,
        chat.subscribe(topic, last=last or None) as room,
    ):
        await _print(room, line)


async def _print(room: Subscription, line: Callable[[Message], str]) -> None:
    async for event in room:
        if isinstance(event, Message):
            await write_line(line(event))
        elif isinstance(event, Gap):
            complain(f"messages {event.after + 1} to {event.before - 1} are lost: {event.reason}")


def _text_line(message: Message) -> str:
    time = datetime.fromtimestamp(message.at / 1000).strftime("%H:%M:%S")
    sender = message.sender
    name = (sender.name or sender.user) if sender else "(server)"
    data = message.data
    text = data.get("text") if isinstance(data, dict) else None
    if not isinstance(text, str):
        text = json.dumps(data, ensure_ascii=False)
    return harmless(f"{time} {name}: {text}")


def _json_line(message: Message) -> str:
    # ASCII, so that nothing in it can act on a terminal.
    return json.dumps(msgspec.to_builtins(message))


# The terminal -----------------------------------------------------------------------------------


class _Notices:
    """Tells on stderr, and not too often, what a command is waiting for."""

    def __init__(self) -> None:
        self._lost = False
        self._told: set[str] = set()

    def on_state(self, state: LinkState, reason: str) -> None:
        if state is LinkState.RECONNECTING and not self._lost:
            self._lost = True
            complain(f"reconnecting: {reason}")
        elif state is LinkState.ONLINE and self._lost:
            self._lost = False
            complain("connected again")

    def on_refusal(self, error: CommandFailed) -> None:
        if error.code not in self._told:
            self._told.add(error.code)
            complain(f"waiting: {error}")
