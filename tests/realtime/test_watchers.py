"""What the watchers of a topic are sent: one by one, gathered, cut, held back, and made up for."""

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import pytest

from chat_server.logs import LogThrottle
from chat_server.protocol.codecs import JSON, MSGPACK
from chat_server.realtime.watchers import BATCH_SECONDS, MAX_HELD, MAX_LISTED, Watchers

from ..rig.fake_transport import FakeEncoder, FakeTransport
from .helpers import ROOM
from .virtual import VirtualLoop

BATCH = 3


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    made = VirtualLoop()
    yield made
    assert made.faults == []
    made.close()


class Room:
    """Watchers, and a loop that goes on when it is told."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.loop = loop
        self.watchers = Watchers(ROOM, BATCH, LogThrottle())

    def enter(self, codec: Any = JSON) -> FakeTransport:
        transport = FakeTransport(FakeEncoder(codec))
        self.watchers.join(transport)
        self.watchers.enter(transport)
        return transport

    def offer(
        self,
        count: int,
        joined: Sequence[str] = (),
        left: Sequence[str] = (),
        *,
        more: bool = False,
    ) -> None:
        change = {
            "count": count,
            "connections": 2 * count,
            "joined": [{"user": user, "name": user.upper()} for user in joined],
            "left": [{"user": user} for user in left],
            "more": more,
        }
        self.loop.do(lambda: self.watchers.offer(msgspec.json.encode(change)))

    def a_second_later(self) -> None:
        self.loop.advance(BATCH_SECONDS)
        self.loop.turn(2)


@pytest.fixture
def room(loop: VirtualLoop) -> Room:
    return Room(loop)


def users(pushed: list[dict[str, Any]]) -> list[str]:
    return [user["user"] for user in pushed]


@pytest.mark.parametrize("codec", [JSON, MSGPACK], ids=["json", "msgpack"])
def test_few_are_told_one_by_one_and_at_once(room: Room, codec: Any) -> None:
    watcher = room.enter(codec)
    room.offer(2, ["ada", "bob"])
    room.offer(1, left=["ada"])
    assert watcher.messages == [
        {"type": "join", "topic": ROOM, "user": "ada", "name": "ADA"},
        {"type": "join", "topic": ROOM, "user": "bob", "name": "BOB"},
        {"type": "leave", "topic": ROOM, "user": "ada"},
    ]


@pytest.mark.parametrize("codec", [JSON, MSGPACK], ids=["json", "msgpack"])
def test_many_are_told_once_a_second(room: Room, codec: Any) -> None:
    watcher = room.enter(codec)
    room.offer(5, ["ada"])
    room.offer(5, ["bob", "eve"], ["ada"])
    room.offer(3, left=["eve"])
    assert watcher.messages == [], "gathered, also once they are few again"
    room.a_second_later()
    room.a_second_later()
    assert watcher.messages == [
        {
            "type": "presence",
            "topic": ROOM,
            "count": 3,
            "connections": 6,
            "joined": [{"user": "bob", "name": "BOB"}],
            "left": [{"user": "ada"}, {"user": "eve"}],
        }
    ]
    room.offer(3, left=["bob"])
    assert watcher.messages[1:] == [{"type": "leave", "topic": ROOM, "user": "bob"}]


def test_one_who_went_and_came_is_told_of_all_the_same(room: Room) -> None:
    """A watcher's page may be of the moment between."""
    watcher = room.enter()
    room.offer(5, left=["ada"])
    room.offer(5, ["ada"])
    room.a_second_later()
    (push,) = watcher.messages
    assert (users(push["joined"]), push["left"]) == (["ada"], [])


def test_many_who_leave_a_room_that_is_small_then(room: Room) -> None:
    watcher = room.enter()
    room.offer(1, left=["a", "b", "c", "d"])
    assert watcher.messages == []
    room.a_second_later()
    assert users(watcher.messages[0]["left"]) == ["a", "b", "c", "d"]


