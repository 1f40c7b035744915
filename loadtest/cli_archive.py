"""The command `archive`: what the archive costs."""

from pathlib import Path
from typing import Any

import click
import msgspec

from . import options as kinds
from .archive import ArchivePlan, archive, archive_lines
from .layout import columns, describe
from .options import Count, of
from .terminal import Line

_PLAN = ArchivePlan()


@click.command("archive", epilog=kinds.examples("archive", "archive --rounds 9 --json costs.json"))
@of(_PLAN, "rounds", Count, "How often both take turns.")
@of(_PLAN, "events", Count, "Events that are written in each round.")
@of(_PLAN, "pages", Count, "Pages that are read in each round.")
@of(_PLAN, "seconds", kinds.Positive, "For how long is published in each round.")
@kinds.json
def archive_command(json: str | None, **options: Any) -> None:
    """The writer, a publication beside it and a page of history, with SQLite and Redis.

    What is not met is said, and no failure: a machine may be busy with something else.
    """
    with Line() as line:
        found = archive(ArchivePlan(**options), line.tell)
    if json is not None:
        text = msgspec.json.format(msgspec.json.encode(found), indent=1)
        Path(json).write_bytes(text + b"\n")
    click.echo(describe(found.machine) + "\n")
    click.echo(columns(archive_lines(found)))
