"""`chat-server edit`, `delete` and `react`."""

import os
from collections.abc import Callable

import click

from ..client import Client
from .options import call, client_options, parse_topic, seq_argument
from .publish import from_json, from_text
from .terminal import run


@click.command()
@click.argument("topic", callback=parse_topic)
@seq_argument
@click.argument("text")
@click.option("--json", "as_json", is_flag=True, help="TEXT is a JSON value.")
@client_options
def edit(topic: str, seq: int, text: str, as_json: bool, connect: Callable[..., Client]) -> None:
    """Put TEXT into the message SEQ of TOPIC.

    A text becomes the data {"text": TEXT}. `tail` and `history` show each message's #SEQ.
    """
    try:
        data = (from_json if as_json else from_text)(os.fsencode(text))
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="TEXT") from None

    async def work(client: Client) -> None:
        await client.edit(topic, seq, data)

    run(call(connect, work))


@click.command()
@click.argument("topic", callback=parse_topic)
@seq_argument
@client_options
def delete(topic: str, seq: int, connect: Callable[..., Client]) -> None:
    """Take what the message SEQ of TOPIC says away for good.

    The message stays in its place, empty. `tail` and `history` show each message's #SEQ.
    """

    async def work(client: Client) -> None:
        await client.delete(topic, seq)

    run(call(connect, work))


@click.command()
@click.argument("topic", callback=parse_topic)
@seq_argument
@click.argument("emoji")
@click.option("--remove", is_flag=True, help="Take the reaction back.")
@client_options
def react(topic: str, seq: int, emoji: str, remove: bool, connect: Callable[..., Client]) -> None:
    """React with EMOJI, one character, to the message SEQ of TOPIC.

    `tail` and `history` show each message's #SEQ.
    """

    async def work(client: Client) -> None:
        await client.react(topic, seq, emoji, remove=remove)

    run(call(connect, work))
