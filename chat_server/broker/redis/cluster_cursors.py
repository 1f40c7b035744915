"""Read cursors in a Redis Cluster: each call goes to the shard that serves the topic."""

import asyncio
from asyncio import Future
from collections.abc import Sequence

from ...cursors import Unread
from .cluster_presence import Shards


class ClusterCursors:
    """Keeps `realtime.ports.CursorStore` over a Redis Cluster.

    Args:
        submit: calls the shard that serves a topic.
    """

    def __init__(self, submit: Shards) -> None:
        self._submit = submit

    def move(self, topic: str, user: str, seq: int, epoch: str | None = None) -> "Future[Unread]":
        """Move a user's cursor."""
        return self._submit(topic, lambda shard: shard.cursors.move(topic, user, seq, epoch))

    async def unread(self, topics: Sequence[str], user: str) -> list[Unread]:
        """Read what a user has not read."""
        return [
            each[0] for each in await asyncio.gather(*(self._read(each, user) for each in topics))
        ]

    def _read(self, topic: str, user: str) -> "Future[list[Unread]]":
        return self._submit(topic, lambda shard: shard.cursors.read((topic,), user))
