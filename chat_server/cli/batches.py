"""Publishes lines in batches of items that are available at once."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import NamedTuple

from ..client import Client, ClientError, CommandFailed, NewMessage, Published, publish_all
from ..protocol.batch import MAX_BATCH


class _End(NamedTuple):
    """The end of the items, and the error that caused the end, if any."""

    error: Exception | None


Queue = asyncio.Queue[object]
"""Items, and an `_End` after the last item."""


async def publish_batches(
    client: Client,
    topic: str,
    items: AsyncIterator[object],
    *,
    on_refusal: Callable[[CommandFailed], None],
    timeout: float | None,
) -> AsyncGenerator[Published, None]:
    """Publish items like `publish_all`, but in batches of items that are available at once.

    The first item leaves alone, the next two together, and so on up to a second of the user's rate.
    So a forbidden topic is noticed before much was sent. Where batches do not get through,
    `publish_all` goes on.

    Args:
        client: a connected client.
        topic: the topic.
        items: values for JSON.
        on_refusal: called with each refusal after which items are sent again.
        timeout: seconds after which an unstored batch is given up; None waits for ever.

    Raises:
        ClientError, TypeError, ValueError, Exception: as `publish_all`.
    """
    queue: Queue = asyncio.Queue(MAX_BATCH)
    feeder = asyncio.create_task(_feed(items, queue))
    try:
        rate = (await client.wait_online()).limits.messages_per_second
        most = max(1, min(MAX_BATCH, int(rate)))
        await client.learn_position(topic, on_refusal)
        size = 1
        while client.takes_batches and (batch := await _take(queue, size)):
            async for outcome in _outcomes(client, topic, batch, on_refusal, timeout):
                if isinstance(outcome, ClientError):
                    raise outcome
                yield outcome
            size = min(2 * size, most)
        rest = publish_all(client, topic, _rest(queue), on_refusal=on_refusal, timeout=timeout)
        async with aclosing(rest):
            async for published in rest:
                yield published
    finally:
        feeder.cancel()
        await asyncio.gather(feeder, return_exceptions=True)


async def _outcomes(
    client: Client,
    topic: str,
    batch: list[object],
    on_refusal: Callable[[CommandFailed], None],
    timeout: float | None,
) -> AsyncIterator[Published | ClientError]:
    messages = [NewMessage(topic, data) for data in batch]
    try:
        outcomes = await client.publish_many(messages, on_refusal=on_refusal, timeout=timeout)
    except (TypeError, ValueError):
        # One message cannot be published. Those before can, and the error needs its number.
        for message in messages:
            for outcome in await client.publish_many(
                [message], on_refusal=on_refusal, timeout=timeout
            ):
                yield outcome
        return
    for outcome in outcomes:
        yield outcome


async def _feed(items: AsyncIterator[object], queue: Queue) -> None:
    error: Exception | None = None
    try:
        async for item in items:
            await queue.put(item)
    except Exception as caught:  # `_rest` raises the error behind the items before it.
        error = caught
    await queue.put(_End(error))


async def _take(queue: Queue, most: int) -> list[object]:
    """Wait for an item, and return all available items, or none at the end."""
    batch: list[object] = []
    while not batch or (len(batch) < most and not queue.empty()):
        item = await queue.get()
        if isinstance(item, _End):
            queue.put_nowait(item)
            break
        batch.append(item)
    return batch


async def _rest(queue: Queue) -> AsyncIterator[object]:
    """Yield the items until the end, then raise the end's error."""
    while not isinstance(item := await queue.get(), _End):
        yield item
    if item.error is not None:
        raise item.error
