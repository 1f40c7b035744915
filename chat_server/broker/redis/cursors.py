"""Read cursors in Redis: calls of the script, and the decoding of its replies."""

import math
from asyncio import Future
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import msgspec

from ...cursors import Unread
from ...settings import BrokerSettings
from ..common import failed, unavailable
from .members import decode_message
from .pipeline import Pipeline, Script
from .storage import Keyspace

UNREAD: Final = Script("topic", "unread")


class RedisCursors:
    """Keeps `realtime.ports.CursorStore` over one Redis server.

    Args:
        pipeline: what publications go by, so that what was published before is counted.
        names: names of keys.
        settings: how long a cursor is kept.
        reaches: returns whether the server that has a topic is believed to be reachable.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        names: Keyspace,
        settings: BrokerSettings,
        reaches: Callable[[str], bool],
    ) -> None:
        self._pipeline = pipeline
        self._names = names
        self._kept_ms = math.ceil(settings.position_seconds * 1_000)
        self._reaches = reaches

    def move(self, topic: str, user: str, seq: int) -> "Future[Unread]":
        """Move a user's cursor, in one script."""
        return self._call(topic, user, seq, newest=False)

    def unread(self, topics: Sequence[str], user: str) -> "list[Future[Unread]]":
        """Read what a user has not read; all topics leave in one pipeline."""
        return [self._call(topic, user, "", newest=True) for topic in topics]

    def _call(self, topic: str, user: str, seq: int | str, *, newest: bool) -> "Future[Unread]":
        if not self._reaches(topic):
            return failed(unavailable())
        keys = self._names.keys(topic)
        return self._pipeline.call(
            UNREAD,
            (*keys[:5], keys.of_reader(user)),
            (msgspec.json.encode(user), seq, self._kept_ms, int(newest)),
            partial(_unread, topic),
        )


def _unread(topic: str, reply: Any) -> Unread:
    cursor, seq, count, more, moved, epoch, newest = reply
    last = None if newest is None else decode_message(topic, epoch.decode(), newest)
    return Unread(cursor, seq, count, more == 1, moved == 1, last)
