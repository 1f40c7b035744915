"""Reads the events that follow a cursor, and detects events that the log has lost."""

from typing import Final

import msgspec
from msgspec import Struct

from ..events import Event, HistoryPage
from ..realtime.ports import EventLog, LogReader
from .ports import Batch, Cursor

BATCH_EVENTS: Final = 1_000
"""Events of a topic read at once."""

BATCH_BYTES: Final = 524_288
"""Payload bytes of a topic read at once, unless the first event alone is larger."""


class _Dated(Struct):
    at: int = 0


_date = msgspec.json.Decoder(_Dated).decode


def at_of(event: Event) -> int:
    """Return the time of an event in milliseconds since 1970; 0 if the event has no time."""
    try:
        return _date(event.payload).at
    except msgspec.DecodeError:  # written by another program
        return 0


async def read_batch(
    log: EventLog, topic: str, cursor: Cursor | None, deep: LogReader | None = None
) -> Batch:
    """Read the events that follow a cursor.

    Args:
        log: the log.
        topic: the topic.
        cursor: the consumer's cursor; None reads from the oldest event of the log.
        deep: reads events behind a cursor that the log has trimmed.

    Raises:
        Unavailable: the store cannot be reached.
    """
    if cursor is None:
        page = await _read(log, topic, 0)
        # Events trimmed before the first consumer existed are no gap.
        start = page.events[0].seq - 1 if page.events else page.seq
        return _batch(topic, None, page, page.events, start)
    reader = deep or log
    # The page begins with the last event taken, to verify that this event is still the same.
    page = await _read(reader, topic, max(cursor.seq - 1, 0))
    if page.epoch == cursor.epoch and _has_diverged(page, cursor):
        # Subscribers detect this divergence too (realtime.hub), but the topic may have no
        # subscribers.
        await log.begin_epoch(topic, page.epoch)
        page = await _read(reader, topic, max(cursor.seq - 1, 0))
    if page.epoch != cursor.epoch and page.epoch_start < cursor.seq:
        page = await _read(log, topic, page.epoch_start)
        return _batch(topic, cursor, page, page.events, page.epoch_start, goes_back=True)
    news = [event for event in page.events if event.seq > cursor.seq]
    return _batch(topic, cursor, page, news, cursor.seq)


async def _read(log: LogReader, topic: str, after: int) -> HistoryPage:
    return await log.history(topic, after=after, limit=BATCH_EVENTS + 1, max_bytes=BATCH_BYTES)


def _has_diverged(page: HistoryPage, cursor: Cursor) -> bool:
    if page.seq < cursor.seq:
        return True
    first = page.events[0] if page.events else None
    return bool(first and cursor.at and first.seq == cursor.seq and at_of(first) != cursor.at)


def _batch(
    topic: str,
    before: Cursor | None,
    page: HistoryPage,
    events: list[Event],
    start: int,
    *,
    goes_back: bool = False,
) -> Batch:
    """Return a batch with its gaps and its new cursor.

    Args:
        topic: the topic.
        before: the cursor.
        page: the page that was read.
        events: the new events of the page.
        start: the seq in front of the first event expected.
        goes_back: see `Batch`.
    """
    gaps = []
    last = start
    for event in events:
        if event.seq > last + 1:
            gaps.append((last + 1, event.seq - 1))
        last = event.seq
    if not page.more and last < page.seq:
        gaps.append((last + 1, page.seq))
        last = page.seq
    at = at_of(events[-1]) if events and events[-1].seq == last else 0
    if before is not None and not events and last == before.seq:
        at = before.at
    after = Cursor(page.epoch, last, at)
    return Batch(topic, before, after, events, gaps, page.epoch_start, goes_back, page.more)
