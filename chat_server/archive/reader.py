"""Reads the archive: messages with their changes, and the original events."""

import math
from collections import namedtuple
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

from msgspec import Struct
from sqlalchemy import RowMapping, Select, bindparam, func, literal, select, union_all
from sqlalchemy.ext.asyncio import AsyncSession

from ..database.database import Database
from ..events import MAX_SEQ, Event, Kind
from .folding import Message, parse
from .tables import CHANGES, ERAS, MESSAGES, TOPICS

ROWS_AT_ONCE: Final = 64
"""Rows read at once: bounds the excess over the byte limit."""


class Found(Struct):
    """Messages or events of the archive, ascending.

    Args:
        events: the messages or events.
        more: True if a limit left some out.
    """

    events: list[Event]
    more: bool = False


class Stretch(Struct):
    """Consecutive events without a gap.

    Args:
        epoch: the epoch of the last archived event.
        seq: the seq of the last archived event.
        events: the events, from the first on.
        more: True if a limit left some out.
        whole: True if the archive has every event up to `seq`.
    """

    epoch: str
    seq: int
    events: list[Event]
    more: bool
    whole: bool


class _Range(NamedTuple):
    """The valid seqs of an era: `low < seq <= high`."""

    era: int
    low: int
    high: float


class ArchiveReader:
    """Reads the rows of the writer.

    Args:
        database: the database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def messages(
        self,
        topic: str,
        *,
        after: int = 0,
        before: int | None = None,
        limit: int,
        newest: bool = False,
        max_bytes: int,
        epoch: str = "",
    ) -> Found:
        """Read messages with `after < seq < before`, with their changes applied.

        Args:
            topic: the topic.
            after: the seq in front of the messages.
            before: the seq behind the messages; None for no bound.
            limit: number of messages at most.
            newest: True returns the newest messages rather than the oldest; ascending either way.
            max_bytes: payload bytes at most; the first message is always returned.
            epoch: the epoch of the returned events.

        Raises:
            Unavailable: the database cannot be used.
        """
        filling = _Filling(topic, epoch, limit, max_bytes)
        if limit < ROWS_AT_ONCE:
            # Usually one query is enough: the page lies in the topic's last era.
            end = MAX_SEQ if before is None else before
            asked = {"topic": topic, "after": after, "before": end, "limit": limit + 1}
            rows = await self._database.run(
                lambda connection: connection.execute(_PAGES[newest], asked).all(), read_only=True
            )
            if len(rows) > limit:
                return filling.fill(map(_Stored._make, rows), newest)
        async with self._database.session(read_only=True) as session:
            row = await _topic(session, topic)
            if row is not None:
                ranges = await _ranges(session, row, after, before)
                async for each in _rows(session, row["id"], ranges, newest, limit + 1):
                    if not filling.add(each):
                        break
        return filling.done(newest)

    async def events(self, topic: str, *, after: int, limit: int, max_bytes: int) -> Stretch | None:
        """Read the original events behind a seq; return None if the seq is not of the current era.

        Raises:
            Unavailable: the database cannot be used.
        """
        async with self._database.session(read_only=True) as session:
            row = await _topic(session, topic)
            if row is None or not row["base"] <= after <= row["seq"]:
                return None
            whole = await _count(session, row, after) == row["seq"] - after
            stretch = Stretch(row["epoch"], row["seq"], [], more=False, whole=whole)
            if not whole:
                return stretch
            size, last = 0, after
            while True:
                count = min(ROWS_AT_ONCE, limit + 1 - len(stretch.events))
                rows = (await session.execute(_events(row, last, count))).all()
                for seq, kind, payload in rows:
                    size += len(payload)
                    if len(stretch.events) == limit or (stretch.events and size > max_bytes):
                        stretch.more = True
                        return stretch
                    event = Event(topic, row["epoch"], seq, Kind(kind), payload)
                    stretch.events.append(event)
                    last = seq
                if len(rows) < count:
                    return stretch


class _Filling:
    """A page under construction: messages with their changes, up to the limits."""

    def __init__(self, topic: str, epoch: str, limit: int, max_bytes: int) -> None:
        self._topic = topic
        self._epoch = epoch
        self._limit = limit
        self._max_bytes = max_bytes
        self._size = 0
        self._found = Found([])

    def add(self, row: Any) -> bool:
        """Add a message, and return True if the message fits."""
        if parse(row.payload) is None:
            return True  # Not written by the server.
        payload = Message.of_row(row).folded()
        events = self._found.events
        self._size += len(payload)
        if len(events) == self._limit or (events and self._size > self._max_bytes):
            self._found.more = True
            return False
        events.append(Event(self._topic, self._epoch, row.seq, Kind.MESSAGE, payload))
        return True

    def fill(self, rows: Iterable[Any], newest: bool) -> Found:
        """Add messages up to the limits, and return the page."""
        for row in rows:
            if not self.add(row):
                break
        return self.done(newest)

    def done(self, newest: bool) -> Found:
        """Return the page, ascending."""
        if newest:
            self._found.events.reverse()
        return self._found


def _page(*, newest: bool) -> Select[Any]:
    """Return the query for messages of a topic's last era, if no earlier era overlaps."""
    columns = MESSAGES.c
    alone = (TOPICS.c.era == 0) | (TOPICS.c.base <= bindparam("after"))
    return (
        select(MESSAGES)
        .join(TOPICS, (TOPICS.c.id == columns.topic_id) & (TOPICS.c.era == columns.era))
        .where(
            TOPICS.c.name == bindparam("topic"),
            columns.seq > bindparam("after"),
            columns.seq < bindparam("before"),
            literal(True) if newest else alone,
        )
        .order_by(columns.seq.desc() if newest else columns.seq)
        .limit(bindparam("limit"))
    )