def test_lists_are_cut_and_counts_go_on(room: Room) -> None:
    watcher = room.enter()
    for at in range(0, 1_000, 100):
        room.offer(2_000 + at, [f"u{number}" for number in range(at, at + 100)])
    room.a_second_later()
    (push,) = watcher.messages
    assert (push["count"], push["more"]) == (2_900, True)
    assert len(push["joined"]) == MAX_LISTED
    room.offer(3_000, ["ada"])
    room.a_second_later()
    assert "more" not in watcher.messages[1]


def test_lists_are_bounded_in_bytes(room: Room) -> None:
    watcher = room.enter()
    room.offer(50, [f"{number}-" + "x" * 2_000 for number in range(50)])
    room.a_second_later()
    assert len(watcher.written[0]) < 33_000
    assert watcher.messages[0]["more"] is True


def test_what_may_have_been_missed_is_to_be_asked_for(room: Room) -> None:
    watcher = room.enter()
    room.offer(1, more=True)
    room.loop.do(room.watchers.ask_again)
    room.a_second_later()
    (push,) = watcher.messages
    assert (push["type"], push["more"], push["joined"], push["left"]) == ("presence", True, [], [])


def test_changes_are_held_back_until_the_ok(room: Room) -> None:
    joining = FakeTransport()
    room.watchers.join(joining)
    room.offer(1, ["ada"])
    assert joining.messages == []
    room.watchers.enter(joining)
    room.offer(2, ["bob"])
    assert users(joining.messages) == ["ada", "bob"]


def test_too_many_to_hold_back_are_to_be_asked_for(room: Room) -> None:
    joining = FakeTransport()
    room.watchers.join(joining)
    for _ in range(MAX_HELD):
        room.offer(1, ["ada"])
    room.watchers.enter(joining)
    (push,) = joining.messages
    assert (push["type"], push["more"]) == ("presence", True)


def test_one_who_reads_too_slowly_is_passed_over_and_told_later(room: Room) -> None:
    slow, other = room.enter(), room.enter()
    slow.writable = False
    room.offer(1, ["ada"])
    room.watchers.recover()
    assert slow.messages == []
    assert users(other.messages) == ["ada"]
    slow.writable = True
    room.watchers.recover()
    room.watchers.recover()
    (push,) = slow.messages
    assert (push["type"], push["more"], push["count"]) == ("presence", True, 1)
    assert len(other.messages) == 1


def test_all_who_write_alike_are_written_to_together(room: Room) -> None:
    encoder = FakeEncoder(JSON)
    for _ in range(50):
        transport = FakeTransport(encoder)
        room.watchers.join(transport)
        room.watchers.enter(transport)
    before = encoder.writes, encoder.encoded
    room.offer(1, ["ada"])
    assert (encoder.writes - before[0], encoder.encoded - before[1]) == (1, 1)


def test_who_has_left_is_told_nothing(room: Room, loop: VirtualLoop) -> None:
    watcher, other = room.enter(), FakeTransport()
    room.watchers.join(other)
    room.offer(9, ["ada"])
    assert not room.watchers.leave(watcher)
    assert watcher not in room.watchers
    assert room.watchers.leave(other), "nobody is left"
    room.a_second_later()
    assert watcher.messages == []


@pytest.mark.parametrize(
    "payload", [b"", b"[]", b'{"count":1}', b'{"count":1,"connections":1,"joined":[{}]}', b"\xff"]
)
def test_what_no_worker_of_ours_wrote_is_left_out(
    room: Room, caplog: pytest.LogCaptureFixture, payload: bytes
) -> None:
    caplog.set_level(logging.ERROR)
    watcher = room.enter()
    room.watchers.offer(payload)
    room.watchers.offer(payload)
    assert watcher.messages == []
    (record,) = caplog.records
    assert ROOM in record.getMessage()
