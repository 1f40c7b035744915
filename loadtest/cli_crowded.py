"""The command `crowded`: what operators cost a server with very many connections."""

from pathlib import Path
from typing import Any

import click
import msgspec

from . import options as kinds
from .crowded import CrowdedPlan, arrivals, crowded, crowded_lines
from .layout import columns, describe
from .options import Count, of
from .terminal import Line

_PLAN = CrowdedPlan()


@click.command(
    "crowded",
    epilog=kinds.examples("crowded --connections 10000", "crowded --json crowded.json"),
)
@click.option(
    "--connections",
    type=Count,
    multiple=True,
    default=_PLAN.connections,
    show_default=True,
    help="That are open, each of a user of its own; may be given several times.",
)
@of(_PLAN, "per_worker", Count, "Connections of each worker; several workers have a Redis.")
@of(_PLAN, "topics", Count, "Of which each connection is subscribed to one.")
@of(_PLAN, "regular", Count, "Connections that one user has.")
@of(_PLAN, "times", Count, "How often each question is asked.")
@kinds.json
def crowded_command(json: str | None, **options: Any) -> None:
    """Operators' questions and orders, and a scrape, while very many are connected."""
    with Line() as line:
        found = crowded(CrowdedPlan(**options), line.tell)
    if json is not None:
        text = msgspec.json.format(msgspec.json.encode(found), indent=1)
        Path(json).write_bytes(text + b"\n")
    click.echo(describe(found.machine) + "\n")
    click.echo("\n".join([*arrivals(found), "", columns(crowded_lines(found))]))
