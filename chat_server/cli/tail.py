"""`chat-server tail`."""

import asyncio
import json
from collections.abc import Callable
from datetime import datetime

import click
import msgspec

from ..client import Client, Gap, Message, Subscription
from ..protocol.commands import MAX_HISTORY
from .notices import Notices
from .options import client_options, parse_seconds, parse_topic
from .terminal import Failure, escape_controls, print_error, run, while_read, write_line


@click.command()
@click.argument("topic", callback=parse_topic)
@click.option(
    "--last",
    metavar="N",
    type=click.IntRange(0, MAX_HISTORY),
    default=0,
    help="Begin with the last N messages.",
)
@click.option("--json", "as_json", is_flag=True, help="Print each message as a JSON object.")
@click.option(
    "--timeout",
    metavar="DURATION",
    callback=parse_seconds,
    help="Give up when the server is away for so long; else it is waited for.",
)
@client_options
def tail(
    topic: str,
    last: int,
    as_json: bool,
    timeout: float | None,
    connect: Callable[..., Client],
) -> None:
    """Print the messages of TOPIC as they come, until Ctrl-C."""
    line = json_line if as_json else text_line
    run(while_read(follow(connect, topic, last, timeout, line)))


async def follow(
    connect: Callable[..., Client],
    topic: str,
    last: int,
    timeout: float | None,
    line: Callable[[Message], str],
) -> None:
    """Print the messages of a topic; give up once the server was away for `timeout` seconds."""
    try:
        async with asyncio.timeout(None) as deadline:
            async with (
                connect(on_state=Notices(deadline, timeout).on_state) as client,
                client.subscribe(topic, last=last or None) as room,
            ):
                await _print(room, line)
    except TimeoutError:
        raise Failure(f"gave up: the server was away for {timeout:g} s") from None


async def _print(room: Subscription, line: Callable[[Message], str]) -> None:
    async for event in room:
        if isinstance(event, Message):
            await write_line(line(event))
        elif isinstance(event, Gap):
            print_error(
                f"messages {event.after + 1} to {event.before - 1} are lost: {event.reason}"
            )


def text_line(message: Message) -> str:
    """Return a message as a line for people."""
    try:
        time = datetime.fromtimestamp(message.at / 1000).strftime("%H:%M:%S")
    except (ValueError, OverflowError, OSError):  # beyond all calendars: a server may say anything
        time = "--:--:--"
    sender = message.sender
    name = (sender.name or sender.user) if sender else "(server)"
    data = message.data
    text = data.get("text") if isinstance(data, dict) else None
    if not isinstance(text, str):
        text = json.dumps(data, ensure_ascii=False)
    return escape_controls(f"{time} {name}: {text}")


def json_line(message: Message) -> str:
    """Return a message as a line for programs."""
    # ASCII, so that nothing in it can act on a terminal.
    return json.dumps(msgspec.to_builtins(message))
