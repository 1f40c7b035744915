"""Deletes the archive of a topic whose history is purged."""

import asyncio
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Table,
    and_,
    delete,
    insert,
    or_,
    select,
    tuple_,
    update,
)

from ..database.database import Database
from ..events import Position
from .tables import CHANGES, ERAS, MESSAGES, TOPICS

ROWS_AT_ONCE: Final = 500
"""Rows of one transaction: other writers of SQLite wait for a transaction."""


async def purge(database: Database, topic: str, place: Position, *, create: bool) -> None:
    """Delete a topic's events up to a position, and changes of them.

    First the writer's cursor moves to this position. A batch that was read earlier is then
    `Outdated`, so the writer cannot restore deleted events.

    Args:
        database: the database.
        topic: the topic.
        place: the position after the purge, in the epoch that began there.
        create: True if the topic is archived: a topic without a row then gets a row with its
            cursor.

    Raises:
        Unavailable: the database cannot be used; a part may be deleted.
    """
    found = await database.run(lambda connection: _move(connection, topic, place, create))
    if found is None:
        return
    row, era = found
    for table, key in (
        (MESSAGES, [MESSAGES.c.id]),
        (CHANGES, [CHANGES.c.topic_id, CHANGES.c.era, CHANGES.c.seq]),
    ):
        said = and_(table.c.topic_id == row, or_(table.c.era < era, table.c.seq <= place.seq))
        await _delete(database, table, key, said)


def _move(
    connection: Connection, topic: str, place: Position, create: bool
) -> tuple[int, int] | None:
    """Move a topic's cursor to a position or behind; return the topic's row and era."""
    query = select(TOPICS).where(TOPICS.c.name == topic).with_for_update()
    row = connection.execute(query).one_or_none()
    values: dict[str, Any] = {"epoch": place.epoch, "seq": place.seq, "at": 0}
    if row is None:
        if create:
            values |= {"name": topic, "era": 0, "base": place.seq}
            made = connection.execute(insert(TOPICS).values(values).returning(TOPICS.c.id))
            eras = {"topic_id": made.scalar_one(), "era": 0, "base": place.seq}
            connection.execute(insert(ERAS).values(eras))
        return None
    era: int = row.era
    if row.epoch != place.epoch:
        if row.seq > place.seq:
            # The store had lost archived events, so their seqs are used again.
            era += 1
            values |= {"era": era, "base": place.seq}
            eras = {"topic_id": row.id, "era": era, "base": place.seq}
            connection.execute(insert(ERAS).values(eras))
        connection.execute(update(TOPICS).where(TOPICS.c.id == row.id).values(values))
    return row.id, era


async def _delete(
    database: Database, table: Table, key: list[Any], where: ColumnElement[bool]
) -> None:
    while True:
        async with database.session() as session:
            some = select(*key).where(where).limit(ROWS_AT_ONCE)
            result: Any = await session.execute(delete(table).where(tuple_(*key).in_(some)))
        if result.rowcount < ROWS_AT_ONCE:
            return
        await asyncio.sleep(0)