_PAGES: Final = {newest: _page(newest=newest) for newest in (True, False)}
_columns = tuple(column.name for column in MESSAGES.c)
_Stored: Any = namedtuple("_Stored", _columns)  # type: ignore[misc]


async def _topic(session: AsyncSession, name: str) -> RowMapping | None:
    found = await session.execute(select(TOPICS).where(TOPICS.c.name == name))
    return found.mappings().one_or_none()


async def _ranges(
    session: AsyncSession, topic: RowMapping, after: int, before: int | None
) -> list[_Range]:
    """Return the valid seqs of each era, ascending."""
    last = math.inf if before is None else before - 1
    if topic["era"] == 0:
        return [_Range(0, after, last)]
    eras = await session.execute(
        select(ERAS.c.era, ERAS.c.base)
        .where(ERAS.c.topic_id == topic["id"])
        .order_by(ERAS.c.era.desc())
    )
    ranges = []
    for era, base in eras:
        low = max(after, base)
        if low < last:
            ranges.append(_Range(era, low, last))
        last = min(last, base)
    return ranges[::-1]


async def _rows(
    session: AsyncSession, topic: int, ranges: list[_Range], newest: bool, limit: int
) -> Any:
    """Yield rows of messages, the newest first or the oldest first."""
    for era, first, last in reversed(ranges) if newest else ranges:
        low, high = first, last
        while limit > 0:
            count = min(ROWS_AT_ONCE, limit)
            query = select(MESSAGES).where(
                MESSAGES.c.topic_id == topic, MESSAGES.c.era == era, MESSAGES.c.seq > low
            )
            if high != math.inf:
                query = query.where(MESSAGES.c.seq <= int(high))
            order = MESSAGES.c.seq.desc() if newest else MESSAGES.c.seq
            rows = (await session.execute(query.order_by(order).limit(count))).all()
            for row in rows:
                yield row
            limit -= len(rows)
            if len(rows) < count:
                break
            if newest:
                high = rows[-1].seq - 1
            else:
                low = rows[-1].seq


def _both(topic: RowMapping, after: int) -> Iterator[Select[Any]]:
    for table in (MESSAGES, CHANGES):
        kind = literal(Kind.MESSAGE.value) if table is MESSAGES else table.c.kind
        yield select(table.c.seq, kind.label("kind"), table.c.payload).where(
            table.c.topic_id == topic["id"], table.c.era == topic["era"], table.c.seq > after
        )


def _events(topic: RowMapping, after: int, limit: int) -> Select[Any]:
    # Each part has its own limit: otherwise SQLite would read both tables completely.
    parts = [
        select(each.order_by(each.selected_columns.seq).limit(limit).subquery())
        for each in _both(topic, after)
    ]
    merged = union_all(*parts).subquery()
    return select(merged).order_by(merged.c.seq).limit(limit)


async def _count(session: AsyncSession, topic: RowMapping, after: int) -> int:
    count = 0
    for table in (MESSAGES, CHANGES):
        query = select(func.count()).where(
            table.c.topic_id == topic["id"],
            table.c.era == topic["era"],
            table.c.seq > after,
            table.c.seq <= topic["seq"],
        )
        count += await session.scalar(query) or 0
    return count
