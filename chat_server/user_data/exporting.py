"""Exports in parts. The request's row has the position after each part."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable
from typing import Final

from sqlalchemy import insert, select

from ..archive import keeping
from ..database.database import Database
from . import requests
from .tables import PARTS

MESSAGES_AT_ONCE: Final = 200
"""Messages of one part: at most 13 MB in memory, with the default `limits.max_message_bytes`."""


async def export(database: Database, user: str, account: bytes, now: Callable[[], int]) -> None:
    """Write the remaining parts of a user's export.

    Each part is committed together with its position. An export therefore continues after a killed
    process, and two concurrent exports write every part once.

    Args:
        database: the database of the archive and the export.
        user: the author of the messages.
        account: the first line of the export.
        now: returns the time.

    Raises:
        Unavailable: the database is down.
    """
    while await _write_part(database, user, account, now()):
        pass


async def _write_part(database: Database, user: str, account: bytes, now: int) -> bool:
    """Write the next part; return True if further parts may follow."""
    async with database.session(read_only=True) as session:
        row = await requests.find(session, user, "export")
    if row is None or row.done_at is not None:
        return False
    found = await keeping.export_page(database, user, row.last_id, MESSAGES_AT_ONCE)
    lines = [message for _, message in found]
    if row.parts == 0:
        lines.insert(0, account)
    text = b"".join(line + b"\n" for line in lines)
    content = await asyncio.to_thread(gzip.compress, text, 6) if lines else b""
    async with database.session() as session:
        now_there = await requests.find(session, user, "export", lock=True)
        if now_there is None or now_there != row:
            return True  # Another job was faster, or the request was replaced.
        if lines:
            part = {"user_id": user, "number": row.parts, "content": content}
            await session.execute(insert(PARTS).values(part))
        last = len(found) < MESSAGES_AT_ONCE
        await requests.change(
            session,
            user,
            "export",
            last_id=found[-1][0] if found else row.last_id,
            parts=row.parts + bool(lines),
            bytes=row.bytes + len(content),
            **({"done_at": now, "due_at": None} if last else {}),
        )
    return not last


async def parts(database: Database, user: str, count: int) -> AsyncIterator[bytes]:
    """Iterate over the parts of an export; end early if the export is deleted meanwhile.

    Raises:
        Unavailable: the database is down.
    """
    for number in range(count):
        query = select(PARTS.c.content).where(PARTS.c.user_id == user, PARTS.c.number == number)
        async with database.session(read_only=True) as session:
            content = (await session.execute(query)).scalar_one_or_none()
        if content is None:
            return
        yield content
