"""Conventions for signals, common to the clients and the page (docs/protocol.md, section 2)."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from .errors import ClientError, CommandFailed, ConnectionLost, NotConnected

TYPING_SECONDS = 3.0
"""Seconds between two typing signals. Receivers forget a signal after twice this time."""

logger = logging.getLogger("chat_server.client")

Send = Callable[[str, object], Awaitable[None]]


@asynccontextmanager
async def typing(send: Send, topic: str) -> AsyncIterator[None]:
    """Signal repeatedly that the user types in a topic, until the block ends.

    Args:
        send: sends a signal.
        topic: the topic.

    Raises:
        CommandFailed: the server refused the first signal for good.
    """
    await _say(send, topic)
    task = asyncio.create_task(_repeat(send, topic), name="chat client typing")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def _repeat(send: Send, topic: str) -> None:
    try:
        while True:
            await asyncio.sleep(TYPING_SECONDS)
            await _say(send, topic)
    except ClientError as error:
        logger.warning("typing in %s is not shown any more: %s", topic, error)


async def _say(send: Send, topic: str) -> None:
    try:
        await send(topic, {"typing": True})
    except (NotConnected, ConnectionLost):
        pass  # the next signal may arrive
    except CommandFailed as error:
        if not error.transient:
            raise
