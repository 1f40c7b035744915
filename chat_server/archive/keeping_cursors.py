"""Keeps read cursors across restarts of the memory broker, together with the archived messages."""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol

from sqlalchemy import delete, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite

from ..cursors import KeptCursor
from ..database.database import Database
from ..protocol.errors import Unavailable
from .tables import CURSORS

KEEP_SECONDS: Final = 5.0
"""Seconds between two writes of moved cursors; a crash loses this much."""

ROWS_AT_ONCE: Final = 200

_ROW = CURSORS.c
_VALUES: Final = ("epoch", "seq", "shown", "ends_at")


class KeepableCursors(Protocol):
    """Read cursors in the memory of the process; see `broker.memory_cursors`."""

    def restore(self, kept: Iterable[KeptCursor]) -> None:
        """Add cursors of an earlier process, sorted by expiry, and record changes from now on."""
        ...

    def take_changed(self) -> list[tuple[str, str]]:
        """Return the topics and users of changed cursors, and forget the changes."""
        ...

    def note(self, changed: Iterable[tuple[str, str]]) -> None:
        """Record changes again that could not be written."""
        ...

    def kept(self, topic: str, user: str) -> KeptCursor | None:
        """Return a cursor; None for a cursor that no longer exists."""
        ...


class CursorKeeper:
    """Writes cursors of archived topics into the database.

    Args:
        database: the database.
        cursors: the memory broker's cursors.
        covers: returns True if a topic is archived.
        most: number of cursors to restore, those with the latest expiry.
    """

    def __init__(
        self,
        database: Database,
        cursors: KeepableCursors,
        covers: Callable[[str], bool],
        most: int,
    ) -> None:
        self._database = database
        self._cursors = cursors
        self._covers = covers
        self._most = most
        self._writing: asyncio.Task[None] | None = None

    async def restore(self) -> None:
        """Restore the cursors of the earlier process.

        Raises:
            Unavailable: the database cannot be used.
        """
        now = _now()
        async with self._database.session() as session:
            await session.execute(delete(CURSORS).where(_ROW.ends_at <= now))
            query = select(CURSORS).order_by(_ROW.ends_at.desc()).limit(self._most)
            rows = (await session.execute(query)).all()
        self._cursors.restore(
            KeptCursor(
                *(row.topic, row.user_id, row.epoch, row.seq, row.shown),
                left=(row.ends_at - now) / 1_000,
            )
            for row in reversed(rows)
        )

    def start(self) -> None:
        """Begin to write moved cursors."""
        self._writing = asyncio.create_task(self._keep_writing(), name="archive of cursors")

    async def stop(self) -> None:
        """Write the remaining changes."""
        task, self._writing = self._writing, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
            with suppress(Unavailable):
                await self.write()

    async def write(self) -> None:
        """Write the changes since the last call.

        Raises:
            Unavailable: the database cannot be used; the next call writes the changes.
        """
        changed = self._cursors.take_changed()
        keys = [key for key in changed if self._covers(key[0])]
        for start in range(0, len(keys), ROWS_AT_ONCE):
            try:
                await self._write(keys[start : start + ROWS_AT_ONCE])
            except BaseException:
                self._cursors.note(keys[start:])
                raise

    async def _write(self, keys: Sequence[tuple[str, str]]) -> None:
        found = [self._cursors.kept(*key) for key in keys]
        now = _now()
        rows = [
            {
                "topic": each.topic,
                "user_id": each.user,
                "epoch": each.epoch,
                "seq": each.seq,
                "shown": each.shown,
                "ends_at": now + int(each.left * 1_000),
            }
            for each in found
            if each is not None
        ]
        gone = [key for key, each in zip(keys, found, strict=True) if each is None]
        async with self._database.session() as session:
            if rows:
                await session.execute(self._upsert(rows))
            if gone:
                place = tuple_(_ROW.topic, _ROW.user_id)
                await session.execute(delete(CURSORS).where(place.in_(gone)))

    def _upsert(self, rows: list[dict[str, Any]]) -> Any:
        module = sqlite if self._database.dialect == "sqlite" else postgresql
        statement = module.insert(CURSORS).values(rows)
        new = {name: statement.excluded[name] for name in _VALUES}
        return statement.on_conflict_do_update(index_elements=CURSORS.primary_key, set_=new)

    async def _keep_writing(self) -> None:
        while True:
            await asyncio.sleep(KEEP_SECONDS)
            with suppress(Unavailable):
                await self.write()


def _now() -> int:
    return int(time.time() * 1_000)
