"""The command `greedy`: what a user who reads as much as he can costs those beside him."""

import asyncio
import sys
from pathlib import Path

import click
import msgspec

from . import options as kinds
from .greedy import ENVIRON, Round, greedy, typical_round
from .layout import columns
from .server import started
from .terminal import Line

STORES = {"memory": 1, "redis": 2}
"""The stores, and the number of workers of a server with each store."""


@click.command("greedy", epilog=kinds.examples("greedy", "greedy --seconds 20 --connections 20"))
@click.option(
    "--seconds",
    type=click.FloatRange(0.5, 60.0),
    default=5.0,
    show_default=True,
    help="For how long, without him and with him.",
)
@click.option(
    "--connections",
    type=click.IntRange(1, 100),
    default=4,
    show_default=True,
    help="Of the greedy user.",
)
@click.option(
    "--rounds",
    type=click.IntRange(1, 20),
    default=3,
    show_default=True,
    help="Each with servers of its own; the median of their times is shown.",
)
@click.option("--json", "json", type=click.Path(dir_okay=False), help="Write it here too.")
def greedy_command(seconds: float, connections: int, rounds: int, json: str | None) -> None:
    """Time bystanders of a user who reads without end; exit with 1 if they suffer from him."""
    found: dict[str, list[Round]] = {store: [] for store in STORES}
    with Line() as line:
        for _ in range(rounds):
            for store, workers in STORES.items():
                with started(environ=ENVIRON, workers=workers, redis=store == "redis") as target:
                    work = greedy(
                        target, store, seconds=seconds, connections=connections, tell=line.tell
                    )
                    found[store].append(asyncio.run(work))
    typical = [typical_round(each) for each in found.values()]
    if json is not None:
        text = msgspec.json.format(msgspec.json.encode(typical), indent=1)
        Path(json).write_bytes(text + b"\n")
    click.echo(columns([_HEAD, *map(_row, typical)]))
    sys.exit(not all(each.passed for each in typical))


_HEAD = ("store", "p99 alone", "p99 beside him", "published", "unavailable", "he asked", "MB", "")


def _row(each: Round) -> tuple[str, ...]:
    times = (f"{each.alone_p99_ms:.1f} ms", f"{each.beside_p99_ms:.1f} ms")
    numbers = (each.published, each.unavailable, each.asked)
    verdict = "" if each.passed else "TOO MUCH"
    return (
        each.store,
        *times,
        *(f"{number:,}" for number in numbers),
        f"{each.read / 1e6:,.0f}",
        verdict,
    )
