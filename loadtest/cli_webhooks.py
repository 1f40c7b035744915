"""The command `webhooks`: what a delivery costs beside a bare POST of the same body."""

from pathlib import Path
from typing import Any

import click
import msgspec

from . import options as kinds
from .layout import columns, describe
from .options import Count, Payload, of
from .terminal import Line
from .webhooks import WebhooksPlan, webhooks, webhooks_lines

_PLAN = WebhooksPlan()


@click.command("webhooks", epilog=kinds.examples("webhooks", "webhooks --topics 1 --events 4000"))
@of(_PLAN, "rounds", Count, "How often both take turns.")
@of(_PLAN, "topics", Count, "In which events wait.")
@of(_PLAN, "events", Count, "In each topic.")
@of(_PLAN, "batch", Count, "Events in one message.")
@of(_PLAN, "data_bytes", Payload, "How long the JSON text of each event's data is.")
@kinds.json
def webhooks_command(json: str | None, **options: Any) -> None:
    """Webhooks beside a bare httpx POST of the same bodies, in turns, with SQLite.

    What is not met is said, and no failure: a machine may be busy with something else.
    """
    with Line() as line:
        found = webhooks(WebhooksPlan(**options), line.tell)
    if json is not None:
        text = msgspec.json.format(msgspec.json.encode(found), indent=1)
        Path(json).write_bytes(text + b"\n")
    click.echo(describe(found.machine) + "\n")
    click.echo(columns(webhooks_lines(found)))
