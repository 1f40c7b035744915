"""What a worker writes of its users, and how often: one write at a time, of all that waited."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from chat_server.broker.memory_presence import MemoryPresence
from chat_server.events import Event
from chat_server.presence import MAX_MEMBERS, Attendance, Attended, Member
from chat_server.realtime.roster import TICKS, TOGETHER, Roster
from chat_server.settings import BrokerSettings

from ..rig.fake_transport import FakeTransport
from .helpers import ROOM
from .test_presence_machine import LoopClock, Way
from .virtual import VirtualLoop

LEASE = 30.0
PROFILE = b'{"user":"ada"}'


class Recorded(Way):
    """A way to the store that remembers what was written."""

    def __init__(self, store: MemoryPresence) -> None:
        super().__init__(store)
        self.writes: list[Attendance] = []

    def write(self, attendance: Attendance) -> Any:
        self.writes.append(attendance)
        return super().write(attendance)


class Desk:
    """A roster over a store of its own."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.loop = loop
        self.told: list[Event] = []
        settings = BrokerSettings(presence_lease_seconds=LEASE)
        store = MemoryPresence(settings, LoopClock(loop), self.told.append, running=lambda: True)
        self.way = Recorded(store)
        self.attended: list[Attended] = []
        self.grace = 0.0
        self.roster = Roster(
            self.way,
            "here",
            grace=lambda topic: self.grace,
            lease_seconds=LEASE,
            on_attended=lambda topic, attended: self.attended.append(attended),
        )
        loop.do(self.roster.start)

    def add(self, user: str, topic: str = ROOM) -> FakeTransport:
        transport = FakeTransport()
        self.loop.do(lambda: self.roster.add(topic, transport, user, PROFILE))
        return transport

    def remove(self, transport: FakeTransport, topic: str = ROOM) -> None:
        self.loop.do(lambda: self.roster.remove(topic, transport))

    def pass_time(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.5)):
            self.loop.advance(0.5)
            self.loop.turn(3)

    def others(self, lease: str, *users: str, topic: str = ROOM) -> None:
        """Write as another worker."""
        members = tuple(Member(user, 1, PROFILE) for user in users)
        attendance = Attendance(topic=topic, lease=lease, members=members, number=1)
        self.loop.do(lambda: self.way.store.write(attendance))

    def count(self, topic: str = ROOM) -> int:
        return self.loop.run_until_complete(self.way.store.page(topic, limit=1)).count


@pytest.fixture
def desk() -> Iterator[Desk]:
    loop = VirtualLoop()
    made = Desk(loop)
    yield made
    loop.run_until_complete(made.roster.stop(0.0))
    assert loop.faults == []
    loop.close()


def test_all_of_one_turn_are_written_together(desk: Desk) -> None:
    for number in range(MAX_MEMBERS + 10):
        desk.add(f"u{number}")
    desk.loop.turn(5)
    assert [len(write.members) for write in desk.way.writes] == [MAX_MEMBERS, 10]


def test_who_comes_and_goes_in_one_turn_is_as_if_never_there(desk: Desk) -> None:
    desk.remove(desk.add("ada"))
    desk.loop.turn(5)
    assert desk.told == []
    assert desk.roster._rooms == {}


def test_a_connection_counts_once(desk: Desk) -> None:
    transport = desk.add("ada")
    desk.loop.do(lambda: desk.roster.add(ROOM, transport, "ada", PROFILE))
    desk.loop.turn(5)
    assert desk.attended[-1].connections == 1
    desk.remove(transport)
    desk.remove(transport)
    desk.loop.turn(5)
    assert desk.count() == 0


@pytest.mark.parametrize("topics", [3, TOGETHER * 2, TOGETHER * TICKS])
def test_every_lease_is_renewed_once_in_an_interval(desk: Desk, topics: int) -> None:
    for number in range(topics):
        desk.add("ada", f"room:{number}")
    desk.pass_time(LEASE / 3)
    desk.way.writes.clear()
    desk.pass_time(LEASE / 3)
    assert len({write.topic for write in desk.way.writes}) == topics
    assert len(desk.way.writes) <= topics + TOGETHER


