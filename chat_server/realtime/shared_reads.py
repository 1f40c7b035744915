"""Reads missed events, once for all subscribers that ask in the same moment."""

import asyncio
from asyncio import Future
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from copy import copy
from operator import attrgetter
from typing import Any

import msgspec
from msgspec import Struct

from ..events import HistoryPage, Position
from .ports import LogReader

REPLAY_CHUNK = 100
"""Events per read for one subscriber, held in memory beside the subscriber's buffer."""

REPLAY_BYTES = 262_144
"""Bytes per read for one subscriber. Redis needs a millisecond for 256 KiB, and all other clients
of Redis wait meanwhile."""

MAX_SPREAD = REPLAY_CHUNK
"""Maximum distance in seqs of the positions that share a read. The read takes as many more events,
so that the furthest position gets as many events as from its own read."""

KEEP_SECONDS = 5.0
"""Seconds for which the newest page of a topic is kept, for clients that come back one by one."""

MAX_KEPT_BYTES = 8_388_608
"""Payload bytes of all kept pages. Their packets take the same again for each encoder."""

_Waiting = dict[int, list["Future[HistoryPage]"]]
"""Futures that wait for a page, by the seq before the page."""

_seq = attrgetter("seq")
_payload = attrgetter("payload")


class SharedPage(HistoryPage, frozen=True):
    """A page for several subscribers; its packets are made once.

    Args:
        total: sum of the payload bytes.
        prepared: the pushes and packets of `Topic.replay`, which live as long as the page.
    """

    total: int = 0
    prepared: dict[Any, Any] = msgspec.field(default_factory=dict)

    @property
    def size(self) -> int:
        """Sum of the payload bytes on this page."""
        return self.total


class PagesAfter:
    """The result of one read, as a page for each covered position.

    Args:
        page: the stored events, read with `after=after`.
        page: the events as they were, read with `after=after`.
        after: the seq before the page.
    """

    def __init__(self, page: HistoryPage, after: int) -> None:
        self._page = page
        self._after = after
        self._pages: dict[int, SharedPage] = {}

    def get(self, seq: int) -> HistoryPage | None:
        """Return the page that a read with `after=seq` would have returned at the same moment.

        Returns:
            None if the next event after `seq` is not on the page. The same seq returns the same
            object.
        """
        if seq in self._pages:
            return self._pages[seq]
        page, events = self._page, self._page.events
        more, missing, at = page.more, page.missing, 0
        if seq >= page.seq:
            more, missing, at = False, 0, len(events)
        elif seq != self._after:
            at = bisect_right(events, seq, key=_seq)
            # Seqs up to `seq` without an event on the page are missing for other positions only.
            missing = max(0, missing - (seq - self._after - at))
        events = events[at:]
        if seq < self._after or (more and not events):
            return None
        total = sum(map(len, map(_payload, events)))
        found = self._pages[seq] = SharedPage(
            page.epoch, page.seq, events, more, page.epoch_start, missing, False, total
        )
        return found


class _Kept(Struct):
    """The newest events of a topic, read with `after=after`.

    Args:
        page: ends with the last event of the log.
        after: the seq before the page.
        bytes: sum of the payload bytes.
        since: loop time of the read.
        pages: the pages by position; None until the first use.
    """

    page: HistoryPage
    after: int
    bytes: int
    since: float
    pages: PagesAfter | None

    def is_at(self, position: Position | None) -> bool:
        """Return whether the page ends at a position."""
        return position == Position(self.page.epoch, self.page.seq)

    def is_current(self, page: HistoryPage) -> bool:
        """Return whether the log is unchanged.

        Args:
            page: read with `after` one less than the last seq of the kept page.
        """
        last = self.page.events[-1:]
        return self.is_at(Position(page.epoch, page.seq)) and page.events == last

    def cut(self) -> PagesAfter:
        """Return the pages by position."""
        if self.pages is None:
            self.pages = PagesAfter(self.page, self.after)
        return self.pages


