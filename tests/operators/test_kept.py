"""Without Redis the orders that last are in the database, for the next process."""

import time

import pytest

from chat_server.broker import memory_orders
from chat_server.broker.memory_orders import MemoryOrders
from chat_server.clock import SystemClock
from chat_server.database.database import Database
from chat_server.operators.kept import KeptOrders
from chat_server.orders import Entry
from chat_server.protocol.errors import Unavailable
from chat_server.settings import DatabaseSettings


def process(database: Database) -> KeptOrders:
    """Return the orders of a process that has just begun."""
    return KeptOrders(MemoryOrders(SystemClock(), lambda: True), database, SystemClock())


def entry(name: str, value: bytes = b"{}", seconds: float = 60.0) -> Entry:
    return Entry(name, int((time.time() + seconds) * 1_000), value)


async def names(orders: KeptOrders) -> list[str]:
    return [each.name for each in (await orders.read(0, "here")).entries]


async def test_what_lasts_is_there_after_a_restart(database: Database) -> None:
    first = process(database)
    await first.put([entry("users ada"), entry("users bob"), entry("once 1")])
    await first.put([entry("users ada", b"")])
    await first.put([entry("users eve", seconds=-1)])
    assert await names(first) == ["users bob", "once 1", "users ada", "users eve"]
    second = process(database)
    assert await names(second) == ["users bob"]
    # Given before anything was read: what was there before is not lost.
    third = process(database)
    await third.put([entry("users bob", b"2")])
    assert await names(third) == ["users bob"]
    [kept] = (await process(database).read(0, "here")).entries
    assert kept.value == b"2"


async def test_what_has_no_room_is_not_kept(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_orders, "MAX_ORDERS", 1)
    orders = process(database)
    assert await orders.put([entry("users ada")]) is not None
    assert await orders.put([entry("users bob")]) is None
    assert await names(process(database)) == ["users ada"]


async def test_a_database_that_is_away_takes_no_order(database_settings: DatabaseSettings) -> None:
    orders = process(Database(database_settings))
    with pytest.raises(Unavailable):
        await orders.put([entry("users ada")])
    with pytest.raises(Unavailable):
        await orders.read(0, "here")
