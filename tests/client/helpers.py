"""Short ways to take events from a subscription."""

import asyncio

from chat_server.client import Event, Message, Subscription


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
