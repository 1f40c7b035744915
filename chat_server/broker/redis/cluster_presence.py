"""Presence in a Redis Cluster: each call goes to the topic's shard."""

from asyncio import Future
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

from ...presence import PAGE_BYTES, Attendance, Attended, PresencePage
from .broker import RedisBroker

T = TypeVar("T")


class Shards(Protocol):
    """Finds the shard of a topic."""

    def __call__(self, topic: str, call: Callable[[RedisBroker], "Future[T]"]) -> "Future[T]":
        """Call the topic's shard."""
        ...


class ClusterPresence:
    """Keeps `realtime.ports.PresenceStore` over a Redis Cluster.

    Args:
        submit: calls the shard of a topic.
        spawn: runs a coroutine in a task of the broker's.
    """

    def __init__(
        self,
        submit: Shards,
        spawn: "Callable[[Coroutine[Any, Any, PresencePage], str], Future[PresencePage]]",
    ) -> None:
        self._submit = submit
        self._spawn = spawn

    def write(self, attendance: Attendance) -> "Future[Attended]":
        """Write a worker's users, and renew its lease."""
        return self._submit(attendance.topic, lambda shard: shard.presence.write(attendance))

    def settle(self, topic: str) -> "Future[Attended]":
        """Remove the users whose time to leave has come."""
        return self._submit(topic, lambda shard: shard.presence.settle(topic))

    def end(self, topic: str, lease: str, *, dead: bool) -> "Future[bool]":
        """Remove users of a lease."""
        return self._submit(topic, lambda shard: shard.presence.end(topic, lease, dead=dead))

    async def page(
        self, topic: str, *, after: str = "", limit: int, max_bytes: int = PAGE_BYTES
    ) -> PresencePage:
        """Read the users in a topic."""

        def call(shard: RedisBroker) -> "Future[PresencePage]":
            reading = shard.presence.page(topic, after=after, limit=limit, max_bytes=max_bytes)
            return self._spawn(reading, "redis presence")

        return await self._submit(topic, call)
