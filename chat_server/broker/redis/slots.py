"""Routes calls to the shards of a cluster, in order while a slot moves."""

import asyncio
import logging
from asyncio import Future
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from itertools import islice
from typing import Any, Protocol, TypeVar

from ...protocol.errors import ChatError, Unavailable
from ..common import Busy, busy, fail, failed, rejected, unavailable
from .broker import RedisBroker
from .refusals import Moved
from .urls import Address

log = logging.getLogger(__name__)

T = TypeVar("T")

BUSY_SECONDS = 0.05
"""Seconds before a busy shard is asked again."""


class SlotMap(Protocol):
    """The owners of the slots."""

    def owner(self, slot: int) -> RedisBroker | None:
        """Return the known owner of a slot."""
        ...

    def invalidate(self, hint: Address | None) -> None:
        """Note that the map is out of date; `hint` is a node that may have a newer one."""
        ...

    async def refreshed(self) -> None:
        """Wait for a new map."""
        ...


class _Request:
    """A call on the owner of a slot, and the future of its result.

    Attributes:
        ordered: True if later ordered calls of the slot must not overtake this call.
        shard: the shard that got the call.
        deadline: loop time after which the call fails instead of waiting.
    """

    __slots__ = ("call", "deadline", "future", "ordered", "shard", "slot")

    def __init__(
        self, slot: int, call: Callable[[RedisBroker], Future[Any]], ordered: bool, seconds: float
    ) -> None:
        loop = asyncio.get_running_loop()
        self.slot = slot
        self.call = call
        self.ordered = ordered
        self.deadline = loop.time() + seconds
        self.future: Future[Any] = loop.create_future()
        self.shard: RedisBroker | None = None

    def resolve(self, result: Future[Any]) -> None:
        error = unavailable() if result.cancelled() else result.exception()
        if error is not None:
            fail(self.future, error if isinstance(error, ChatError) else unavailable())
        elif not self.future.done():
            self.future.set_result(result.result())


class SlotQueue:
    """Requests that wait for a moving slot, in the order of the calls."""

    __slots__ = ("_returned", "queue")

    def __init__(self) -> None:
        self.queue: deque[_Request] = deque()
        self._returned = 0

    def requeue(self, request: _Request) -> None:
        """Add a request that a server has not run, before all unsent requests."""
        self.queue.insert(self._returned, request)
        self._returned += 1

    def overtake(self) -> None:
        """Fail requeued ordered requests, because a later request of the slot has run."""
        for request in islice(self.queue, self._returned):
            if request.ordered:
                fail(request.future, rejected())


