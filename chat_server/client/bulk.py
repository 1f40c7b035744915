"""Many publications to one topic, in order."""

import asyncio
import logging
import secrets
from collections.abc import AsyncGenerator, AsyncIterable, Callable

from .client import Client
from .ending import retry_delay
from .errors import ClientError, CommandFailed, ConnectionLost, NotConnected, TimedOut
from .events import Published
from .publication import Publication

logger = logging.getLogger("chat_server.client")


async def publish_all(
    client: Client,
    topic: str,
    items: AsyncIterable[object],
    *,
    window: int = 32,
    on_refusal: Callable[[CommandFailed], None] | None = None,
    timeout: float | None = None,
) -> AsyncGenerator[Published, None]:
    """Publish `items` to `topic` in order, and yield the place of each.

    Up to `window` items are in flight at a time, within the server's rate limit. Each item has its
    own idempotency key, so the server stores each item once, even if connections break. The first
    item is sent alone, and each stored item allows two more. If an item is lost with its
    connection, or gets a transient refusal, no new item is sent until this item and all later sent
    items are stored. Then the window grows from one again. An item can overtake its predecessor
    only if both are in flight while the store fails and returns within milliseconds; `window=1`
    excludes this case.

    Close the generator (`contextlib.aclosing`) unless the loop reads all results.

    Args:
        client: an entered client.
        topic: the topic of the messages.
        items: values with a JSON form.
        window: items in flight at most.
        on_refusal: called with each refusal before the item is resent; its exceptions are logged.
        timeout: seconds after which an unstored item is given up; None waits for ever.

    Raises:
        CommandFailed: the server refused an item for good; the items before are stored.
        OutcomeUnknown: an item may have been stored and cannot be repeated safely.
        TimedOut: an item was not stored in time.
        TypeError, ValueError: an item cannot be published.
        ClientError: the client has ended.
        Exception: any exception of `items`, once the items before are stored.
    """
    bulk = _Bulk(client, topic, window, on_refusal, timeout)
    feeder = asyncio.create_task(bulk.feed(items))
    try:
        while (item := await bulk.next()) is not None:
            yield await bulk.result(item)
    finally:
        feeder.cancel()
        await asyncio.gather(feeder, *bulk.cancel(), return_exceptions=True)


class _Item:
    """One item, with the outcome of its latest attempt."""

    def __init__(self, data: object, key: str, now: float) -> None:
        self.data = data
        self.key = key
        self.began = now
        self.publication: Publication | None = None
        self.outcome: asyncio.Task[Published]

    @property
    def maybe_stored(self) -> bool:
        """True if the item was sent and its outcome is unknown."""
        publication = self.publication
        return publication is not None and (publication.maybe_stored or not self.outcome.done())


class _Bulk:
    """One run of `publish_all`: the feeder starts publications, the generator awaits them."""

    def __init__(
        self,
        client: Client,
        topic: str,
        window: int,
        on_refusal: Callable[[CommandFailed], None] | None,
        timeout: float | None,
    ) -> None:
        self._client = client
        self._topic = topic
        self._on_refusal = on_refusal
        self._timeout = timeout
        self._clock = asyncio.get_running_loop().time
        self._run = secrets.token_hex(8)
        self._pace = client.pace
        self._window = window
        self._slots = asyncio.Semaphore(window)
        self._turn = asyncio.Lock()  # held by an item before its first attempt
        self._may_start = asyncio.Event()
        self._may_start.set()
        self._most_under_way = 1
        self._recovering = False
        self._pending: set[_Item] = set()
        self._under_way: set[_Item] = set()  # pending items after their first attempt
        self._queue: asyncio.Queue[_Item | Exception | None] = asyncio.Queue()  # the slots bound it

    async def feed(self, items: AsyncIterable[object]) -> None:
        """Start the publication of one item after another."""
        end: Exception | None = None
        number = 0
        try:
            async for data in items:
                await self._slots.acquire()
                number += 1
                item = _Item(data, f"{self._run}-{number}", self._clock())
                self._pending.add(item)
                item.outcome = asyncio.create_task(self._first(item))
                self._queue.put_nowait(item)
        except Exception as error:  # an exception of `items`, raised again by `next`
            end = error
        self._queue.put_nowait(end)

    async def next(self) -> _Item | None:
        """Return the oldest item without a result, or None at the end."""
        item = await self._queue.get()
        if isinstance(item, Exception):
            raise item
        return item

    async def result(self, item: _Item) -> Published:
        """Wait until `item` is stored; publish `item` again as long as a retry may succeed."""
        timeout = self._timeout
        try:
            async with asyncio.timeout_at(None if timeout is None else item.began + timeout):
                published = await self._stored(item)
        except TimeoutError:
            assert timeout is not None  # noqa: S101 - only `timeout_at` raises
            raise TimedOut(timeout, maybe_stored=item.maybe_stored) from None
        self._pending.discard(item)
        self._under_way.discard(item)
        self._slots.release()
        self._recovering = self._recovering and bool(self._under_way)
        if not self._recovering:
            self._most_under_way = min(2 * self._most_under_way, self._window)
        self._admit()
        return published

    def _admit(self) -> None:
        """Open or close the gate for the next item."""
        if self._recovering or len(self._under_way) >= self._most_under_way:
            self._may_start.clear()
        else:
            self._may_start.set()

    def cancel(self) -> list[asyncio.Task[Published]]:
        """Cancel all items without a result, and return their tasks."""
        tasks = [item.outcome for item in self._pending]
        for task in tasks:
            task.cancel()
        return tasks

    async def _stored(self, item: _Item) -> Published:
        refusals = 0
        while True:
            try:
                return await asyncio.shield(item.outcome)
            except (NotConnected, ConnectionLost):
                await self._client.wait_online()
            except CommandFailed as error:
                if not error.transient:
                    raise
                if not error.expired or refusals:  # else a new token is awaited
                    self._tell(error)
                    await asyncio.sleep(retry_delay(error.retry_in_ms, refusals))
                refusals += 1
            item.outcome = asyncio.create_task(self._attempt(item))

    async def _first(self, item: _Item) -> Published:
        async with self._turn:
            await self._client.learn_position(self._topic, self._tell)
            await self._pace.wait()
            await self._may_start.wait()
            self._under_way.add(item)
            self._admit()
        return await self._attempt(item)

    async def _attempt(self, item: _Item) -> Published:
        try:
            if item.publication is None:
                item.publication = self._client.publication(self._topic, item.data, item.key)
            return await item.publication.attempt()
        except ClientError:
            # Stop new items immediately, before the generator gets here: no item may overtake this
            # one.
            self._recovering, self._most_under_way = True, 1
            self._admit()
            raise

    def _tell(self, error: CommandFailed) -> None:
        if self._on_refusal is None:
            return
        try:
            self._on_refusal(error)
        except Exception:
            logger.exception("on_refusal failed")
