"""Leases: one holder at a time, another one after its death, and none in doubt."""

import asyncio

import pytest

from chat_server.database.database import Database
from chat_server.database.leases import Lease

SECONDS = 30.0


class Time:
    """What the leases take for the clock of the loop."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Time:
    time = Time()
    monkeypatch.setattr("chat_server.database.leases._now", time.time)
    return time


async def test_one_of_many_gets_the_lease_and_keeps_it(database: Database) -> None:
    leases = [Lease(database, "work", f"node-{number}", SECONDS) for number in range(4)]
    first = await asyncio.gather(*(lease.renew() for lease in leases))
    assert sum(first) == 1
    again = await asyncio.gather(*(lease.renew() for lease in leases))
    assert again == first
    assert [lease.held for lease in leases] == first
    assert await Lease(database, "other work", "node-1", SECONDS).renew()


async def test_the_lease_of_the_dead_is_taken_once_no_beat_came_for_long(
    database: Database, clock: Time
) -> None:
    dead, heir = (Lease(database, "work", name, SECONDS) for name in ("dead", "heir"))
    assert await dead.renew()
    assert not await heir.renew()
    clock.now += SECONDS / 2
    assert await dead.renew()
    clock.now += SECONDS / 2
    assert not await heir.renew(), "there was a beat that it had not seen"
    clock.now += SECONDS * 0.99
    assert not await heir.renew()
    assert not dead.held, "it must not believe in it for as long as others wait"
    clock.now += SECONDS * 0.02
    assert await heir.renew()
    assert not await dead.renew()
    assert heir.held


async def test_a_lease_that_is_let_go_is_taken_at_once(database: Database) -> None:
    first, second = (Lease(database, "work", name, SECONDS) for name in ("first", "second"))
    assert await first.renew()
    assert not await second.renew()
    await second.release()
    assert not await second.renew(), "only the holder can let it go"
    await first.release()
    assert not first.held
    assert await second.renew()
