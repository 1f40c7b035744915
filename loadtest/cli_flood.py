"""The command `flood`: whether a user can store more than his rate."""

import asyncio
import sys
from pathlib import Path

import click
import msgspec

from . import options as kinds
from .flood import ENVIRON, Round, flood
from .layout import columns
from .server import started
from .terminal import Line


@click.command("flood", epilog=kinds.examples("flood", "flood --seconds 20 --connections 50"))
@click.option(
    "--seconds",
    type=click.FloatRange(0.5, 60.0),
    default=5.0,
    show_default=True,
    help="For how long, in each way.",
)
@click.option(
    "--connections",
    type=click.IntRange(1, 100),
    default=100,
    show_default=True,
    help="Of one user, where he has many.",
)
@click.option("--json", "json", type=click.Path(dir_okay=False), help="Write it here too.")
def flood_command(seconds: float, connections: int, json: str | None) -> None:
    """Let a user flood one worker in every way; exit with 1 if more than his rate is stored."""
    with started(environ=ENVIRON) as target, Line() as line:
        rounds = asyncio.run(
            flood(target, seconds=seconds, connections=connections, tell=line.tell)
        )
    if json is not None:
        text = msgspec.json.format(msgspec.json.encode(rounds), indent=1)
        Path(json).write_bytes(text + b"\n")
    click.echo(columns([_HEAD, *map(_row, rounds)]))
    sys.exit(not all(each.passed for each in rounds))


_HEAD = ("a user who …", "seconds", "connections", "sent", "stored", "allowed", "")


def _row(each: Round) -> tuple[str, ...]:
    numbers = (each.connections, each.sent, each.stored, each.allowed)
    verdict = "" if each.passed else "MORE THAN HIS RATE"
    return (each.way, f"{each.seconds:g}", *(f"{number:,}" for number in numbers), verdict)
