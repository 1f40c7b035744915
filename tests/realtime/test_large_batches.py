"""Much at once, as after an outage: each is written what it can take, and replayed the rest."""

import pytest

from chat_server.events import Position
from chat_server.realtime import topic as topic_module

from ..rig.fake_transport import FakeTransport
from ..rig.fakes import turns
from .test_topic import EPOCH, events, page, subscriber, topic_at
from .world import World

ROOM = "room:a"
EVENTS_AT_ONCE = 10


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    size = len(events([1])[0].payload)
    monkeypatch.setattr(topic_module, "FLUSH_BYTES", EVENTS_AT_ONCE * size)


def seqs(transport: FakeTransport) -> list[int]:
    return [message["seq"] for message in transport.of_type("message")]


def test_who_can_take_it_gets_all_at_once() -> None:
    topic = topic_at(0)
    quick = subscriber(topic)
    topic.offer(events(range(1, 96)))
    assert seqs(quick) == [*range(1, 96)]


def test_who_is_full_is_left_behind_where_it_stands() -> None:
    topic = topic_at(0)
    quick, slow = subscriber(topic), subscriber(topic)
    slow.room = 3
    topic.catch_up(page(range(1, 100), seq=99))
    assert seqs(quick) == [*range(1, 100)]
    got = seqs(slow)
    assert got == [*range(1, len(got) + 1)]
    assert len(got) <= 3 + EVENTS_AT_ONCE
    assert topic.lag_of(slow) == Position(EPOCH, len(got))
    assert topic.lag_of(quick) is None


def test_who_is_full_at_the_very_end_stays_live() -> None:
    topic = topic_at(0)
    slow = subscriber(topic)
    slow.room = EVENTS_AT_ONCE
    topic.offer(events(range(1, EVENTS_AT_ONCE + 1)))
    assert not slow.writable
    assert topic.lag_of(slow) is None, "the connection says when it has to lag"


def test_an_event_larger_than_that_is_written_by_itself() -> None:
    topic = topic_at(0)
    quick = subscriber(topic)
    [large] = events([2], epoch=EPOCH)
    payload = large.payload.replace(b'"data":"e"', b'"data":"%s"' % (b"x" * 10_000))
    [first], [last] = events([1]), events([3])
    topic.offer([first, type(large)(ROOM, EPOCH, 2, large.kind, payload), last])
    assert seqs(quick) == [1, 2, 3]


async def test_what_an_outage_held_back_comes_in_pieces(world: World) -> None:
    slow, quick = await world.subscribed(ROOM), await world.subscribed(ROOM)
    world.broker.go_away()
    slow.room = 5
    for _ in range(200):
        world.broker.store(ROOM)
    world.broker.come_back()
    await turns(50)
    assert seqs(quick) == [*range(1, 201)]
    assert len(seqs(slow)) <= 5 + EVENTS_AT_ONCE
    while len(seqs(slow)) < 200:
        slow.drain(room=50)
        await turns(50)
    assert seqs(slow) == [*range(1, 201)]
