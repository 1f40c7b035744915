"""What `publish` and `tail` do once their arguments are understood."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from datetime import datetime

import msgspec

from ..client import (
    Client,
    ClientState,
    CommandFailed,
    Gap,
    Message,
    OutcomeUnknown,
    Subscription,
    TimedOut,
    publish_all,
)
from .terminal import Failure, complain, harmless, write_line


async def publish_items(
    chat: Callable[..., Client],
    topic: str,
    items: AsyncIterator[object],
    timeout: float | None,
    *,
    lines: bool,
    verbose: bool,
) -> None:
    """Publish all items in their order; name the line at fault if they are `lines`."""
    stored = 0
    notice = _Notices()
    try:
        async with (
            chat(on_state=notice.on_state) as client,
            aclosing(
                publish_all(client, topic, items, on_refusal=notice.on_refusal, timeout=timeout)
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


# Following --------------------------------------------------------------------------------------


async def follow(
    chat: Callable[..., Client],
    topic: str,
    last: int,
    timeout: float | None,
    line: Callable[[Message], str],
) -> None:
    """Print the messages of a topic; give up once the server was away for `timeout` seconds."""
    try:
        async with asyncio.timeout(None) as deadline:
            async with (
                chat(on_state=_Notices(deadline, timeout).on_state) as client,
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
            complain(f"messages {event.after + 1} to {event.before - 1} are lost: {event.reason}")


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
    return harmless(f"{time} {name}: {text}")


def json_line(message: Message) -> str:
    """Return a message as a line for programs."""
    # ASCII, so that nothing in it can act on a terminal.
    return json.dumps(msgspec.to_builtins(message))


# The terminal -----------------------------------------------------------------------------------


class _Notices:
    """Tells on stderr, and not too often, what a command is waiting for.

    Args:
        deadline: set to `timeout` seconds from the moment a connection was lost until it is back.
    """

    def __init__(
        self, deadline: asyncio.Timeout | None = None, timeout: float | None = None
    ) -> None:
        self._deadline = deadline
        self._timeout = timeout
        self._was_online = False
        self._lost = False
        self._told: set[str] = set()

    def on_state(self, state: ClientState, reason: str) -> None:
        if state is ClientState.RECONNECTING and not self._lost:
            self._lost = True
            complain(f"{'reconnecting' if self._was_online else 'waiting'}: {reason}")
            if self._deadline is not None and self._timeout is not None and self._was_online:
                self._deadline.reschedule(asyncio.get_running_loop().time() + self._timeout)
        elif state is ClientState.ONLINE:
            if self._lost:
                complain("connected again" if self._was_online else "connected")
            if self._deadline is not None and not self._deadline.expired():
                self._deadline.reschedule(None)
            self._was_online, self._lost = True, False

    def on_refusal(self, error: CommandFailed) -> None:
        if error.code not in self._told:
            self._told.add(error.code)
            complain(f"waiting: {error}")
