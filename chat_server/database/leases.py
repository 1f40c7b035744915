"""Leases: exclusive work of one process at a time, and the present holder."""

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
    """The holder of a lease; `beat` counts the renewals."""

    __tablename__ = "chat_leases"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    holder: Mapped[str] = mapped_column(String(255))
    beat: Mapped[int] = mapped_column(BigInteger)


LEASES = cast(Table, LeaseRow.__table__)


class Sessions(Protocol):
    """A source of sessions: a `Database`, or an application's own engine."""

    def session(self, *, read_only: bool = False) -> AbstractAsyncContextManager[AsyncSession]:
        """Return a session for one unit of work: a transaction that is committed at the end."""
        ...


class Lease:
    """One process's claim to a lease.

    The processes compare no clocks. A claimant watches the holder's beats, and takes the lease
    after `seconds` by its own clock without a beat. The holder trusts its lease for two thirds of
    that time after the start of its last successful renewal. A process that was frozen in between
    may continue for a moment: other means must refuse its writes.

    Args:
        database: the database of the lease.
        name: the name of the work.
        holder: the name of this process, unique among all processes.
        seconds: seconds for which a dead holder keeps the lease.
        table: the table of leases, by default the server's own.
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
        # The last beat seen of another holder, and its time.
        self._seen: tuple[str, int] | None = None
        self._seen_at = 0.0

    @property
    def held(self) -> bool:
        """True if this process may do the work."""
        return _now() < self._held_until

    async def renew(self) -> bool:
        """Renew the lease, or take a free lease; call this several times in `seconds`.

        Raises:
            Unavailable: the database cannot be used; the lease may still be held.
        """
        now = _now()
        try:
            async with self._database.session() as session:
                taken = await self._claim(session, now)
        except IntegrityError:
            taken = False  # Another process has inserted the lease first.
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
        """Let another process take the lease at once, if this process holds the lease.

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
