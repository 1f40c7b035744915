"""Runs all consumers in the one process that holds the lease."""

import asyncio
import logging
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import Final

from ..events import Position
from ..logs import LogThrottle
from ..protocol.errors import Unavailable
from ..realtime.ports import EventLog, FeedStore, LogReader
from .follower import Follower
from .ports import Consumer, Cursor, Lease

logger = logging.getLogger(__name__)

LEASE_SECONDS: Final = 15.0
"""Seconds for which a dead process keeps the lease."""

RELEASE_SECONDS: Final = 2.0
"""Seconds that releasing the lease may take at the end: a stopping process has little time."""

HINT_SECONDS: Final = 0.2
"""Seconds between two reports of a worker about topics with new events."""

HINTS_AT_ONCE: Final = 1_000
"""Hints taken in one call."""

SWEEP_SECONDS: Final = 60.0
"""Seconds between two comparisons of all topics. A sweep finds events without a hint."""


class Consumers:
    """The consumers of a server. Every worker has an instance.

    Every worker shares its hints. The worker that holds the lease takes all hints, sweeps the
    topics of the store, and runs the consumers. Each consumer has its own task and queue, so a slow
    consumer blocks no other consumer. A slow consumer only delays the trimming of the log.

    Args:
        log: the log.
        feed: carries the hints between the workers.
        lease: decides whether this process runs the consumers.
        consumers: the consumers.
        deep: reads events that the log has trimmed, for consumers that were away for long.
        is_shared: True if other processes see the same log; one of them holds the lease.
    """

    def __init__(
        self,
        log: EventLog,
        feed: FeedStore,
        lease: Lease,
        consumers: Sequence[Consumer],
        deep: LogReader | None = None,
        *,
        is_shared: bool = True,
    ) -> None:
        self._feed = feed
        self._is_shared = is_shared
        self._throttle = LogThrottle(60.0)
        self._lease = lease
        self._followers = [Follower(log, each, self._on_taken, deep) for each in consumers]
        self._tasks: list[asyncio.Task[None]] = []
        self._leading: asyncio.Task[None] | None = None
        self._released: dict[str, Cursor] = {}
        # A stop must not overtake hints that a task is moving: to `_drain` they would not exist.
        self._sharing = asyncio.Lock()
        self._taking = asyncio.Lock()

    @property
    def is_leading(self) -> bool:
        """True if this process runs the consumers."""
        return self._leading is not None

    def start(self) -> None:
        """Begin to share hints and to compete for the lease."""
        self._tasks = [
            asyncio.create_task(self._share(), name="consumers' hints"),
            asyncio.create_task(self._keep_lease(), name="consumers' lease"),
        ]

    async def stop(self, drain_seconds: float = 0.0) -> Collection[Consumer]:
        """Stop, and let another process run the consumers.

        Args:
            drain_seconds: seconds that the consumption of this worker's events may take, if this
                process runs the consumers.

        Returns:
            The consumers that have taken all events stored so far.
        """
        drained: Collection[Consumer] = ()
        try:
            if drain_seconds and self._leading is not None:
                with suppress(TimeoutError, Unavailable):
                    drained = await self._drain(drain_seconds)
        finally:
            await _end(*self._tasks)
            self._tasks = []
            await self._stop_leading()
        with suppress(Unavailable, TimeoutError):  # Otherwise the lease expires.
            async with asyncio.timeout(RELEASE_SECONDS):
                await self._lease.release()
        return drained

    async def _drain(self, seconds: float) -> Collection[Consumer]:
        """Wait until all events stored so far are consumed; return the consumers that are done.

        Raises:
            Unavailable: the store cannot be reached.
            TimeoutError: the hints have not come in time.
        """
        async with asyncio.timeout(seconds):
            await self._share_hints()
            while await self._queue_hints():
                pass
        idle = {asyncio.create_task(each.wait_until_idle()): each for each in self._followers}
        try:
            done, _ = await asyncio.wait(idle, timeout=seconds)
        finally:
            await _end(*idle)
        return [idle[task].consumer for task in done]

    # The lease -----------------------------------------------------------------------------

    async def _keep_lease(self) -> None:
        began = asyncio.get_running_loop().time()
        while True:
            with suppress(Unavailable):  # The lease lasts a while after a failed renewal.
                await self._lease.renew()
            if not self._lease.held:
                await self._stop_leading()
                self._warn_of_another(asyncio.get_running_loop().time() - began)
            elif self._leading is None or self._leading.done():
                if self._leading is not None and (error := self._leading.exception()):
                    logger.error("the consumers have failed and begin again", exc_info=error)
                self._leading = asyncio.create_task(self._lead(), name="consumers")
            await asyncio.sleep(LEASE_SECONDS / 5)

    def _warn_of_another(self, seconds: float) -> None:
        # A killed process leaves its lease behind; that lease expires by itself.
        if not self._is_shared and seconds > 2 * LEASE_SECONDS and self._throttle.due("another"):
            logger.warning(
                "another process works with the same database, and what is stored here is neither"
                " archived nor sent: processes with one database share a Redis"
            )

    async def _stop_leading(self) -> None:
        leading, self._leading = self._leading, None
        if leading is not None:
            await _end(leading)

    async def _lead(self) -> None:
        logger.info("this worker runs the consumers")
        async with asyncio.TaskGroup() as group:
            for follower in self._followers:
                group.create_task(follower.run(), name=f"consumer {follower.consumer.name}")
            group.create_task(self._take_hints(), name="consumers' feed")
            group.create_task(self._sweep(), name="consumers' sweep")
            group.create_task(self._release(), name="consumers' release")

    # The feed ------------------------------------------------------------------------------

    async def _share(self) -> None:
        while True:
            await asyncio.sleep(HINT_SECONDS)
            with suppress(Unavailable):
                await self._share_hints()

    async def _share_hints(self) -> None:
        async with self._sharing:
            await self._feed.share()

    async def _take_hints(self) -> None:
        while True:
            count = 0
            with suppress(Unavailable):
                count = await self._queue_hints()
            if count < HINTS_AT_ONCE:
                await asyncio.sleep(HINT_SECONDS)

    async def _queue_hints(self) -> int:
        """Take hints, and queue their topics; return the number of hints."""
        async with self._taking:
            topics = await self._feed.take(HINTS_AT_ONCE)
            for follower in self._followers:
                follower.add(topics)
            return len(topics)

    async def _sweep(self) -> None:
        while True:
            with suppress(Unavailable):  # Then the next sweep finds the topics.
                await self.sweep()
            await asyncio.sleep(SWEEP_SECONDS)

    async def sweep(self) -> None:
        """Queue every topic of the store whose position differs from a consumer's cursor."""
        async for positions in self._feed.positions():
            for follower in self._followers:
                await follower.compare(positions)

    # Trimming ------------------------------------------------------------------------------

    def _on_taken(self, topic: str, cursor: Cursor) -> None:
        """Note the smallest cursor of all consumers in a topic."""
        furthest = [each.position(topic) for each in self._followers if each.consumer.wants(topic)]
        known = [position for position in furthest if position is not None]
        if len(known) == len(furthest) and all(p.epoch == cursor.epoch for p in known):
            self._released[topic] = min(known, key=lambda position: position.seq)

    async def _release(self) -> None:
        """Let the store trim events that all consumers have taken."""
        while True:
            await asyncio.sleep(HINT_SECONDS)
            released, self._released = self._released, {}
            with suppress(Unavailable):  # Then the next batch of the topic releases these events.
                await asyncio.gather(
                    *(
                        self._feed.release(topic, Position(cursor.epoch, cursor.seq))
                        for topic, cursor in released.items()
                    )
                )


async def _end(*tasks: "asyncio.Task[None]") -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
