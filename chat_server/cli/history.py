"""`chat-server history`."""

from collections.abc import Callable

import click

from ..client import Client
from ..events import MAX_SEQ
from ..protocol.commands import DEFAULT_HISTORY, MAX_HISTORY
from .lines import json_line, text_line
from .options import call, client_options, parse_topic
from .patience import timeout_option
from .terminal import Misuse, run, write_line


@click.command()
@click.argument("topic", callback=parse_topic)
@click.option(
    "--limit",
    metavar="N",
    type=click.IntRange(1, MAX_HISTORY),
    default=DEFAULT_HISTORY,
    show_default=True,
    help="How many messages.",
)
@click.option(
    "--before",
    metavar="SEQ",
    type=click.IntRange(0, MAX_SEQ),
    help="Only messages in front of this one, the newest of them.",
)
@click.option(
    "--after",
    metavar="SEQ",
    type=click.IntRange(0, MAX_SEQ),
    help="Only messages behind this one, the oldest of them.",
)
@click.option("--json", "as_json", is_flag=True, help="Print each message as a JSON object.")
@timeout_option
@client_options
def history(
    topic: str,
    limit: int,
    before: int | None,
    after: int | None,
    as_json: bool,
    connect: Callable[..., Client],
) -> None:
    """Print the newest messages of TOPIC as they now are, the oldest first."""
    if before is not None and after is not None:
        raise Misuse("--before, --after: only one of them may be given")

    async def work(client: Client) -> None:
        page = await client.history(topic, before=before, after=after, limit=limit)
        for message in page.messages:
            line = json_line(message) if as_json else text_line(message)
            await write_line(line or "")

    run(call(connect, work))
