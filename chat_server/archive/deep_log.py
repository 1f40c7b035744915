"""The log with the archive below: the archive continues pages where the store's events end."""

import logging
from collections.abc import Callable

from msgspec.structs import replace

from ..events import READ_BYTES, HistoryPage
from ..logs import LogThrottle
from ..protocol.errors import Unavailable
from ..realtime.ports import LogReader
from .reader import ArchiveReader

logger = logging.getLogger(__name__)


class DeepLog:
    """Implements `realtime.ports.LogReader` over a log and its archive.

    Without the database a page has the store's events only, and says that older messages exist.

    Args:
        log: the log.
        archive: the archive.
        covers: returns True if a topic is archived.
    """

    def __init__(
        self, log: LogReader, archive: ArchiveReader, covers: Callable[[str], bool]
    ) -> None:
        self._log = log
        self._archive = archive
        self._covers = covers
        self._throttle = LogThrottle()

    async def history(
        self,
        topic: str,
        *,
        after: int = 0,
        before: int | None = None,
        limit: int,
        newest: bool = False,
        max_bytes: int = READ_BYTES,
        folded: bool = False,
    ) -> HistoryPage:
        """Read a page; see `realtime.ports.LogReader`."""
        page = await self._log.history(
            topic,
            after=after,
            before=before,
            limit=limit,
            newest=newest,
            max_bytes=max_bytes,
            folded=folded,
        )
        if not limit or not self._covers(topic) or (newest and not folded):
            return page
        try:
            if not folded:
                return await self._with_events(topic, page, after, limit, max_bytes)
            if newest:
                return await self._with_older(topic, page, after, before, limit, max_bytes)
            return await self._behind_older(topic, page, after, before, limit, max_bytes)
        except Unavailable:
            if self._throttle.due("away"):
                logger.warning("history ends where the store does: the archive cannot be read")
            return replace(page, more=True) if folded and newest else page

    async def _with_older(
        self,
        topic: str,
        page: HistoryPage,
        after: int,
        before: int | None,
        limit: int,
        max_bytes: int,
    ) -> HistoryPage:
        """Add older messages of the archive in front of a page of the newest messages."""
        first = page.events[0].seq if page.events else before
        room = limit - len(page.events)
        if page.more or first == 1:
            return page
        size = page.size
        if room <= 0 or size >= max_bytes:
            older = await self._archive.messages(
                topic,
                after=after,
                before=first,
                limit=1,
                newest=True,
                max_bytes=1,
                epoch=page.epoch,
            )
            return replace(page, more=bool(older.events))
        older = await self._archive.messages(
            topic,
            after=after,
            before=first,
            limit=room,
            newest=True,
            max_bytes=max_bytes - size,
            epoch=page.epoch,
        )
        events = older.events
        if page.events and size + sum(len(each.payload) for each in events) > max_bytes:
            # The archive always returns one message, even beyond `max_bytes`; this page has one
            # already.
            return replace(page, more=True)
        return replace(page, events=[*events, *page.events], more=older.more)

    async def _behind_older(
        self,
        topic: str,
        page: HistoryPage,
        after: int,
        before: int | None,
        limit: int,
        max_bytes: int,
    ) -> HistoryPage:
        """Put older messages of the archive in front of a page of the oldest messages."""
        first = page.events[0].seq if page.events else before
        if first == after + 1:
            return page
        older = await self._archive.messages(
            topic, after=after, before=first, limit=limit, max_bytes=max_bytes, epoch=page.epoch
        )
        if not older.events:
            return page
        if older.more:
            return replace(page, events=older.events, more=True)
        events = older.events
        size = sum(len(each.payload) for each in events)
        for event in page.events:
            size += len(event.payload)
            if len(events) == limit or size > max_bytes:
                return replace(page, events=events, more=True)
            events.append(event)
        return replace(page, events=events)

    async def _with_events(
        self, topic: str, page: HistoryPage, after: int, limit: int, max_bytes: int
    ) -> HistoryPage:
        """Fill the gaps of a page of events, if the archive has every missing event."""
        if not page.missing or after < page.epoch_start:
            return page
        found = await self._archive.events(topic, after=after, limit=limit, max_bytes=max_bytes)
        if found is None or not found.whole or found.epoch != page.epoch:
            return page
        events = found.events
        more = found.more
        if not more:
            # The store keeps every event that is not archived yet.
            size = sum(len(each.payload) for each in events)
            for event in page.events:
                if event.seq <= found.seq:
                    continue
                size += len(event.payload)
                if len(events) == limit or size > max_bytes:
                    more = True
                    break
                events.append(event)
            last = events[-1].seq if events else after
            more = more or last < page.seq
        return replace(page, events=events, more=more, missing=0)
