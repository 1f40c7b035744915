"""The feed of a Redis Cluster: hints in one slot, and a scan of every shard's topics."""

from asyncio import Future
from collections.abc import AsyncIterator, Callable, Collection
from functools import partial

from ...events import Position
from ..common import unavailable
from .broker import RedisBroker
from .cluster_presence import Shards


class ClusterFeed:
    """Keeps `realtime.ports.FeedStore` over a Redis Cluster.

    Args:
        submit: calls the shard of a topic, or of a key without braces.
        shards: returns the shards.
        key: the key of the hints.
    """

    def __init__(
        self, submit: Shards, shards: Callable[[], Collection[RedisBroker]], key: str
    ) -> None:
        self._submit = submit
        self._shards = shards
        self._key = key

    async def share(self) -> None:
        """Add the hints of this worker to the set, once the shards have answered."""
        for shard in self._shards():
            touched = shard.feed.take_touched()
            if not touched:
                continue
            try:
                await shard.flushed()
                await self._submit(self._key, partial(_add, touched))
            except BaseException:
                shard.feed.give_back(touched)
                raise

    async def take(self, limit: int) -> list[str]:
        """Remove and return hints of the set."""
        return await self._submit(self._key, lambda home: home.feed.pop(limit))

    async def positions(self) -> AsyncIterator[dict[str, Position]]:
        """Scan every shard; a topic that moves meanwhile may come twice, or with the next sweep."""
        shards = self._shards()
        if not shards:
            raise unavailable()
        for shard in shards:
            async for found in shard.feed.positions():
                yield found

    def release(self, topic: str, position: Position) -> "Future[None]":
        """Let the topic's log be trimmed up to a position."""
        return self._submit(topic, lambda shard: shard.feed.release(topic, position))


def _add(hints: set[str], home: RedisBroker) -> "Future[None]":
    return home.feed.add(hints)
