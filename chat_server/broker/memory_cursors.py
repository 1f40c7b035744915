"""Read cursors of the memory broker."""

import asyncio
from asyncio import Future
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from ..clock import Clock
from ..cursors import Unread
from .common import failed, unavailable
from .topic_log import TopicLog

MAX_CURSORS: Final = 100_000
"""Maximum number of cursors, some 300 bytes each. Beyond it the least recently moved go."""


class MemoryCursors:
    """Keeps `realtime.ports.CursorStore` for one process.

    Args:
        seconds: lifetime of a cursor after it was last moved.
        clock: expires cursors.
        find: returns the log of a topic, or None while the broker is stopped.
    """

    def __init__(
        self, seconds: float, clock: Clock, find: Callable[[str], TopicLog | None]
    ) -> None:
        self._seconds = seconds
        self._clock = clock
        self._find = find
        # By topic and user: when it expires, the epoch and the seq. The first to expire first.
        self._cursors: OrderedDict[tuple[str, str], tuple[float, str, int]] = OrderedDict()

    def move(self, topic: str, user: str, seq: int, epoch: str | None = None) -> "Future[Unread]":
        """Move a user's cursor."""
        log = self._find(topic)
        if log is None:
            return failed(unavailable())
        self._expire()
        cursor = self._cursor(log, topic, user)
        begun_anew = not log.counts(seq, epoch)
        moved = not begun_anew and cursor < seq <= log.seq
        if not begun_anew and 0 < seq <= log.seq:
            cursor = max(cursor, seq)
            expires_at = self._clock.monotonic() + self._seconds
            self._cursors[topic, user] = (expires_at, log.epoch, cursor)
            self._cursors.move_to_end((topic, user))
            if len(self._cursors) > MAX_CURSORS:
                self._cursors.popitem(last=False)
        found = self._unread(log, user, cursor)
        return _resolved(msgspec.structs.replace(found, moved=moved, begun_anew=begun_anew))

    async def unread(self, topics: Sequence[str], user: str) -> list[Unread]:
        """Read what a user has not read."""
        self._expire()
        return [self._read(topic, user) for topic in topics]

    def _read(self, topic: str, user: str) -> Unread:
        log = self._find(topic)
        if log is None:
            raise unavailable()
        found = self._unread(log, user, self._cursor(log, topic, user))
        return msgspec.structs.replace(found, last=log.newest(topic))

    def _unread(self, log: TopicLog, user: str, cursor: int) -> Unread:
        author = b'{"user":%b' % msgspec.json.encode(user)
        count, more = log.count_behind(cursor, author)
        return Unread(cursor, log.seq, count, more)

    def _cursor(self, log: TopicLog, topic: str, user: str) -> int:
        _, epoch, seq = self._cursors.get((topic, user), (0.0, "", 0))
        # Of an earlier epoch the topic has only what the present one took over.
        return seq if epoch == log.epoch else min(seq, log.epoch_start)

    def _expire(self) -> None:
        now = self._clock.monotonic()
        while self._cursors:
            key, (expires_at, *_) = next(iter(self._cursors.items()))
            if expires_at > now:
                return
            del self._cursors[key]


def _resolved(unread: Unread) -> "Future[Unread]":
    future: Future[Unread] = asyncio.get_running_loop().create_future()
    future.set_result(unread)
    return future
