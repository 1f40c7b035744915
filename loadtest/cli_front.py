"""The command `front`: what clients ask of the server, beside Centrifugo and an earlier build."""

from pathlib import Path
from typing import Any

import click
import msgspec

from . import options as kinds
from .front import NAMES, FrontPlan, front
from .front_table import front_lines, front_problems
from .layout import columns, describe
from .options import Count, Payload, Positive, of
from .terminal import Line

_PLAN = FrontPlan()


@click.command(
    "front",
    epilog=kinds.examples(
        "front --json front.json", "front --only connect --only resume --before ../earlier"
    ),
)
@of(_PLAN, "rounds", Count, "How often all take turns.")
@of(_PLAN, "connections", Count, "That come and leave.")
@of(_PLAN, "missed", Count, "Events that those get who resume.")
@of(_PLAN, "rooms", Count, "In which messages are delivered.")
@of(_PLAN, "subscribers", Count, "Of each room.")
@of(_PLAN, "rate", Positive, "Publications a second in all rooms together.")
@of(_PLAN, "posters", Count, "HTTP connections, each with one request under way.")
@of(_PLAN, "publishers", Count, "WebSocket connections, each with one publication under way.")
@of(_PLAN, "seconds", Positive, "For how long each run sends.")
@of(_PLAN, "clients", Count, "Of the worker that is killed.")
@of(_PLAN, "client_rooms", Count, "Over how many rooms those are spread.")
@of(_PLAN, "client_missed", Count, "Events that each of those gets.")
@of(_PLAN, "payload_bytes", Payload, "How long the JSON text of each message's data is.")
@click.option(
    "--only",
    multiple=True,
    type=click.Choice(NAMES),
    help="A scenario that takes part, instead of all; may be given several times.",
)
@click.option(
    "--before",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A checkout of an earlier build, which takes turns with this one.",
)
@kinds.attempts
@kinds.json
def front_command(json: str | None, before: Path | None, **options: Any) -> None:
    """What clients ask of the server, beside Centrifugo, in alternating rounds.

    Centrifugo is the program that the variable CENTRIFUGO names, or the one on the PATH. What is
    not met is said, and no failure: a machine may be busy with something else.
    """
    with Line() as line:
        found = front(FrontPlan(**options), before, line.tell)
    if json is not None:
        text = msgspec.json.format(msgspec.json.encode(found), indent=1)
        Path(json).write_bytes(text + b"\n")
    click.echo(describe(found.machine) + "\n")
    click.echo(columns(front_lines(found)))
    for problem in front_problems(found):
        click.echo(problem, err=True)
