"""Keeps the orders of a server without Redis in its database, so that a restart keeps them."""

import asyncio
from asyncio import Future
from collections.abc import Sequence
from typing import Final

from sqlalchemy import BigInteger, Column, LargeBinary, String, Table, bindparam, delete, insert
from sqlalchemy import select as select_columns

from ..clock import Clock
from ..database.base import Base
from ..database.database import Database
from ..orders import PAGE_ORDERS, Entry, Mark, OrderStore, Page

NAME_LENGTH: Final = 300
"""Characters of the longest name: a list and a target."""

ORDERS: Final = Table(
    "chat_orders",
    Base.metadata,
    Column("name", String(NAME_LENGTH), primary_key=True),
    Column("until", BigInteger, nullable=False),
    Column("value", LargeBinary, nullable=False),
)

_DELETE = delete(ORDERS).where(ORDERS.c.name == bindparam("gone"))
_OVER = delete(ORDERS).where(ORDERS.c.until <= bindparam("now"))
_ALL = select_columns(ORDERS.c.name, ORDERS.c.until, ORDERS.c.value).order_by(ORDERS.c.name)

ONCE: Final = "once "
"""The prefix of orders that are carried out once. They need not survive the only process."""


class _NoRoom(Exception):
    """The store of this process has no room for more orders."""


class KeptOrders:
    """An `orders.OrderStore` for one process and its successors.

    Args:
        store: the store in this process's memory.
        database: keeps the denials between processes.
        clock: tells expired orders.
    """

    is_shared = False

    def __init__(self, store: OrderStore, database: Database, clock: Clock) -> None:
        self._store = store
        self._database = database
        self._clock = clock
        self._loaded = False
        self._lock = asyncio.Lock()

    def put(self, entries: Sequence[Entry], *, missing: bool = False) -> "Future[Mark | None]":
        """Store entries, first in the database, then in memory."""
        return asyncio.ensure_future(self._put(entries, missing))

    def read(self, after: int, node: str) -> "Future[Page]":
        """Read the entries behind a number, the first time including those of earlier processes."""
        if self._loaded:
            return self._store.read(after, node)
        return asyncio.ensure_future(self._read(after, node))

    def leave(self, node: str) -> "Future[None]":
        """Forget an ending worker."""
        return self._store.leave(node)

    async def _put(self, entries: Sequence[Entry], missing: bool) -> Mark | None:
        async with self._lock:
            await self._load()
            lasting = [entry for entry in entries if not entry.name.startswith(ONCE)]
            if missing or not lasting:
                return await self._store.put(entries, missing=missing)
            rows = [_row(entry) for entry in lasting if entry.value]
            try:
                async with self._database.session() as session:
                    await session.execute(_OVER, {"now": int(self._clock.time() * 1_000)})
                    await session.execute(_DELETE, [{"gone": entry.name} for entry in lasting])
                    if rows:
                        await session.execute(insert(ORDERS), rows)
                    mark = await self._store.put(entries)
                    if mark is None:
                        raise _NoRoom
            except _NoRoom:
                return None  # The session has rolled the database back.
            return mark

    async def _read(self, after: int, node: str) -> Page:
        async with self._lock:
            await self._load()
        return await self._store.read(after, node)

    async def _load(self) -> None:
        if self._loaded:
            return
        async with self._database.session() as session:
            await session.execute(_OVER, {"now": int(self._clock.time() * 1_000)})
            found = [Entry(*row) for row in await session.execute(_ALL)]
        for begin in range(0, len(found), PAGE_ORDERS):
            await self._store.put(found[begin : begin + PAGE_ORDERS])
        self._loaded = True


def _row(entry: Entry) -> dict[str, object]:
    return {"name": entry.name, "until": entry.until, "value": entry.value}
