"""`chat-server edit`, `delete` and `react`."""

import asyncio
import os
import secrets
from collections.abc import Awaitable, Callable
from functools import partial

import click

from ..client import Client, CommandFailed, TimedOut
from ..client.ending import retry_delay
from .notices import Notices
from .options import client_options, parse_topic, seq_argument, timeout_option
from .publish import from_json, from_text
from .terminal import run


@click.command()
@click.argument("topic", callback=parse_topic)
@seq_argument
@click.argument("text")
@click.option("--json", "as_json", is_flag=True, help="TEXT is a JSON value.")
@timeout_option
@client_options
def edit(
    topic: str,
    seq: int,
    text: str,
    as_json: bool,
    timeout: float | None,
    connect: Callable[..., Client],
) -> None:
    """Put TEXT into the message SEQ of TOPIC.

    A text becomes the data {"text": TEXT}. `tail` and `history` show each message's #SEQ.
    """
    try:
        data = (from_json if as_json else from_text)(os.fsencode(text))
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="TEXT") from None
    run(change(connect, timeout, lambda client: partial(client.edit, topic, seq, data)))


@click.command()
@click.argument("topic", callback=parse_topic)
@seq_argument
@timeout_option
@client_options
def delete(topic: str, seq: int, timeout: float | None, connect: Callable[..., Client]) -> None:
    """Take what the message SEQ of TOPIC says away for good.

    The message stays in its place, empty. `tail` and `history` show each message's #SEQ.
    """
    run(change(connect, timeout, lambda client: partial(client.delete, topic, seq)))


@click.command()
@click.argument("topic", callback=parse_topic)
@seq_argument
@click.argument("emoji")
@click.option("--remove", is_flag=True, help="Take the reaction back.")
@timeout_option
@client_options
def react(
    topic: str,
    seq: int,
    emoji: str,
    remove: bool,
    timeout: float | None,
    connect: Callable[..., Client],
) -> None:
    """React with EMOJI, one character, to the message SEQ of TOPIC.

    `tail` and `history` show each message's #SEQ.
    """
    run(
        change(
            connect, timeout, lambda client: partial(client.react, topic, seq, emoji, remove=remove)
        )
    )


async def change(
    connect: Callable[..., Client],
    timeout: float | None,
    verb: Callable[[Client], Callable[..., Awaitable[object]]],
) -> None:
    """Store one change once, however often the connection breaks.

    Args:
        connect: makes the client.
        timeout: seconds after which a change that is not stored is given up; None waits for ever.
        verb: returns what sends the change, given its `key`.

    Raises:
        ClientError: the server refused the change for good, or it was not stored in time.
    """
    notices = Notices()
    key = secrets.token_hex(12)
    async with connect(on_state=notices.on_state) as client:
        send = partial(verb(client), key=key, wait=True)
        try:
            async with asyncio.timeout(timeout):
                await _patiently(send, notices)
        except TimeoutError:
            assert timeout is not None  # noqa: S101 - nothing else raises it
            raise TimedOut(timeout, maybe_stored=True) from None


async def _patiently(send: Callable[[], Awaitable[object]], notices: Notices) -> None:
    """Send until the server no longer only finds it too early."""
    refusals = 0
    while True:
        try:
            await send()
        except CommandFailed as error:
            if not error.transient:
                raise
            notices.on_refusal(error)
            await asyncio.sleep(retry_delay(error.retry_in_ms, refusals))
            refusals += 1
        else:
            return
