"""The command `churn`: whether connections that come and go leave memory behind."""

import asyncio
import sys
from pathlib import Path

import click
import msgspec

from . import options as kinds
from .churn import MOST_GROWTH, Round, churn
from .layout import columns
from .terminal import Line

_MIB = 2**20


@click.command("churn", epilog=kinds.examples("churn", "churn --connections 5000 --held 100"))
@click.option(
    "--connections",
    type=click.IntRange(10, 10_000_000),
    default=100_000,
    show_default=True,
    help="That come and go, of each kind.",
)
@click.option(
    "--held",
    type=click.IntRange(1, 10_000),
    default=400,
    show_default=True,
    help="That stay meanwhile.",
)
@click.option("--json", "json", type=click.Path(dir_okay=False), help="Write it here too.")
def churn_command(connections: int, held: int, json: str | None) -> None:
    """Let connections come and go; exit with 1 if memory grows by more than a tenth.

    Plain and below TLS, direct and asgi. Memory is measured after the first 1,000 (of less than
    10,000, after a tenth) and at the end.
    """
    first = min(1_000, connections // 10)
    kinds_of_connections = [(t, tls) for t in ("direct", "asgi") for tls in (False, True)]
    with Line() as line:
        rounds = [
            asyncio.run(
                churn(
                    transport,
                    tls=tls,
                    connections=connections,
                    held=held,
                    first=first,
                    tell=line.tell,
                )
            )
            for transport, tls in kinds_of_connections
        ]
    if json is not None:
        text = msgspec.json.format(msgspec.json.encode(rounds), indent=1)
        Path(json).write_bytes(text + b"\n")
    click.echo(columns([_HEAD, *map(_row, rounds)]))
    sys.exit(not all(each.passed for each in rounds))


_HEAD = ("transport", "TLS", "connections", "held", "seconds", "first MiB", "last MiB", "times", "")


def _row(each: Round) -> tuple[str, ...]:
    verdict = "" if each.passed else f"MORE THAN {MOST_GROWTH:g} TIMES"
    return (
        each.transport,
        "yes" if each.tls else "no",
        f"{each.connections:,}",
        f"{each.held:,}",
        f"{each.seconds:g}",
        f"{each.first_bytes / _MIB:.1f}",
        f"{each.last_bytes / _MIB:.1f}",
        f"{each.growth:.3f}",
        verdict,
    )
