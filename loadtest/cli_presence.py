"""The command `presence`: what presence costs a worker."""

import asyncio
from pathlib import Path

import click
import msgspec

from . import options as kinds
from .layout import columns
from .presence import lines, presence
from .server import redis_server
from .terminal import Line


@click.command("presence", epilog=kinds.examples("presence", "presence --topics 1000"))
@click.option(
    "--connections",
    type=kinds.Count,
    default=10_000,
    show_default=True,
    help="Of the worker, each of a user of its own.",
)
@click.option(
    "--topics",
    type=kinds.Count,
    default=100,
    show_default=True,
    help="Among which they are spread.",
)
@click.option("--json", "json", type=click.Path(dir_okay=False), help="Write it here too.")
def presence_command(connections: int, topics: int, json: str | None) -> None:
    """Measure what presence costs a worker, with a Redis started for it."""
    with redis_server() as (url, _), Line() as line:
        costs = asyncio.run(presence(url, connections=connections, topics=topics, tell=line.tell))
    if json is not None:
        Path(json).write_bytes(msgspec.json.format(msgspec.json.encode(costs), indent=1) + b"\n")
    click.echo(columns(lines(costs)))
