"""`chat-server publish`."""

import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing

import click
import msgspec

from ..client import Client, CommandFailed, OutcomeUnknown, TimedOut, publish_all
from .batches import publish_batches
from .notices import Notices
from .options import client_options, parse_topic, timeout_option
from .terminal import Failure, Misuse, read_lines, run, write_line


@click.command()
@click.argument("topic", callback=parse_topic)
@click.argument("text", required=False)
@click.option("--json", "as_json", is_flag=True, help="TEXT, or each line, is a JSON value.")
@click.option("-v", "--verbose", is_flag=True, help="Print each message's seq once it is stored.")
@timeout_option
@client_options
def publish(
    topic: str,
    text: str | None,
    as_json: bool,
    verbose: bool,
    timeout: float | None,
    connect: Callable[..., Client],
) -> None:
    """Publish TEXT to TOPIC, or each line of stdin.

    A text becomes the data {"text": TEXT}. Lines are stored in their order and each once, also when
    the connection is lost meanwhile.
    """
    decode = from_json if as_json else from_text
    if text is None and sys.stdin is None:
        raise Misuse("there is no TEXT, and stdin is closed")
    if text is None:
        items = decoded(read_lines(sys.stdin.fileno()), decode)
    else:
        try:
            items = only(decode(os.fsencode(text)))
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="TEXT") from None
    run(publish_items(connect, topic, items, timeout, lines=text is None, verbose=verbose))


async def publish_items(
    connect: Callable[..., Client],
    topic: str,
    items: AsyncIterator[object],
    timeout: float | None,
    *,
    lines: bool,
    verbose: bool,
) -> None:
    """Publish all items in their order; name the line at fault if they are `lines`."""
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
                if verbose:
                    await write_line(str(published.seq))
    except (CommandFailed, OutcomeUnknown, TimedOut, ValueError) as error:
        raise Failure(f"line {stored + 1}: {error}" if lines else str(error)) from None


async def only(item: object) -> AsyncIterator[object]:
    """Yield one item."""
    yield item


async def decoded(
    lines: AsyncIterator[bytes], decode: Callable[[bytes], object]
) -> AsyncIterator[object]:
    """Yield what `decode` makes of each line; name the line at fault."""
    number = 0
    async for line in lines:
        number += 1
        try:
            item = decode(line)
        except ValueError as error:
            raise Failure(f"line {number}: {error}") from None
        yield item


def from_text(line: bytes) -> object:
    """Return the data of a message that is plain text."""
    try:
        return {"text": line.removesuffix(b"\r").decode()}
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8") from None


def from_json(line: bytes) -> object:
    """Return the data of a message that is JSON."""
    try:
        return msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"is not JSON: {error}") from None