class SlotRouter:
    """Sends each call to the owner of its slot.

    `Moved` means that the shard has not run the call. The call then waits for the slot's owner, and
    later calls of the slot wait behind. Redis refuses scripts of several keys while a slot
    migrates, so following `ASK` would not help.

    Args:
        map: the owners of the slots.
        limit: maximum number of waiting calls; further ones fail at once.
        seconds: longest wait of a call.
    """

    def __init__(self, map: SlotMap, *, limit: int, seconds: float) -> None:
        self._map = map
        self._limit = limit
        self._seconds = seconds
        self._queues: dict[int, SlotQueue] = {}
        self._latest: dict[int, _Request] = {}
        self._waiting = 0
        self._stopped = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def stop(self) -> None:
        """Fail every waiting and every later call."""
        self._stopped = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for slot in list(self._queues):
            self._end_queue(slot)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work, name="redis queue")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def submit(
        self, slot: int, call: Callable[[RedisBroker], "Future[T]"], *, ordered: bool = False
    ) -> "Future[T]":
        """Call the owner of `slot`.

        Args:
            slot: the slot.
            call: called with the owner, and again if that shard has not run the call.
            ordered: True if later ordered calls of the slot must not overtake this call.

        Returns:
            A future of the result; fails with `Unavailable`.
        """
        if self._stopped:
            return failed(unavailable())
        request = _Request(slot, call, ordered, self._seconds)
        queue = self._queues.get(slot)
        if queue is None:
            self._send(request)
        elif self._waiting >= self._limit:
            return failed(busy())
        else:
            self._wait_in(queue.queue.append, request)
        return request.future

    def _send(self, request: _Request) -> None:
        slot = request.slot
        shard = request.shard = self._map.owner(slot)
        if shard is None:
            self._map.invalidate(None)
            fail(request.future, unavailable())
            return
        if request.ordered:
            before = self._latest.get(slot)
            if before is not None and before.shard is not shard and slot not in self._queues:
                # The slot moved during the earlier request. That request may come back and goes
                # first.
                self._wait_in(self._queue_of(slot, before.shard).queue.append, request)
                return
            self._latest[slot] = request
        request.call(shard).add_done_callback(partial(self._done, request))

    def _done(self, request: _Request, result: Future[Any]) -> None:
        slot = request.slot
        if self._latest.get(slot) is request:
            del self._latest[slot]
        if not self._stopped and (moved := _moved(result)) is not None:
            self._map.invalidate(moved.server)
            self._wait_in(self._queue_of(slot, request.shard).requeue, request)
            return
        request.resolve(result)
        queue = self._queues.get(slot)
        if queue is not None and request.ordered and _succeeded(result):
            queue.overtake()

    def _queue_of(self, slot: int, shard: RedisBroker | None) -> SlotQueue:
        """Return the slot's queue; begin a queue if there is none, draining `shard` first."""
        if slot not in self._queues:
            self._queues[slot] = SlotQueue()
            self._spawn(self._drain_queue(slot, shard))
        return self._queues[slot]

    def _wait_in(self, line: Callable[[_Request], None], request: _Request) -> None:
        line(request)
        self._waiting += 1

    async def _drain_queue(self, slot: int, shard: RedisBroker | None) -> None:
        """Wait until a slot has an owner, and send the slot's queue in order."""
        try:
            await self._all_back(shard)
            while (head := self._head(slot)) is not None:
                await self._map.refreshed()
                owner = self._map.owner(slot)
                if owner is None:
                    continue
                result = head.call(owner)
                await asyncio.wait([result])
                if (moved := _moved(result)) is not None:
                    self._map.invalidate(moved.server)
                    continue
                head.resolve(result)
                self._drop(head)
                while self._queues[slot].queue:
                    self._send(self._take(slot))
        except Exception:
            log.exception("a slot of the Redis Cluster could not be followed")
        finally:
            self._end_queue(slot)

    async def _all_back(self, shard: RedisBroker | None) -> None:
        """Wait until a shard has answered all calls, so that their order is known.

        An unavailable shard is asked too, because its connection may still bring answers.
        """
        while shard is not None:
            try:
                await shard.flushed()
            except Busy:
                await asyncio.sleep(BUSY_SECONDS)
            except Unavailable:
                return  # all calls have failed with the connection
            else:
                return

    def _head(self, slot: int) -> _Request | None:
        """Fail requests that waited too long, and return the first of the rest."""
        queue, now = self._queues[slot].queue, asyncio.get_running_loop().time()
        while queue and (queue[0].future.done() or now > queue[0].deadline):
            # `Rejected`, not `Unavailable`: later requests may still be stored.
            fail(self._take(slot).future, rejected())
        return queue[0] if queue else None

    def _drop(self, head: _Request) -> None:
        """Remove a request that was run; requeued reads may be before it."""
        self._queues[head.slot].queue.remove(head)
        self._waiting -= 1

    def _take(self, slot: int) -> _Request:
        self._waiting -= 1
        return self._queues[slot].queue.popleft()

    def _end_queue(self, slot: int) -> None:
        if slot in self._queues:
            while self._queues[slot].queue:
                fail(self._take(slot).future, unavailable())
            del self._queues[slot]


def _moved(result: Future[Any]) -> Moved | None:
    error = None if result.cancelled() else result.exception()
    return error if isinstance(error, Moved) else None


def _succeeded(result: Future[Any]) -> bool:
    return not result.cancelled() and result.exception() is None