class SharedReads:
    """Pages of logs for subscribers that catch up.

    One round of reads of a topic is under way at a time. Later subscribers wait for the next round,
    because the store may have made the answers of the present round already. So an answer is never
    older than its question. A round has one read for all positions that are near each other
    (docs/design/delivery.md).

    The newest page of a topic is kept for a while. If a read of the last event shows that no event
    has come since, the kept page answers again.

    No subscriber waits for the socket of another, and a cancelled reader takes nothing from the
    others. Each topic has one task and at most one waiting reader for each subscription.

    Args:
        log: the log to read.
        position_of: returns the worker's position in a topic; None if the position is uncertain.
    """

    def __init__(self, log: LogReader, position_of: Callable[[str], Position | None]) -> None:
        self._log = log
        self._position_of = position_of
        # Readers whose read has not begun, by topic; an entry lives as long as the topic's task.
        self._waiting: dict[str, _Waiting] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        # Kept pages by topic, the oldest first, and the sum of their bytes.
        self._kept: dict[str, _Kept] = {}
        self._kept_bytes = 0
        self._sweep: asyncio.TimerHandle | None = None

    def read(self, topic: str, after: int) -> "Future[HistoryPage]":
        """Read the events of a topic after a seq, at least `REPLAY_CHUNK` if the log has so many.

        Returns:
            A future of the page; fails with `Unavailable` if the store does not answer.
        """
        loop = asyncio.get_running_loop()
        waiting = self._waiting.get(topic)
        if waiting is None:
            waiting = self._waiting[topic] = {}
            # The task begins in the next turn of the loop: all readers of this turn share a read.
            task = loop.create_task(self._run(topic))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        page: Future[HistoryPage] = loop.create_future()
        waiting.setdefault(after, []).append(page)
        return page

    async def stop(self) -> None:
        """End all reads, and cancel the waiting readers."""
        if self._sweep is not None:
            self._sweep.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for waiting in self._waiting.values():  # A task may have ended before it began.
            _cancel(waiting)
        self._waiting.clear()

    def keep(
        self, topic: str, page: HistoryPage, after: int, pages: PagesAfter | None = None
    ) -> None:
        """Keep a page for the next readers, if the page has the last event of the topic.

        Args:
            topic: the topic.
            page: read with `after=after`.
            after: the seq before the page.
            pages: the page by positions, if already made.
        """
        if not page.events or page.events[-1].seq != page.seq:
            return
        loop = asyncio.get_running_loop()
        if (known := self._kept.pop(topic, None)) is not None:
            self._kept_bytes -= known.bytes
        size = sum(map(len, map(_payload, page.events)))
        self._kept[topic] = _Kept(page, after, size, loop.time(), pages)
        self._kept_bytes += size
        if self._kept_bytes > MAX_KEPT_BYTES:
            self._forget(lambda kept: self._kept_bytes > MAX_KEPT_BYTES)
        if self._sweep is None:
            self._sweep = loop.call_later(KEEP_SECONDS, self._forget_old)

    def _forget(self, is_due: Callable[[_Kept], bool]) -> None:
        """Forget due pages, the oldest first, up to the first page that is not due."""
        for topic, kept in list(self._kept.items()):
            if not is_due(kept):
                return
            del self._kept[topic]
            self._kept_bytes -= kept.bytes

    def _forget_old(self) -> None:
        loop = asyncio.get_running_loop()
        oldest = loop.time() - KEEP_SECONDS
        self._forget(lambda kept: kept.since <= oldest)
        self._sweep = loop.call_later(KEEP_SECONDS, self._forget_old) if self._kept else None

    async def _run(self, topic: str) -> None:
        waiting: _Waiting = {}
        try:
            while waiting := self._waiting[topic]:
                self._waiting[topic] = {}
                kept = self._kept.get(topic)
                if kept is not None and kept.is_at(self._position_of(topic)):
                    await self._serve_again(topic, kept, waiting)
                elif len(waiting) == 1:
                    await self._serve(topic, waiting)
                else:
                    await self._serve_each(topic, _groups(waiting))
        except BaseException:
            _cancel(waiting)
            _cancel(self._waiting[topic])
            raise
        finally:
            del self._waiting[topic]

    async def _serve_each(self, topic: str, groups: Iterable[_Waiting]) -> None:
        await asyncio.gather(*(self._serve(topic, group) for group in groups))

    async def _serve_again(self, topic: str, kept: _Kept, waiting: _Waiting) -> None:
        """Serve readers from the kept page, and readers of earlier positions by reads."""
        again = {seq: readers for seq, readers in waiting.items() if seq >= kept.after}
        further = {seq: readers for seq, readers in waiting.items() if seq < kept.after}
        await asyncio.gather(
            self._serve_kept(topic, kept, again), self._serve_each(topic, _groups(further))
        )

    async def _serve_kept(self, topic: str, kept: _Kept, waiting: _Waiting) -> None:
        if not waiting:
            return
        after = kept.page.seq - 1
        try:
            newest = await self._log.history(
                topic, after=after, limit=REPLAY_CHUNK, max_bytes=REPLAY_BYTES
            )
        except Exception as error:
            _fail(waiting, error)
            return
        pages = kept.cut() if kept.is_current(newest) else PagesAfter(newest, after)
        await self._serve_each(topic, _groups(_resolve(waiting, pages)))

    async def _serve(self, topic: str, waiting: _Waiting) -> None:
        """Serve readers of near positions by one read, and readers beyond its page by one each."""
        lowest, highest = min(waiting), max(waiting)
        limit = REPLAY_CHUNK + highest - lowest
        try:
            page = await self._log.history(topic, after=lowest, limit=limit, max_bytes=REPLAY_BYTES)
        except Exception as error:
            _fail(waiting, error)
            return
        if len(waiting) == len(waiting[lowest]) == 1:
            self.keep(topic, page, lowest)
            for reader in waiting[lowest]:
                if not reader.done():
                    reader.set_result(page)
            return
        pages = PagesAfter(page, lowest)
        self.keep(topic, page, lowest, pages)
        if beyond := _resolve(waiting, pages):
            await self._serve_each(topic, ({seq: beyond[seq]} for seq in beyond))


