"""Read cursors in Redis: calls of the script, and the decoding of its replies."""

import asyncio
import math
from asyncio import Future
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, TypeVar

import msgspec

from ...cursors import Unread
from ...settings import BrokerSettings
from ..common import failed, unavailable
from .members import decode_message
from .pipeline import Pipeline, Script
from .storage import Keyspace

T = TypeVar("T")

UNREAD: Final = Script("topic", "unread")

AT_ONCE: Final = 25
"""Topics that a script reads at once: a call costs as much as what it reads of a topic or two."""


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

    def move(self, topic: str, user: str, seq: int, epoch: str | None = None) -> "Future[Unread]":
        """Move a user's cursor, in one script."""
        return self._call((topic,), user, seq, partial(_first, topic), epoch or "")

    async def unread(self, topics: Sequence[str], user: str) -> list[Unread]:
        """Read what a user has not read; all topics leave in one pipeline."""
        found: dict[str, Unread] = {}
        left = list(topics)
        while left:
            chunks = [left[start : start + AT_ONCE] for start in range(0, len(left), AT_ONCE)]
            for chunk, answers in zip(
                chunks,
                await asyncio.gather(*(self.read(each, user) for each in chunks)),
                strict=True,
            ):
                found.update(zip(chunk, answers, strict=False))
            # A script that has read much leaves topics for the next one.
            left = [topic for topic in left if topic not in found]
        return [found[topic] for topic in topics]

    def read(self, topics: Sequence[str], user: str) -> "Future[list[Unread]]":
        """Read what a user has not read in topics of one hash slot, or of a server without slots.

        Args:
            topics: at most `AT_ONCE`.
            user: the reader.

        Returns:
            A future of what was found in the first of the topics, or in all.
        """
        return self._call(topics, user, "", partial(_all, topics))

    def _call(
        self,
        topics: Sequence[str],
        user: str,
        seq: int | str,
        decode: Callable[[Any], T],
        epoch: str = "",
    ) -> "Future[T]":
        if not all(map(self._reaches, topics)):
            return failed(unavailable())
        keys = [key for topic in topics for key in self._names.cursor_keys(topic, user)]
        newest = int(seq == "")
        arguments = (msgspec.json.encode(user), seq, self._kept_ms, newest, epoch)
        return self._pipeline.call(UNREAD, keys, arguments, decode)


def _all(topics: Sequence[str], replies: list[Any]) -> list[Unread]:
    return [_unread(topic, reply) for topic, reply in zip(topics, replies, strict=False)]


def _first(topic: str, replies: list[Any]) -> Unread:
    return _unread(topic, replies[0])


def _unread(topic: str, reply: Any) -> Unread:
    cursor, seq, count, more, moved, epoch, newest = reply
    last = None if newest is None else decode_message(topic, epoch.decode(), newest)
    return Unread(cursor, seq, count, more == 1, moved == 1, moved == 2, last)
