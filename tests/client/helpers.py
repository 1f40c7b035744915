"""Short ways to take events from a subscription, and a server that lasts."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from chat_server.client import Event, Message, Subscription
from tests.rig.redis_server import RedisServer
from tests.rig.server import ServerProcess

QUICK = {"CHAT_LIMITS__MESSAGES_PER_SECOND": "100000", "CHAT_LIMITS__MESSAGE_BURST": "100000"}


async def take(room: Subscription, count: int) -> list[Event]:
    """Return the next events; fail if they do not come in time."""
    async with asyncio.timeout(90):
        return [await anext(room) for _ in range(count)]


async def message(room: Subscription) -> Message:
    """Return the next event, which must be a message."""
    [event] = await take(room, 1)
    assert isinstance(event, Message)
    return event


def data(events: list[Event]) -> list[object]:
    """Return the data of those events that are messages."""
    return [event.data for event in events if isinstance(event, Message)]


@asynccontextmanager
async def lasting_server(folder: Path) -> AsyncIterator[ServerProcess]:
    """Run a server over a Redis of its own, which forgets nothing when either is restarted."""
    redis = RedisServer(folder)
    await asyncio.to_thread(redis.start)
    running = ServerProcess("--redis-url", redis.url, environ=QUICK)
    try:
        await asyncio.to_thread(running.__enter__)
        yield running
        await asyncio.to_thread(running.__exit__, None, None, None)
    finally:
        await asyncio.to_thread(redis.stop)