def _resolve(waiting: _Waiting, pages: PagesAfter) -> _Waiting:
    """Give readers their pages, and return the readers whose next event is on none."""
    beyond: _Waiting = {}
    for seq, readers in waiting.items():
        page = pages.get(seq)
        if page is None:
            beyond[seq] = readers
            continue
        for reader in readers:
            if not reader.done():
                reader.set_result(page)
    return beyond


def _groups(waiting: _Waiting) -> Iterator[_Waiting]:
    """Yield the waiting readers in groups; one read can serve the positions of a group."""
    group: _Waiting = {}
    for seq in sorted(waiting):
        if group and seq - min(group) > MAX_SPREAD:
            yield group
            group = {}
        group[seq] = waiting[seq]
    if group:
        yield group


def _fail(waiting: _Waiting, error: Exception) -> None:
    for readers in waiting.values():
        for reader in readers:
            if not reader.done():
                # Each reader gets a copy, because the receiver adds its topic and command to the
                # error.
                reader.set_exception(copy(error))


def _cancel(waiting: _Waiting) -> None:
    """Cancel the readers that have no page yet."""
    for readers in waiting.values():
        for reader in readers:
            reader.cancel()


async def read_newest(
    log: LogReader, topic: str, limit: int, *, folded: bool = False
) -> HistoryPage:
    """Read the newest events, or messages, as far as they fit on one page."""
    return await log.history(topic, limit=limit, newest=True, max_bytes=REPLAY_BYTES, folded=folded)
