"""Leases: a work that only one process may do, and who does it."""

import time
from contextlib import AbstractAsyncContextManager
from typing import Protocol, cast

from sqlalchemy import BigInteger, String, Table, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from .base import Base

_now = time.monotonic


class LeaseRow(Base):
    """Who holds a lease; `beat` counts the renewals."""

    __tablename__ = "chat_leases"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    holder: Mapped[str] = mapped_column(String(255))
    beat: Mapped[int] = mapped_column(BigInteger)


LEASES = cast(Table, LeaseRow.__table__)


class Sessions(Protocol):
    """What gives sessions: a `Database`, or an application's own engine."""

    def session(self, *, read_only: bool = False) -> AbstractAsyncContextManager[AsyncSession]:
        """Return a session for one unit of work: a transaction that is committed at the end."""
        ...


class Lease:
    """One process's claim to a lease.

    No clocks are compared. Whoever wants the lease watches the holder's beats, and takes it once
    none has come for `seconds` by its own clock. The holder believes in its lease for two thirds of
    that time after the beginning of its last successful renewal. A process that was frozen in
    between may go on for a moment: what it writes must be refused by other means.

    Args:
        database: where the lease is kept.
        name: what the work is called.
        holder: what this process is called; no other may have the same name.
        seconds: how long a dead holder keeps the lease.
        table: the table of leases, if it is another than the server's own.
    """

    def __init__(
        self, database: Sessions, name: str, holder: str, seconds: float, table: Table = LEASES
    ) -> None:
        self._database = database
        self._name = name
        self._holder = holder
        self._seconds = seconds
        self._table = table
        self._held_until = 0.0
        # The last beat of another's that was seen, and when.
        self._seen: tuple[str, int] | None = None
        self._seen_at = 0.0

    @property
    def held(self) -> bool:
        """Whether this process may do the work."""
        return _now() < self._held_until

    async def renew(self) -> bool:
        """Renew the lease, or take it if nobody does; call it several times in `seconds`.

        Raises:
            Unavailable: the database cannot be used; the lease may still be held.
        """
        now = _now()
        try:
            async with self._database.session() as session:
                taken = await self._claim(session, now)
        except IntegrityError:
            taken = False  # Another was first to name the lease.
        self._held_until = now + self._seconds * 2 / 3 if taken else 0.0
        return self.held

    async def _claim(self, session: AsyncSession, now: float) -> bool:
        row = self._table.c
        query = select(row.holder, row.beat).where(row.name == self._name).with_for_update()
        found = (await session.execute(query)).one_or_none()
        if found is None:
            values = {"name": self._name, "holder": self._holder, "beat": 1}
            await session.execute(insert(self._table).values(values))
            return True
        seen = (found.holder, found.beat)
        if found.holder not in (self._holder, "") and not self._is_dead(seen, now):
            return False
        await session.execute(
            update(self._table)
            .where(row.name == self._name)
            .values(holder=self._holder, beat=found.beat + 1)
        )
        return True

    def _is_dead(self, seen: tuple[str, int], now: float) -> bool:
        if seen != self._seen:
            self._seen, self._seen_at = seen, now
        return now - self._seen_at >= self._seconds

    async def release(self) -> None:
        """Let another take the lease at once, if this process holds it.

        Raises:
            Unavailable: the database cannot be used.
        """
        if not self.held:
            return
        self._held_until = 0.0
        row = self._table.c
        async with self._database.session() as session:
            await session.execute(
                update(self._table)
                .where(row.name == self._name, row.holder == self._holder)
                .values(holder="", beat=row.beat + 1)
            )
