"""The command `operators`: what notes and numbers cost a delivery."""

from pathlib import Path
from typing import Any

import click
import msgspec

from . import options as kinds
from .layout import columns, describe
from .operators import OperatorsPlan, operators, operators_lines
from .options import Count, Payload, of
from .terminal import Line

_PLAN = OperatorsPlan()


@click.command(
    "operators", epilog=kinds.examples("operators", "operators --rounds 1000 --json operators.json")
)
@of(_PLAN, "rounds", Count, "Batches that are measured in the largest room; in others more.")
@of(_PLAN, "payload_bytes", Payload, "How long the text of each message is.")
@kinds.json
def operators_command(json: str | None, **options: Any) -> None:
    """Deliveries with and without the notes of `explain` and the numbers of `/metrics`.

    What is not met is said, and no failure: a machine may be busy with something else.
    """
    with Line() as line:
        found = operators(OperatorsPlan(**options), line.tell)
    if json is not None:
        text = msgspec.json.format(msgspec.json.encode(found), indent=1)
        Path(json).write_bytes(text + b"\n")
    click.echo(describe(found.machine) + "\n")
    click.echo(columns(operators_lines(found)))
