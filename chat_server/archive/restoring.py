"""Restores the memory broker's topics from the archive after a restart."""

import logging
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol, runtime_checkable

import msgspec
from sqlalchemy import Row, delete, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from ..broker.topic_log import Kept
from ..database.database import Database
from ..events import Position, Retention
from .folding import Message
from .keeping_cursors import KeepableCursors
from .tables import MARKS, MESSAGES, TOPICS

logger = logging.getLogger(__name__)

RESTORED_TOPICS: Final = 1_000
"""Topics whose messages are loaded into memory; the archive serves the other topics."""

RESTORED_MESSAGES: Final = 200
"""Messages loaded for each of these topics."""

_MARK: Final = "memory broker"
_ENDED, _RUNS = "ended", "runs"
_MARKED: Final = select(MARKS.c.value).where(MARKS.c.name == _MARK)


@runtime_checkable
class Restorable(Protocol):
    """A broker that keeps its topics only in the memory of its process."""

    @property
    def cursors(self) -> KeepableCursors:
        """The read cursors of users."""
        ...

    def restore(
        self,
        topic: str,
        position: Position,
        kept: Iterable[Kept],
        retention: Retention,
        *,
        new_epoch: bool,
    ) -> None:
        """Restore a topic at its last position; see `broker.memory`."""
        ...


async def restore(
    database: Database,
    broker: Restorable,
    retention: Callable[[str], Retention],
    *,
    max_topics: int,
) -> None:
    """Restore the archived topics into a new broker.

    After an orderly stop of the last process the epochs continue. After a crash, delivered events
    may be lost, so every topic begins a new epoch at the end of its archive.

    Raises:
        Unavailable: the database cannot be used.
    """
    async with database.session() as session:
        ended = (await session.scalar(_MARKED)) == _ENDED
        await _note(session, _RUNS)
        query = select(TOPICS).order_by(TOPICS.c.at.desc()).limit(max_topics)
        topics = (await session.execute(query)).all()
    kept = {
        row.name: await _newest(database, row, min(RESTORED_MESSAGES, retention(row.name).size))
        for row in topics[:RESTORED_TOPICS]
    }
    # The least recently used topic first, in the order of the broker's eviction.
    for row in reversed(topics):
        broker.restore(
            row.name,
            Position(row.epoch, row.seq),
            kept.get(row.name, ()),
            retention(row.name),
            new_epoch=not ended,
        )
    if topics:
        logger.info("%d topics go on where they were", len(topics))


async def note_end(database: Database) -> None:
    """Note an orderly end of the process with a complete archive.

    Raises:
        Unavailable: the database cannot be used.
    """
    async with database.session() as session:
        await _note(session, _ENDED)


async def _note(session: AsyncSession, value: str) -> None:
    await session.execute(delete(MARKS).where(MARKS.c.name == _MARK))
    await session.execute(insert(MARKS).values(name=_MARK, value=value))


async def _newest(database: Database, row: Row[Any], count: int) -> list[Kept]:
    """Return a topic's newest messages, ascending."""
    query = (
        select(MESSAGES)
        .where(MESSAGES.c.topic_id == row.id, MESSAGES.c.era == row.era)
        .order_by(MESSAGES.c.seq.desc())
        .limit(count)
    )
    async with database.session(read_only=True) as session:
        found = (await session.execute(query)).all()
    return [_kept(Message.of_row(each)) for each in reversed(found)]


def _kept(message: Message) -> Kept:
    changed = message.content and message.version != message.seq
    return Kept(
        message.seq,
        message.payload,
        message.content,
        message.state_of() if changed else None,
        {
            emoji: (count, [msgspec.json.encode(user) for user in users])
            for emoji, (count, users) in message.reacting().items()
        },
    )
