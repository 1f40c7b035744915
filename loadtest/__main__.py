"""The command line: `python -m loadtest SCENARIO`."""

import sys
from contextlib import ExitStack
from functools import partial
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import click
import msgspec

from chat_server.auth.tokens import issue_token
from chat_server.clock import SystemClock
from chat_server.settings import AuthSettings, SettingsError, load_settings

from .fanout import FanoutPlan, run
from .report import table
from .server import started
from .wire import LoadError

TOKEN_SECONDS = 3600.0


@click.group()
def main() -> None:
    """Measure a chat server on this machine."""


@main.command()
@click.option("--url", help="A running server's ws://127.0.0.1:PORT/ws; without it one is started.")
@click.option("--server-pid", type=int, help="The running server's process, to measure its CPU.")
@click.option("--workers", type=click.IntRange(1), help="Workers of a server started here.")
@click.option("--redis-url", help="The Redis of a server started here.")
@click.option("--topic", default="room:loadtest", show_default=True)
@click.option("--subscribers", type=click.IntRange(1), default=1000, show_default=True)
@click.option("--processes", type=click.IntRange(1), default=1, help="To hold the subscribers.")
@click.option("--rate", type=click.FloatRange(0.1), default=20.0, help="Messages a second.")
@click.option("--seconds", type=click.FloatRange(0.1), default=10.0, show_default=True)
@click.option("--payload-bytes", type=click.IntRange(40, 60_000), default=100, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def fanout(
    url: str | None,
    server_pid: int | None,
    workers: int | None,
    redis_url: str | None,
    as_json: bool,
    **scenario: Any,
) -> None:
    """One topic, many subscribers, messages at a fixed rate.

    Tokens are signed with the secret that the environment names, as it does for the server. Exits
    with 1 unless every message reached every subscriber once and in order.
    """
    try:
        with ExitStack() as stack:
            if url is None:
                flags = _flags(workers, redis_url)
                url, server_pid = stack.enter_context(started(*flags))
            elif workers or redis_url:
                raise click.UsageError("--workers and --redis-url are for a server started here")
            _check_url(url)
            plan = FanoutPlan(
                url=url,
                server_pid=server_pid,
                mint=partial(_mint, load_settings().auth, scenario["topic"]),
                **scenario,
            )
            report = run(plan, tell=partial(click.echo, err=True))
    except (LoadError, SettingsError) as error:
        raise click.ClickException(str(error)) from None
    click.echo(msgspec.json.encode(report) if as_json else table(report))
    sys.exit(not report.passed)


def _flags(workers: int | None, redis_url: str | None) -> list[str]:
    flags = {"--workers": workers, "--redis-url": redis_url}
    return [text for flag, value in flags.items() if value for text in (flag, str(value))]


def _check_url(url: str) -> None:
    """Refuse to put load on anything but this machine."""
    parts = urlsplit(url)
    try:
        local = parts.hostname == "localhost" or ip_address(parts.hostname or "").is_loopback
    except ValueError:
        local = False
    if parts.scheme != "ws" or not local:
        raise click.UsageError("--url must be a ws:// address of this machine")


def _mint(auth: AuthSettings, topic: str, user: str) -> str:
    return issue_token(
        auth,
        sub=user,
        topics={"subscribe": [topic], "publish": [topic]},
        ttl_seconds=TOKEN_SECONDS,
        clock=SystemClock(),
    )


if __name__ == "__main__":
    main()
