"""Deletes and exports: messages past their retention, and messages of one user."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import msgspec
from msgspec import Struct
from sqlalchemy import ColumnElement, Row, Select, delete, func, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession

from ..database.database import Database
from ..events import Kind
from .folding import Message, parse
from .tables import CHANGES, MESSAGES, TOPICS

ROWS_AT_ONCE: Final = 500
"""Rows of one transaction: other writers of SQLite wait for a transaction."""

_reactions = msgspec.json.Decoder(list[tuple[str, int, list[str]]]).decode


async def expire(database: Database, lifetime: Callable[[str], float], now: float) -> int:
    """Delete messages past the retention of their namespace, and return their number.

    Args:
        database: the database.
        lifetime: returns the retention of a topic in seconds; 0 keeps messages for ever.
        now: seconds since 1970.

    Raises:
        Unavailable: the database cannot be used.
    """
    deleted = 0
    async for topic in _pages(database, select(TOPICS), TOPICS.c.id):
        seconds = lifetime(topic.name)
        if seconds:
            deleted += await _expire_topic(database, topic.id, int((now - seconds) * 1_000))
    return deleted


async def _expire_topic(database: Database, topic: int, before: int) -> int:
    """Delete a topic's messages from before a time, with their changes."""
    old = (
        select(MESSAGES.c.id, MESSAGES.c.era, MESSAGES.c.seq, MESSAGES.c.at)
        .where(MESSAGES.c.topic_id == topic)
        .order_by(MESSAGES.c.era, MESSAGES.c.seq)
        .limit(ROWS_AT_ONCE)
    )
    deleted = 0
    while True:
        async with database.session() as session:
            found = (await session.execute(old)).all()
            # The rows are ordered by time, up to the accuracy of the store's clocks.
            gone = [row for row in found if row.at < before]
            if gone:
                await session.execute(delete(MESSAGES).where(MESSAGES.c.id.in_(r.id for r in gone)))
                # The last row of each era: seqs of a later era may be smaller.
                for era, seq in {row.era: row.seq for row in gone}.items():
                    await session.execute(
                        delete(CHANGES).where(
                            CHANGES.c.topic_id == topic,
                            CHANGES.c.era <= era,
                            CHANGES.c.target <= seq,
                        )
                    )
            deleted += len(gone)
        if len(gone) < ROWS_AT_ONCE:
            return deleted
        await asyncio.sleep(0)


async def export(database: Database, user: str) -> AsyncIterator[bytes]:
    """Iterate over a user's messages with their changes, the oldest first, as JSON objects.

    Raises:
        Unavailable: the database cannot be used.
    """
    query = select(MESSAGES).where(MESSAGES.c.author == user)
    async for row in _pages(database, query, MESSAGES.c.id):
        yield Message.of_row(row).folded()


async def export_page(
    database: Database, user: str, after: int, limit: int
) -> list[tuple[int, bytes]]:
    """Return messages of a user behind a row, as `export` does, with the ids of their rows.

    Raises:
        Unavailable: the database cannot be used.
    """
    query = select(MESSAGES).where(MESSAGES.c.author == user, MESSAGES.c.id > after)
    async with database.session(read_only=True) as session:
        rows = (await session.execute(query.order_by(MESSAGES.c.id).limit(limit))).all()
    return [(row.id, Message.of_row(row).folded()) for row in rows]


class Erased(Struct):
    """Number of erased messages, changes and reactions of a user."""

    messages: int = 0
    changes: int = 0
    reactions: int = 0


async def erase(database: Database, user: str) -> Erased:
    """Erase a user's messages with their changes, and the user's changes of other messages.

    The remaining changes are applied to the messages of other users again. The tables keep nothing
    of the user. A resume across the erased events gets a gap `expired`.

    Raises:
        Unavailable: the database cannot be used.
    """
    erased = Erased()
    mine = select(MESSAGES).where(MESSAGES.c.author == user)
    async for rows in _chunks(database, mine, MESSAGES.c.id):
        async with database.session() as session:
            for row in rows:
                where = await _changes_of(session, row)
                result: Any = await session.execute(delete(CHANGES).where(*where))
                erased.changes += result.rowcount
            await session.execute(delete(MESSAGES).where(MESSAGES.c.id.in_(r.id for r in rows)))
        erased.messages += len(rows)
    await _erase_reactions(database, user, erased)
    await _erase_changes(database, user, erased)
    return erased


async def erase_message(database: Database, topic: str, seq: int) -> int:
    """Erase one message with its changes, and return the number of deleted rows.

    If several messages have this seq, because the topic has begun anew, the newest is erased. The
    store is not touched.

    Args:
        database: the database.
        topic: the topic's name.
        seq: the seq of the message.

    Raises:
        Unavailable: the database cannot be used.
    """
    newest = (
        select(MESSAGES)
        .join(TOPICS, TOPICS.c.id == MESSAGES.c.topic_id)
        .where(TOPICS.c.name == topic, MESSAGES.c.seq == seq)
        .order_by(MESSAGES.c.era.desc())
        .limit(1)
    )
    async with database.session() as session:
        row = (await session.execute(newest)).one_or_none()
        if row is None:
            return 0
        where = await _changes_of(session, row)
        changes: Any = await session.execute(delete(CHANGES).where(*where))
        await session.execute(delete(MESSAGES).where(MESSAGES.c.id == row.id))
        return 1 + int(changes.rowcount)


