"""`chat-server publish`."""

import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing

import click
import msgspec

from ..client import (
    Client,
    CommandFailed,
    OutcomeUnknown,
    Published,
    TimedOut,
    publish_all,
)
from .batches import publish_batches
from .notices import Notices
from .options import client_options, data_option, parse_topic, storing_timeout_option
from .terminal import Failure, Misuse, read_lines, run, write_line


@click.command()
@click.argument("topic", callback=parse_topic)
@click.argument("text", required=False)
@data_option
@click.option("-v", "--verbose", is_flag=True, help="Print each message's seq once it is stored.")
@click.option("--json", "as_json", is_flag=True, help="Print each place as JSON once it is stored.")
@storing_timeout_option
@client_options
def publish(
    topic: str,
    text: str | None,
    is_json: bool,
    verbose: bool,
    as_json: bool,
    timeout: float | None,
    connect: Callable[..., Client],
) -> None:
    """Publish TEXT to TOPIC, or each line of stdin.

    A text becomes the data {"text": TEXT}. Lines are stored in their order and each once, also when
    the connection is lost meanwhile.
    """
    decode = from_json if is_json else from_text
    if text is None and sys.stdin is None:
        raise Misuse("there is no TEXT, and stdin is closed")
    if text is None:
        items = decoded(read_lines(sys.stdin.fileno()), decode)
    else:
        try:
            items = only(decode(os.fsencode(text)))
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="TEXT") from None
    line = _json_place if as_json else _seq if verbose else None
    run(publish_items(connect, topic, items, timeout, lines=text is None, line=line))


async def publish_items(
    connect: Callable[..., Client],
    topic: str,
    items: AsyncIterator[object],
    timeout: float | None,
    *,
    lines: bool,
    line: Callable[[Published], str] | None,
) -> None:
    """Publish all items in their order.

    Args:
        connect: makes the client.
        topic: the topic.
        items: values for JSON.
        timeout: seconds after which an unstored message is given up.
        lines: whether the items are lines of stdin; errors then name the number of the line.
        line: returns the line to print for each published message; None prints nothing.
    """
    stored = 0
    notice = Notices()
    try:
        publish = publish_batches if lines else publish_all
        async with (
            connect(on_state=notice.on_state) as client,
            aclosing(
                publish(client, topic, items, on_refusal=notice.on_refusal, timeout=timeout)
            ) as run,
        ):
            async for published in run:
                stored += 1
                if line is not None:
                    await write_line(line(published))
    except (CommandFailed, OutcomeUnknown, TimedOut, ValueError) as error:
        raise Failure(f"line {stored + 1}: {error}" if lines else str(error)) from None


def _seq(published: Published) -> str:
    return str(published.seq)


def _json_place(published: Published) -> str:
    return json.dumps(msgspec.to_builtins(published))


async def only(item: object) -> AsyncIterator[object]:
    """Yield one item."""
    yield item


async def decoded(
    lines: AsyncIterator[bytes], decode: Callable[[bytes], object]
) -> AsyncIterator[object]:
    """Yield each line as decoded by `decode`; errors name the number of the line."""
    number = 0
    async for line in lines:
        number += 1
        try:
            item = decode(line)
        except ValueError as error:
            raise Failure(f"line {number}: {error}") from None
        yield item


def from_text(line: bytes) -> object:
    """Return the data of a message in plain text."""
    try:
        return {"text": line.removesuffix(b"\r").decode()}
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8") from None


def from_json(line: bytes) -> object:
    """Return the data of a message in JSON."""
    try:
        return msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"is not JSON: {error}") from None
