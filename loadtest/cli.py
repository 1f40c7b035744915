"""The command line: `python -m loadtest SCENARIO`."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Any, TextIO
from urllib.parse import urlsplit

import click
import msgspec

from chat_server.settings import SettingsError

from .cli_chaos import chaos_command
from .cli_studies import bench_command, compare_command, page_command, plan_command
from .crowd import raise_file_limit
from .report import Report, table
from .scenarios.connect import connect
from .scenarios.fanout import fanout
from .scenarios.idle import idle
from .scenarios.publish import publish
from .scenarios.rooms import rooms
from .scenarios.slow import slow
from .server import Target, started
from .stage import Stage, perform
from .terminal import Line
from .wire import LoadError

Positive = click.FloatRange(0.0, min_open=True)
Count = click.IntRange(1)


class _Failure(click.Group):
    """Says in one line what stopped a command."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except (LoadError, SettingsError) as error:
            raise click.ClickException(str(error)) from None


@click.group(cls=_Failure)
def main() -> None:
    """Measure a chat server on this machine."""
    raise_file_limit()


def _options(command: Callable[..., None]) -> Callable[..., None]:
    """Add what every scenario takes."""
    for option in (
        click.option("--plot", type=click.Path(), help="Draw the latency into this PNG or SVG."),
        click.option(
            "--json", "json", type=click.File("w"), help="Write the report here; - prints it."
        ),
        click.option("--processes", type=Count, default=1, help="To hold the readers."),
        click.option("--redis", is_flag=True, help="Give a server started here a Redis as well."),
        click.option("--workers", type=Count, default=1, help="Of a server started here."),
        click.option("--server-pid", type=int, help="The running server's process, to measure it."),
        click.option(
            "--url", help="A running server's ws://127.0.0.1:PORT/ws; else one is started."
        ),
    ):
        command = option(command)
    return command


_subscribers = click.option("--subscribers", type=Count, default=1000, show_default=True)
_seconds = click.option("--seconds", type=Positive, default=10.0, show_default=True)


def _payload(default: int) -> Callable[..., Any]:
    size = click.IntRange(40, 60_000)
    return click.option("--payload-bytes", type=size, default=default, show_default=True)


def _rate(default: float, text: str) -> Callable[..., Any]:
    return click.option("--rate", type=Positive, default=default, show_default=True, help=text)


@main.command("fanout")
@_options
@_subscribers
@_rate(20.0, "Messages a second.")
@_seconds
@_payload(100)
def _fanout(**options: Any) -> None:
    """One topic, many subscribers, messages at a fixed rate."""
    _run(fanout, options)


@main.command("rooms")
@_options
@click.option("--rooms", type=Count, default=100, show_default=True)
@click.option("--members", type=Count, default=10, show_default=True, help="Of each room.")
@_rate(1.0, "Messages a second in each room.")
@_seconds
@_payload(100)
def _rooms(**options: Any) -> None:
    """Many small topics in which everybody talks."""
    _run(rooms, options)


@main.command("connect")
@_options
@click.option("--connections", type=Count, default=2000, show_default=True)
@click.option(
    "--rate", type=click.FloatRange(0), default=0.0, help="Due in a second; 0: 50 at a time."
)
def _connect(**options: Any) -> None:
    """A storm of clients that come with a token and subscribe."""
    _run(connect, options)


@main.command("idle")
@_options
@click.option("--connections", type=Count, default=5000, show_default=True)
@click.option("--hold-seconds", type=Positive, default=30.0, show_default=True)
def _idle(**options: Any) -> None:
    """Memory and heartbeats of connections that do nothing."""
    _run(idle, options)


@main.command("slow")
@_options
@_subscribers
@click.option("--stalled-share", type=click.FloatRange(0, 0.9), default=0.1, show_default=True)
@_rate(50.0, "Messages a second.")
@_seconds
@_payload(2000)
def _slow(**options: Any) -> None:
    """A part of the readers stalls, and nobody else may notice."""
    _run(slow, options, environ={"CHAT_LIMITS__SLOW_TIMEOUT_SECONDS": "3"})


@main.command("publish")
@_options
@click.option("--publishers", type=Count, default=50, show_default=True)
@click.option(
    "--rate", type=click.FloatRange(0), default=0.0, help="Of all; 0: as fast as answered."
)
@click.option("--window", type=Count, default=10, show_default=True, help="Unanswered at rate 0.")
@click.option("--seconds", type=Positive, default=5.0, show_default=True)
@_payload(100)
def _publish(**options: Any) -> None:
    """Messages that come in, to topics nobody listens to."""
    _run(publish, options)


def _run(
    scenario: Callable[..., Stage],
    options: dict[str, Any],
    *,
    environ: dict[str, str] | None = None,
) -> None:
    """Carry a scenario out; exit with 1 unless every message arrived once and in order."""
    names = ("url", "server_pid", "workers", "redis", "json", "plot")
    url, server_pid, workers, redis, json, plot = (options.pop(name) for name in names)
    with _target(url, server_pid, workers, redis, environ or {}) as target, Line() as line:
        report = perform(scenario(target, **options), target, line.tell)
    _publish_report(report, json, plot)
    sys.exit(not report.passed)


def _publish_report(report: Report, json: TextIO | None, plot: str | None) -> None:
    if json is not None:
        json.write(msgspec.json.format(msgspec.json.encode(report)).decode() + "\n")
    if json is None or json.name != "<stdout>":
        click.echo(table(report))
    if plot is not None:
        from .plot import draw_latency

        draw_latency([report], plot)


@contextmanager
def _target(
    url: str | None, pid: int | None, workers: int, redis: bool, environ: dict[str, str]
) -> Iterator[Target]:
    """Yield the running server at `url`, or one started for the time being.

    Tokens are signed with the secret that the environment names, as it does for the server.
    """
    if url is None:
        with started(workers=workers, redis=redis or workers > 1, environ=environ) as target:
            yield target
        return
    if redis or workers > 1:
        raise click.UsageError("--workers and --redis are for a server started here")
    host, port = _address(url)
    yield Target("chat_server", "chat", port, host=host, pid=pid, started_elsewhere=True)


def _address(url: str) -> tuple[str, int]:
    """Refuse to put load on anything but this machine."""
    parts = urlsplit(url)
    try:
        local = parts.hostname == "localhost" or ip_address(parts.hostname or "").is_loopback
    except ValueError:
        local = False
    if parts.scheme != "ws" or parts.path != "/ws" or not local:
        raise click.UsageError("--url must be a ws:// address of this machine that ends with /ws")
    return parts.hostname or "", parts.port or 80


for _study in (bench_command, chaos_command, compare_command, plan_command, page_command):
    main.add_command(_study)
