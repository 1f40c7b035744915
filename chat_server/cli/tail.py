"""`chat-server tail`."""

import asyncio
from collections.abc import Callable

import click

from ..client import Client, Event, Gap, Messages, Subscription
from ..protocol.commands import MAX_HISTORY
from .lines import event_line, json_line
from .notices import Notices
from .options import client_options, parse_topic
from .patience import parse_seconds
from .terminal import Failure, print_error, run, while_read, write_line


@click.command()
@click.argument("topic", callback=parse_topic)
@click.option(
    "--last",
    metavar="N",
    type=click.IntRange(0, MAX_HISTORY),
    default=0,
    help="Begin with the last N messages.",
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print each message and change as a JSON object."
)
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
    """Print the messages of TOPIC as they come, until Ctrl-C.

    #SEQ names a message for other commands. Edits, deletions and reactions are lines of their own.
    A message that grows is shown when it begins and when it has ended.
    """
    line = json_line if as_json else event_line
    run(while_read(follow(connect, topic, last, timeout, line)))


async def follow(
    connect: Callable[..., Client],
    topic: str,
    last: int,
    timeout: float | None,
    line: Callable[[Event, Messages], str | None],
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


async def _print(room: Subscription, line: Callable[[Event, Messages], str | None]) -> None:
    async for event in room:
        if isinstance(event, Gap):
            print_error(
                f"messages {event.after + 1} to {event.before - 1} are lost: {event.reason}"
            )
        elif (text := line(event, room.messages)) is not None:
            await write_line(text)
