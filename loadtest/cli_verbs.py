"""The command `verbs`: what changes of messages and cursors cost beside messages."""

from pathlib import Path
from typing import Any

import click
import msgspec

from . import options as kinds
from .layout import columns, describe
from .options import Count, Positive, of
from .terminal import Line
from .verbs import VerbsPlan, verbs, verbs_lines

_PLAN = VerbsPlan()


@click.command("verbs", epilog=kinds.examples("verbs", "verbs --rate 10 --json verbs.json"))
@of(_PLAN, "rounds", Count, "How often all take turns.")
@of(_PLAN, "rooms", Count, "With one message that grows in each.")
@of(_PLAN, "readers", Count, "In each room.")
@of(_PLAN, "rate", Positive, "Appends a second to each message.")
@of(_PLAN, "seconds", Positive, "For how long each run sends.")
@of(_PLAN, "connections", Count, "That change messages.")
@of(_PLAN, "askers", Count, "Connections that ask for history and unread.")
@kinds.attempts
@kinds.json
def verbs_command(json: str | None, **options: Any) -> None:
    """Edits, appends, reactions and cursors beside messages, in alternating rounds.

    What is not met is said, and no failure: a machine may be busy with something else.
    """
    with Line() as line:
        found = verbs(VerbsPlan(**options), line.tell)
    if json is not None:
        text = msgspec.json.format(msgspec.json.encode(found), indent=1)
        Path(json).write_bytes(text + b"\n")
    click.echo(describe(found.machine) + "\n")
    click.echo(columns(verbs_lines(found)))
    for key, failure in found.samples.failures.items():
        click.echo(f"{key}: {failure}", err=True)
