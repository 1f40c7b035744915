"""Many publications to one topic, in their order."""

import asyncio
import math
import secrets
from collections.abc import AsyncGenerator, AsyncIterable, Callable

from .client import Client
from .errors import ClientError, CommandFailed, ConnectionLost, NotConnected
from .events import Published

RETRY_SECONDS = 1.0
"""How long to wait after a refusal that may pass but does not say when."""

HEADROOM = 0.9
"""The part of the server's rate limit that is used: what leaves evenly may arrive in a bunch."""


async def publish_all(
    client: Client,
    topic: str,
    items: AsyncIterable[object],
    *,
    window: int = 32,
    on_refusal: Callable[[CommandFailed], None] | None = None,
) -> AsyncGenerator[Published, None]:
    """Publish all of `items` to `topic` in their order, and yield where each stands.

    Up to `window` are on their way at a time, within the server's rate limit. Each has a key of its
    own, so that it is stored once however often the connection breaks. When one is lost with the
    connection or refused for the moment, no more leave until it and those behind it are stored, one
    after the other. (Only if the server refuses one and takes the next, both being on their way at
    that moment, the next overtakes it: say, a store that fails and is back within milliseconds.)

    Close the generator (`contextlib.aclosing`) if it is not read to its end.

    Args:
        window: items on their way at most.
        on_refusal: called with each refusal that is waited for.

    Raises:
        CommandFailed: the server refused an item for good; those before it are stored.
        ClientError: the client had to give up.
        Exception: whatever `items` raised, once those before are stored.
    """
    bulk = _Bulk(client, topic, window, on_refusal)
    feeder = asyncio.create_task(bulk.feed(items))
    try:
        while (item := await bulk.next()) is not None:
            yield await bulk.settle(item)
    finally:
        feeder.cancel()
        await asyncio.gather(feeder, *bulk.cancel(), return_exceptions=True)


class _Item:
    """A publication on its way."""

    def __init__(self, data: object, key: str) -> None:
        self.data = data
        self.key = key
        self.outcome: asyncio.Task[Published]


class _Bulk:
    """One run of `publish_all`: the feeder starts publications, the generator settles them."""

    def __init__(
        self,
        client: Client,
        topic: str,
        window: int,
        on_refusal: Callable[[CommandFailed], None] | None,
    ) -> None:
        self._client = client
        self._topic = topic
        self._on_refusal = on_refusal
        self._run = secrets.token_hex(8)
        self._pace = _Pace(client)
        self._slots = asyncio.Semaphore(window)
        self._may_start = asyncio.Event()
        self._may_start.set()
        self._under_way: set[_Item] = set()
        self._queue: asyncio.Queue[_Item | Exception | None] = asyncio.Queue()  # the slots bound it

    async def feed(self, items: AsyncIterable[object]) -> None:
        """Start the publication of one item after another."""
        end: Exception | None = None
        number = 0
        try:
            async for data in items:
                await self._slots.acquire()
                await self._pace.wait()
                await self._may_start.wait()
                number += 1
                item = _Item(data, f"{self._run}-{number}")
                self._under_way.add(item)
                self._start(item)
                self._queue.put_nowait(item)
        except Exception as error:  # of `items`, to be raised where they are awaited
            end = error
        self._queue.put_nowait(end)

    async def next(self) -> _Item | None:
        """Return the oldest item that is not settled, or None at the end."""
        item = await self._queue.get()
        if isinstance(item, Exception):
            raise item
        return item

    async def settle(self, item: _Item) -> Published:
        """Wait until `item` is stored, and publish it again as long as that may help."""
        while True:
            try:
                published = await item.outcome
            except (NotConnected, ConnectionLost):
                await self._client.wait_online()
            except CommandFailed as error:
                if not error.transient:
                    raise
                if self._on_refusal is not None:
                    self._on_refusal(error)
                await asyncio.sleep((error.retry_in_ms or RETRY_SECONDS * 1000) / 1000)
            else:
                self._under_way.discard(item)
                self._slots.release()
                if not self._under_way:
                    self._may_start.set()
                return published
            self._start(item)

    def cancel(self) -> list[asyncio.Task[Published]]:
        """Give up what is under way, and return the tasks to wait for."""
        tasks = [item.outcome for item in self._under_way]
        for task in tasks:
            task.cancel()
        return tasks

    def _start(self, item: _Item) -> None:
        item.outcome = asyncio.create_task(self._publish(item))

    async def _publish(self, item: _Item) -> Published:
        try:
            return await self._client.publish(self._topic, item.data, key=item.key)
        except ClientError:
            # From this moment, and not only when it is settled: nothing new may overtake it.
            self._may_start.clear()
            raise


class _Pace:
    """Spaces commands so that the server's rate limit takes them: a token bucket like its own."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._clock = asyncio.get_running_loop().time
        self._tokens = math.inf
        self._updated_at = self._clock()

    async def wait(self) -> None:
        """Wait until another command may leave."""
        limits = (await self._client.wait_online()).limits
        rate = limits.messages_per_second * HEADROOM
        now = self._clock()
        earned = (now - self._updated_at) * rate
        # The connection's first commands, `subscribe` for one, have been counted by the server too.
        self._tokens = min(limits.message_burst * HEADROOM, self._tokens + earned) - 1
        self._updated_at = now
        if self._tokens < 0:
            await asyncio.sleep(-self._tokens / rate)
