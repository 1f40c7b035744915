"""`chat-server edit`, `delete` and `react`."""

import asyncio
import os
import secrets
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import click
import msgspec

from ..client import Changed, Client, CommandFailed, TimedOut
from ..client.ending import retry_delay
from .notices import Notices
from .options import (
    client_options,
    data_option,
    json_option,
    parse_topic,
    seq_argument,
    storing_timeout_option,
)
from .publish import from_json, from_text
from .terminal import run, write_result


@click.command()
@click.argument("topic", callback=parse_topic)
@seq_argument
@click.argument("text")
@data_option
@json_option
@storing_timeout_option
@client_options
def edit(
    topic: str,
    seq: int,
    text: str,
    is_json: bool,
    as_json: bool,
    timeout: float | None,
    connect: Callable[..., Client],
) -> None:
    """Put TEXT into the message SEQ of TOPIC.

    A text becomes the data {"text": TEXT}. `tail` and `history` show each message's #SEQ.
    """
    try:
        data = (from_json if is_json else from_text)(os.fsencode(text))
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="TEXT") from None
    run(change(connect, timeout, as_json, lambda chat, **once: chat.edit(topic, seq, data, **once)))


@click.command()
@click.argument("topic", callback=parse_topic)
@seq_argument
@json_option
@storing_timeout_option
@client_options
def delete(
    topic: str, seq: int, as_json: bool, timeout: float | None, connect: Callable[..., Client]
) -> None:
    """Take what the message SEQ of TOPIC says away for good.

    The message stays in its place, empty. `tail` and `history` show each message's #SEQ.
    """
    run(change(connect, timeout, as_json, lambda chat, **once: chat.delete(topic, seq, **once)))


@click.command()
@click.argument("topic", callback=parse_topic)
@seq_argument
@click.argument("emoji")
@click.option("--remove", is_flag=True, help="Take the reaction back.")
@json_option
@storing_timeout_option
@client_options
def react(
    topic: str,
    seq: int,
    emoji: str,
    remove: bool,
    as_json: bool,
    timeout: float | None,
    connect: Callable[..., Client],
) -> None:
    """React with EMOJI, one character, to the message SEQ of TOPIC.

    `tail` and `history` show each message's #SEQ.
    """

    def send(chat: Client, **once: Any) -> Awaitable[Changed]:
        return chat.react(topic, seq, emoji, remove=remove, **once)

    run(change(connect, timeout, as_json, send))


async def change(
    connect: Callable[..., Client],
    timeout: float | None,
    as_json: bool,
    send: Callable[..., Awaitable[Changed]],
) -> None:
    """Store one change once, however often the connection breaks.

    Args:
        connect: makes the client.
        timeout: seconds after which an unstored change is given up; None waits for ever.
        as_json: whether to print the position as JSON.
        send: sends the change by a client, with a `key`.

    Raises:
        ClientError: the server refused the change for good, or did not store the change in time.
    """
    notices = Notices()
    key = secrets.token_hex(12)
    async with connect(on_state=notices.on_state) as client:
        try:
            async with asyncio.timeout(timeout):
                place = await _patiently(partial(send, client, key=key, wait=True), notices)
        except TimeoutError:
            assert timeout is not None  # noqa: S101 - nothing else raises it
            raise TimedOut(timeout, maybe_stored=True) from None
    await write_result(msgspec.to_builtins(place), "", as_json)


async def _patiently(send: Callable[[], Awaitable[Changed]], notices: Notices) -> Changed:
    """Send the change again as long as the server answers that the time is too early."""
    refusals = 0
    while True:
        try:
            return await send()
        except CommandFailed as error:
            if not error.transient:
                raise
            notices.on_refusal(error)
            await asyncio.sleep(retry_delay(error.retry_in_ms, refusals))
            refusals += 1
