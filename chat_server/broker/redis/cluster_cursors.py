"""Read cursors in a Redis Cluster: each call goes to the topic's shard."""

import asyncio
from asyncio import Future
from collections.abc import Callable, Collection, Sequence

from ...cursors import Unread
from ..common import unavailable
from .broker import RedisBroker
from .cluster_presence import Shards


class ClusterCursors:
    """Keeps `realtime.ports.CursorStore` over a Redis Cluster.

    Args:
        submit: calls the shard of a topic.
        shards: returns the shards.
    """

    def __init__(self, submit: Shards, shards: Callable[[], Collection[RedisBroker]]) -> None:
        self._submit = submit
        self._shards = shards

    def move(
        self, topic: str, user: str, seq: int, epoch: str | None = None, *, shown: bool = False
    ) -> "Future[Unread]":
        """Move a user's cursor."""
        return self._submit(
            topic, lambda shard: shard.cursors.move(topic, user, seq, epoch, shown=shown)
        )

    async def unread(
        self, topics: Sequence[str], user: str, shown: Collection[str] = ()
    ) -> list[Unread]:
        """Read a user's unread state."""
        reads = (self._read(each, user, shown) for each in topics)
        return [each[0] for each in await asyncio.gather(*reads)]

    async def forget(self, user: str) -> None:
        """Scan every shard; a cursor of a topic that moves meanwhile may stay until its expiry."""
        shards = self._shards()
        if not shards:
            raise unavailable()
        for shard in shards:
            await shard.cursors.forget(user)

    def _read(self, topic: str, user: str, shown: Collection[str]) -> "Future[list[Unread]]":
        return self._submit(topic, lambda shard: shard.cursors.read((topic,), user, shown))
