"""`chat-server presence`."""

import json
from collections.abc import Callable

import click
import msgspec

from ..client import Client, PresentUser
from .options import call, client_options, parse_topic
from .patience import timeout_option
from .terminal import escape_controls, run, write_line

PAGE = 1_000


@click.command()
@click.argument("topic", callback=parse_topic)
@click.option("--json", "as_json", is_flag=True, help="Print each user as a JSON object.")
@timeout_option
@client_options
def presence(topic: str, as_json: bool, connect: Callable[..., Client]) -> None:
    """Print who is in TOPIC, one user a line."""

    async def work(client: Client) -> None:
        after: str | None = None
        while True:
            page = await client.presence(topic, after=after, limit=PAGE)
            for user in page.users:
                await write_line(json_user(user) if as_json else text_user(user))
            if not page.more or not page.users or page.users[-1].user == after:
                return
            after = page.users[-1].user

    run(call(connect, work))


def text_user(user: PresentUser) -> str:
    """Return a user as a line for people."""
    name = f" ({user.name})" if user.name else ""
    several = f", {user.connections} connections" if user.connections > 1 else ""
    return escape_controls(f"{user.user}{name}{several}")


def json_user(user: PresentUser) -> str:
    """Return a user as a line for programs."""
    # ASCII, so that no character can act on a terminal.
    return json.dumps(msgspec.to_builtins(user))