def test_a_turn_of_the_loop_renews_few_leases_however_many_there_are(desk: Desk) -> None:
    for number in range(TOGETHER * TICKS):
        desk.add("ada", f"room:{number}")
    desk.pass_time(LEASE / 3)
    desk.way.writes.clear()
    turns = []
    for _ in range(TICKS):
        desk.loop.advance(LEASE / 3 / TICKS)
        for _ in range(5):
            before = len(desk.way.writes)
            desk.loop.turn()
            turns.append(len(desk.way.writes) - before)
    assert sum(turns) == TOGETHER * TICKS
    assert max(turns) <= TOGETHER


def test_no_user_costs_a_renewal_anything(desk: Desk) -> None:
    for number in range(1_000):
        desk.add(f"u{number}")
    desk.pass_time(LEASE / 3)
    desk.way.writes.clear()
    desk.pass_time(LEASE)
    assert 3 <= len(desk.way.writes) <= 4
    assert all(not write.members for write in desk.way.writes)


def test_workers_that_died_together_are_taken_out_together(desk: Desk) -> None:
    desk.add("ada")
    for number in range(20):
        desk.others(f"dead-{number}", f"u{number}", "ada")
    desk.pass_time(1.0)
    assert desk.count() == 21
    desk.pass_time(LEASE * 4 / 3)
    assert desk.count() == 1


def test_a_store_that_fell_back_has_nobody_for_long_who_has_gone(desk: Desk) -> None:
    desk.add("ada")
    transport = desk.add("bob")
    desk.loop.turn(5)
    before = copy.deepcopy(desk.way.store._rooms)
    desk.remove(transport)
    desk.loop.turn(5)
    desk.way.store._rooms = before
    assert desk.count() == 2
    desk.pass_time(LEASE / 3 + 1)
    assert desk.count() == 1
    assert b'"more":true' in b"".join(event.payload for event in desk.told), "watchers ask again"


def test_who_has_left_is_looked_for_when_it_is_due(desk: Desk) -> None:
    desk.grace = 5.0
    desk.add("ada")
    desk.remove(desk.add("bob"))
    transport = desk.add("eve")
    desk.loop.turn(5)
    desk.remove(transport)
    desk.pass_time(4.0)
    assert desk.count() == 2
    desk.pass_time(1.5)
    assert desk.count() == 1
    assert desk.told[-1].payload.count(b'"left":[{') == 1


def test_a_write_that_failed_is_made_again_soon(desk: Desk) -> None:
    desk.way.mode = "away"
    desk.add("ada")
    desk.pass_time(2.0)
    assert desk.count() == 0
    desk.way.mode = "ok"
    desk.pass_time(LEASE / 3 / TICKS + 0.5)
    assert desk.count() == 1


def test_a_store_that_is_away_is_not_asked_all_the_time(desk: Desk) -> None:
    desk.way.mode = "away"
    for number in range(10 * TOGETHER):
        desk.add("ada", f"room:{number}")
    desk.loop.turn(5)
    desk.way.writes.clear()
    ticks = 5
    desk.pass_time(ticks * LEASE / 3 / TICKS)
    assert len(desk.way.writes) < 10 * TOGETHER + (ticks + 1) * TOGETHER


def test_who_waits_for_a_write_is_not_left_waiting(desk: Desk) -> None:
    desk.way.mode = "away"
    desk.add("ada")
    waiting = desk.loop.create_task(desk.roster.written(ROOM, "ada"))
    desk.loop.turn(5)
    assert waiting.done(), "the read behind it says what is wrong"
    desk.way.mode = "ok"
    desk.add("bob")
    waiting = desk.loop.create_task(desk.roster.written(ROOM, "bob"))
    desk.loop.turn(5)
    assert waiting.done()
    assert desk.count() == 2
