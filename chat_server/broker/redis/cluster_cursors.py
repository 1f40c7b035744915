"""Read cursors in a Redis Cluster: each call goes to the shard that serves the topic."""

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

    def move(self, topic: str, user: str, seq: int) -> "Future[Unread]":
        """Move a user's cursor."""
        return self._submit(topic, lambda shard: shard.cursors.move(topic, user, seq))

    def unread(self, topics: Sequence[str], user: str) -> "list[Future[Unread]]":
        """Read what a user has not read."""
        return [self._one(topic, user) for topic in topics]

    def _one(self, topic: str, user: str) -> "Future[Unread]":
        return self._submit(topic, lambda shard: shard.cursors.unread((topic,), user)[0])
