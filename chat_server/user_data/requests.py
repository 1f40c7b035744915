"""Requests in the database; a request stays until its completion, even if a process is killed."""

from contextlib import suppress
from typing import Any, Final, Literal

from sqlalchemy import Row, delete, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from ..database.database import Database
from .tables import PARTS, REQUESTS

Kind = Literal["export", "account", "messages"]
"""An export; the erasure of an account with its messages; the erasure of messages alone."""

MOST_DUE: Final = 100
"""Requests returned by one query; a later query returns the rest."""

_ROW = REQUESTS.c


async def add(
    database: Database, user: str, kind: Kind, now: int, *, again_before: int = 0
) -> None:
    """Add a request, unless the request exists.

    Args:
        database: the database.
        user: the user whose data is requested.
        kind: the kind of the request.
        now: the time.
        again_before: a request completed before this time is replaced.

    Raises:
        Unavailable: the database is down.
    """
    values = {"user_id": user, "kind": kind, "requested_at": now, "due_at": now}
    # Another process may add the request at the same time.
    with suppress(IntegrityError):
        async with database.session() as session:
            row = await find(session, user, kind, lock=True)
            if row is not None:
                if row.done_at is None or row.done_at >= again_before:
                    return
                await remove(session, user, kind)
            new = insert(REQUESTS).values(**values, last_id=0, parts=0, bytes=0)
            await session.execute(new)


async def find(
    session: AsyncSession, user: str, kind: Kind, *, lock: bool = False
) -> Row[Any] | None:
    """Return a request; None if there is no such request."""
    query = select(REQUESTS).where(_ROW.user_id == user, _ROW.kind == kind)
    return (await session.execute(query.with_for_update() if lock else query)).one_or_none()


async def change(session: AsyncSession, user: str, kind: Kind, **values: Any) -> None:
    """Change columns of a request."""
    where = (_ROW.user_id == user, _ROW.kind == kind)
    await session.execute(update(REQUESTS).where(*where).values(**values))


async def remove(session: AsyncSession, user: str, kind: Kind) -> None:
    """Remove a request, and the parts of its export."""
    await session.execute(delete(REQUESTS).where(_ROW.user_id == user, _ROW.kind == kind))
    if kind == "export":
        await session.execute(delete(PARTS).where(PARTS.c.user_id == user))


async def due(database: Database, now: int) -> list[tuple[str, Kind]]:
    """Return the users and kinds of due requests.

    Raises:
        Unavailable: the database is down.
    """
    query = select(_ROW.user_id, _ROW.kind).where(_ROW.due_at <= now).order_by(_ROW.due_at)
    async with database.session(read_only=True) as session:
        return [(row[0], row[1]) for row in await session.execute(query.limit(MOST_DUE))]


async def forget_exports(database: Database, before: int) -> None:
    """Delete exports completed before a time.

    Raises:
        Unavailable: the database is down.
    """
    old = select(_ROW.user_id).where(_ROW.kind == "export", _ROW.done_at < before).limit(MOST_DUE)
    async with database.session(read_only=True) as session:
        users = list(await session.scalars(old))
    for user in users:
        async with database.session() as session:
            row = await find(session, user, "export", lock=True)
            if row is not None and row.done_at is not None and row.done_at < before:
                await remove(session, user, "export")
