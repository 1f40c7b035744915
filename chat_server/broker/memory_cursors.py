"""Read cursors of the memory broker."""

import asyncio
from asyncio import Future
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Sequence
from heapq import nlargest, nsmallest
from typing import Final

import msgspec

from ..clock import Clock
from ..cursors import KEPT_READERS, MAX_READERS, KeptCursor, Reader, Unread
from .common import failed, unavailable
from .topic_log import TopicLog

MAX_CURSORS: Final = 100_000
"""Maximum number of cursors, some 300 bytes each. Beyond it the least recently moved ones go."""


SPARE_READERS: Final = KEPT_READERS // 8
"""Number of readers above the bound before some are dropped: to choose them costs a look at all."""


class MemoryCursors:
    """Keeps `realtime.ports.CursorStore` for one process.

    Args:
        seconds: lifetime of a cursor after its last move.
        clock: the clock of expiry.
        find: returns the log of a topic, or None while the broker is stopped.
    """

    def __init__(
        self, seconds: float, clock: Clock, find: Callable[[str], TopicLog | None]
    ) -> None:
        self._seconds = seconds
        self._clock = clock
        self._find = find
        # Expiry, epoch and seq by topic and user. The first to expire comes first.
        self._cursors: OrderedDict[tuple[str, str], tuple[float, str, int]] = OrderedDict()
        # Users with a visible cursor, by topic.
        self._readers: dict[str, set[str]] = {}
        # Topics and users of changed cursors; None unless cursors are also kept elsewhere.
        self._changed: dict[tuple[str, str], None] | None = None

    def move(
        self, topic: str, user: str, seq: int, epoch: str | None = None, *, shown: bool = False
    ) -> "Future[Unread]":
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
            self._note(topic, user)
            if shown:
                self._show(log, topic, user)
            if len(self._cursors) > MAX_CURSORS:
                self._drop(*next(iter(self._cursors)))
        found = self._unread(log, user, cursor)
        return _resolved(msgspec.structs.replace(found, moved=moved, begun_anew=begun_anew))

    async def unread(
        self, topics: Sequence[str], user: str, shown: Collection[str] = ()
    ) -> list[Unread]:
        """Read a user's unread state."""
        self._expire()
        return [self._read(topic, user, topic in shown) for topic in topics]

    async def forget(self, user: str) -> None:
        """Delete all cursors of a user."""
        for topic, other in [key for key in self._cursors if key[1] == user]:
            self._drop(topic, other)

    # Over a restart -----------------------------------------------------------------------------

    def restore(self, kept: Iterable[KeptCursor]) -> None:
        """Take cursors of an earlier process, the first to end first, and begin to note changes."""
        now = self._clock.monotonic()
        for each in kept:
            # A shorter `position_seconds` also holds for these cursors.
            ends_at = now + min(each.left, self._seconds)
            self._cursors[each.topic, each.user] = (ends_at, each.epoch, each.seq)
            if each.shown:
                self._readers.setdefault(each.topic, set()).add(each.user)
        self._changed = {}

    def take_changed(self) -> list[tuple[str, str]]:
        """Return the topics and users of cursors changed since the last call."""
        if self._changed is None:
            return []
        changed, self._changed = list(self._changed), {}
        return changed

    def note(self, changed: Iterable[tuple[str, str]]) -> None:
        """Note cursors again that could not be written."""
        for topic, user in changed:
            self._note(topic, user)

    def kept(self, topic: str, user: str) -> KeptCursor | None:
        """Return a cursor, or None if the cursor has expired."""
        if (topic, user) not in self._cursors:
            return None
        ends_at, epoch, seq = self._cursors[topic, user]
        left = ends_at - self._clock.monotonic()
        return KeptCursor(topic, user, epoch, seq, user in self._readers.get(topic, ()), left)

    def _note(self, topic: str, user: str) -> None:
        if self._changed is not None:
            self._changed[topic, user] = None
            if len(self._changed) > 2 * MAX_CURSORS:
                del self._changed[next(iter(self._changed))]

    # --------------------------------------------------------------------------------------------

    def purge(self, topic: str) -> None:
        """Forget the readers of a topic's deleted events."""
        for user in self._readers.pop(topic, ()):
            self._note(topic, user)

    def _read(self, topic: str, user: str, shown: bool) -> Unread:
        log = self._find(topic)
        if log is None:
            raise unavailable()
        found = self._unread(log, user, self._cursor(log, topic, user))
        readers = self._others(log, topic, user) if shown else None
        return msgspec.structs.replace(found, last=log.newest(topic), readers=readers)

    def _others(self, log: TopicLog, topic: str, user: str) -> tuple[Reader, ...]:
        """Return the other users who have read furthest."""
        places = ((self._cursor(log, topic, one), one) for one in self._readers.get(topic, ()))
        others = (place for place in places if place[0] and place[1] != user)
        return tuple(Reader(one, seq) for seq, one in nlargest(MAX_READERS, others))

    def _show(self, log: TopicLog, topic: str, user: str) -> None:
        readers = self._readers.setdefault(topic, set())
        readers.add(user)
        more = len(readers) - KEPT_READERS
        if more > SPARE_READERS:
            places = [(self._cursor(log, topic, one), one) for one in readers]
            readers.difference_update(one for _, one in nsmallest(more, places))

    def _drop(self, topic: str, user: str) -> None:
        del self._cursors[topic, user]
        self._note(topic, user)
        readers = self._readers.get(topic)
        if readers is not None:
            readers.discard(user)
            if not readers:
                del self._readers[topic]

    def _unread(self, log: TopicLog, user: str, cursor: int) -> Unread:
        author = b'{"user":%b' % msgspec.json.encode(user)
        count, more = log.count_behind(cursor, author)
        return Unread(cursor, log.seq, count, more)

    def _cursor(self, log: TopicLog, topic: str, user: str) -> int:
        _, epoch, seq = self._cursors.get((topic, user), (0.0, "", 0))
        # Of an earlier epoch only the events before the present epoch's start still count.
        return seq if epoch == log.epoch else min(seq, log.epoch_start)

    def _expire(self) -> None:
        now = self._clock.monotonic()
        while self._cursors:
            key, (expires_at, *_) = next(iter(self._cursors.items()))
            if expires_at > now:
                return
            self._drop(*key)


def _resolved(unread: Unread) -> "Future[Unread]":
    future: Future[Unread] = asyncio.get_running_loop().create_future()
    future.set_result(unread)
    return future