async def _changes_of(session: AsyncSession, message: Row[Any]) -> list[ColumnElement[bool]]:
    """Return conditions for the changes of exactly this message, if others have the same seq."""
    topic, seq = message.topic_id, message.seq
    where = [CHANGES.c.topic_id == topic, CHANGES.c.target == seq, CHANGES.c.era >= message.era]
    later = select(func.min(MESSAGES.c.era)).where(
        MESSAGES.c.topic_id == topic, MESSAGES.c.seq == seq, MESSAGES.c.era > message.era
    )
    until = (await session.execute(later)).scalar_one()
    return where if until is None else [*where, CHANGES.c.era < until]


async def _erase_reactions(database: Database, user: str, erased: Erased) -> None:
    query = select(MESSAGES.c.id, MESSAGES.c.reactions).where(MESSAGES.c.reactions.is_not(None))
    async for rows in _chunks(database, query, MESSAGES.c.id):
        async with database.session() as session:
            for row in rows:
                listed = _reactions(row.reactions)
                left = [
                    (emoji, count - users.count(user), [each for each in users if each != user])
                    for emoji, count, users in listed
                ]
                gone = sum(users.count(user) for _, _, users in listed)
                if gone:
                    kept = [each for each in left if each[1] > 0]
                    values = {"reactions": msgspec.json.encode(kept) if kept else None}
                    where = MESSAGES.c.id == row.id
                    await session.execute(update(MESSAGES).where(where).values(values))
                erased.reactions += gone


async def _erase_changes(database: Database, user: str, erased: Erased) -> None:
    key = tuple_(CHANGES.c.topic_id, CHANGES.c.era, CHANGES.c.seq)
    last: tuple[int, int, int] = (0, -1, -1)
    while True:
        async with database.session() as session:
            order = (CHANGES.c.topic_id, CHANGES.c.era, CHANGES.c.seq)
            query = select(CHANGES).where(key > last).order_by(*order).limit(ROWS_AT_ONCE)
            rows = (await session.execute(query)).all()
            written: dict[tuple[int, int], int] = {}
            for row in rows:
                parsed = parse(row.payload)
                if parsed is not None and parsed.user == user:
                    if row.kind in (Kind.EDITED, Kind.APPENDED):
                        written[row.topic_id, row.target] = row.era
                    where = (
                        CHANGES.c.topic_id == row.topic_id,
                        CHANGES.c.era == row.era,
                        CHANGES.c.seq == row.seq,
                    )
                    await session.execute(delete(CHANGES).where(*where))
                    erased.changes += 1
            for (topic, target), era in written.items():
                await _fold_again(session, topic, target, era)
        if len(rows) < ROWS_AT_ONCE:
            return
        last = (rows[-1].topic_id, rows[-1].era, rows[-1].seq)


async def _fold_again(session: AsyncSession, topic: int, target: int, era: int) -> None:
    """Apply the remaining edits and appends to a message again."""
    query = (
        select(MESSAGES)
        .where(MESSAGES.c.topic_id == topic, MESSAGES.c.seq == target, MESSAGES.c.era <= era)
        .order_by(MESSAGES.c.era.desc())
        .limit(1)
    )
    row = (await session.execute(query)).one_or_none()
    parsed = None if row is None else parse(row.payload)
    if row is None or parsed is None or row.content == 0:
        return
    message = Message(row.seq, row.payload, parsed)
    where = [*await _changes_of(session, row), CHANGES.c.kind.in_((Kind.EDITED, Kind.APPENDED))]
    left = select(CHANGES).where(*where).order_by(CHANGES.c.era, CHANGES.c.seq)
    for change in (await session.execute(left)).all():
        what = parse(change.payload)
        if what is not None:
            message.change(Kind(change.kind), change.seq, what)
    message.finish()
    values = {name: getattr(message, name) for name in ("data", "text", "edited_at", "state")}
    await session.execute(update(MESSAGES).where(MESSAGES.c.id == row.id).values(values))


async def _pages(database: Database, query: Select[Any], key: Any) -> AsyncIterator[Row[Any]]:
    async for rows in _chunks(database, query, key):
        for row in rows:
            yield row


async def _chunks(
    database: Database, query: Select[Any], key: Any
) -> AsyncIterator[list[Row[Any]]]:
    """Iterate over rows in the order of a key, in chunks, each in its own transaction."""
    last = 0
    while True:
        page = query.where(key > last).order_by(key).limit(ROWS_AT_ONCE)
        async with database.session(read_only=True) as session:
            rows = list((await session.execute(page)).all())
        if rows:
            yield rows
        if len(rows) < ROWS_AT_ONCE:
            return
        last = rows[-1].id
