"""`chat-server search`."""

from collections.abc import Callable

import click
import msgspec

from ..client import Client
from ..client.search import Hit
from ..protocol.searching import DEFAULT_HITS, MAX_HITS
from .lines import moment
from .options import call, client_options, parse_topic
from .patience import timeout_option
from .terminal import escape_controls, run, write_line


@click.command()
@click.argument("words", nargs=-1, required=True)
@click.option("--topic", callback=parse_topic, help="Only in this topic.")
@click.option("--user", help="Only messages of this user.")
@click.option(
    "--before", metavar="ID", type=click.IntRange(1), help="Only what is older than this hit."
)
@click.option(
    "--limit",
    metavar="N",
    type=click.IntRange(1, MAX_HITS),
    default=DEFAULT_HITS,
    show_default=True,
    help="How many messages.",
)
@click.option("--json", "as_json", is_flag=True, help="Print each hit as a JSON object.")
@timeout_option
@client_options
def search(
    words: tuple[str, ...],
    topic: str | None,
    user: str | None,
    before: int | None,
    limit: int,
    as_json: bool,
    connect: Callable[..., Client],
) -> None:
    """Print archived messages with all of WORDS, the newest first.

    The last word may be the beginning of one. Topics are those where the token grants history.
    """

    async def work(client: Client) -> None:
        found = await client.search(
            " ".join(words), topic=topic, user=user, before=before, limit=limit
        )
        for hit in found.hits:
            await write_line(msgspec.json.encode(hit).decode() if as_json else _line(hit))

    run(call(connect, work))


def _line(hit: Hit) -> str:
    message = hit.message
    name = "-" if message.sender is None else message.sender.name or message.sender.user
    shown = "".join(f"*{piece}*" if n % 2 else piece for n, piece in enumerate(hit.snippet))
    place = f"{moment(message.at)} {message.topic} #{message.seq} {name}"
    return escape_controls(f"{hit.id}: {place}: {shown}")
