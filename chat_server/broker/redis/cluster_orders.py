"""Orders of operators in a Redis Cluster, all in one slot."""

from asyncio import Future
from collections.abc import Sequence

from ...orders import Entry, Mark, Page
from .cluster_presence import Shards
from .orders import HOME


class ClusterOrders:
    """Keeps `orders.OrderStore` over a Redis Cluster.

    Args:
        submit: calls the shard of a topic, or of a hash tag.
    """

    is_shared = True

    def __init__(self, submit: Shards) -> None:
        self._submit = submit

    def put(self, entries: Sequence[Entry], *, missing: bool = False) -> "Future[Mark | None]":
        """Store entries."""
        return self._submit(HOME, lambda shard: shard.orders.put(entries, missing=missing))

    def read(self, after: int, node: str) -> "Future[Page]":
        """Read the entries after a number."""
        return self._submit(HOME, lambda shard: shard.orders.read(after, node))

    def leave(self, node: str) -> "Future[None]":
        """Forget a worker."""
        return self._submit(HOME, lambda shard: shard.orders.leave(node))
