"""A worker's topics: who resumes misses nothing, and what was lost is read again."""

import asyncio
import logging

import pytest

from chat_server.events import Position
from chat_server.protocol.errors import Unavailable
from chat_server.realtime.hub import MAX_CONCURRENT_REPAIRS, Hub
from chat_server.realtime.recovery import Recovery
from chat_server.realtime.shared_reads import REPLAY_CHUNK

from ..rig.fake_transport import FakeTransport
from ..rig.fakes import FakeBroker, turns, until
from .helpers import MAX_REPLAY, ROOM, nothing_is_left, seqs, start, subscribe
from .observer import Observer

# Recovery --------------------------------------------------------------------------------------


async def test_a_resume_is_replayed_before_what_is_live(hub: Hub, broker: FakeBroker) -> None:
    for number in range(5):
        broker.store(ROOM, number)
    one = FakeTransport()
    recovery = await hub.join(one, ROOM, Position("epoch0", 2), None)
    assert (recovery.recovered, recovery.replayed) == (True, 3)
    assert one.messages == []
    assert hub.enter(one, ROOM, recovery) is False
    broker.store(ROOM)
    await turns()
    assert seqs(one) == [3, 4, 5, 6]


async def test_a_long_resume_is_read_in_pieces(hub: Hub, broker: FakeBroker) -> None:
    count = 2 * REPLAY_CHUNK + 5
    for number in range(count):
        broker.store(ROOM, number)
    one = FakeTransport()
    recovery = await subscribe(hub, one, since=Position("epoch0", 0))
    assert recovery.replayed == count
    assert seqs(one) == [*range(1, count + 1)]
    reads = [call for call in broker.calls if call[0] == "history" and not call[5]]
    assert [call[4] for call in reads] == [REPLAY_CHUNK] * 3


async def test_more_than_may_be_replayed_is_not(hub: Hub, broker: FakeBroker) -> None:
    for _ in range(MAX_REPLAY + 1):
        broker.store(ROOM)
    recovery = await subscribe(hub, FakeTransport(), since=Position("epoch0", 0))
    assert (recovery.recovered, recovery.reason) == (False, "too_far_behind")
    assert recovery.position.seq == MAX_REPLAY + 1
    recovery = await subscribe(hub, FakeTransport(), since=Position("epoch0", 1))
    assert recovery.recovered


async def test_the_newest_are_replayed(hub: Hub, broker: FakeBroker) -> None:
    for _ in range(9):
        broker.store(ROOM)
    one, other = FakeTransport(), FakeTransport()
    recovery = await subscribe(hub, one, last=3)
    assert (recovery.recovered, recovery.replayed) == (True, 3)
    await subscribe(hub, other, last=100)
    broker.store(ROOM)
    await turns()
    assert seqs(one) == [7, 8, 9, 10]
    assert seqs(other) == [*range(1, 11)]


@pytest.mark.parametrize(
    ("since", "reason"),
    [
        (Position("another", 1), "epoch_changed"),
        (Position("epoch0", 6), "epoch_changed"),
        (Position("epoch0", 1), "expired"),
        (Position("", 0), "epoch_changed"),
    ],
)
async def test_what_cannot_be_resumed_begins_here(
    hub: Hub, broker: FakeBroker, since: Position, reason: str
) -> None:
    for _ in range(5):
        broker.store(ROOM, keep=2)
    one = FakeTransport()
    recovery = await subscribe(hub, one, since=since)
    assert (recovery.recovered, recovery.replayed, recovery.reason) == (False, 0, reason)
    assert recovery.position == Position("epoch0", 5)
    broker.store(ROOM)
    await turns()
    assert seqs(one) == [6]


async def test_what_came_in_while_history_was_read_is_not_missed(
    hub: Hub, broker: FakeBroker
) -> None:
    live = FakeTransport()
    await subscribe(hub, live)
    broker.store(ROOM)
    await turns()
    broker.reads.shut = True
    joins: list[tuple[FakeTransport, asyncio.Task[Recovery]]] = []
    for since, last in (
        (Position("epoch0", 0), None),
        (Position("epoch0", 1), None),
        (Position("other", 5), None),
        (None, 10),
    ):
        transport = FakeTransport()
        joins.append((transport, start(hub.join(transport, ROOM, since, last))))
    await turns()
    broker.store(ROOM)
    broker.store(ROOM)
    await turns()
    broker.reads.open()
    for transport, join in joins:
        recovery = await join
        watcher = Observer(recovery.start)
        if hub.enter(transport, ROOM, recovery):
            await hub.replay(transport, [ROOM])
        broker.store(ROOM)
        await turns()
        for push in transport.messages:
            watcher.take(push)
        assert transport.of_type("gap") == []
        assert watcher.position == Position("epoch0", broker.topic(ROOM).seq)


@pytest.mark.parametrize("delivered", [True, False], ids=["worker", "store"])
async def test_who_cannot_resume_is_told_the_newest_position_known(
    hub: Hub, broker: FakeBroker, delivered: bool
) -> None:
    await subscribe(hub, FakeTransport())
    broker.manual = True
    broker.reads.shut = delivered
    late = FakeTransport()
    if not delivered:
        broker.store(ROOM)
    join = start(subscribe(hub, late, since=Position("another", 1)))
    await turns()
    if delivered:
        broker.store(ROOM)
        broker.deliver()
        broker.reads.open()
    assert (await join).position == Position("epoch0", 1)
    broker.store(ROOM)
    broker.deliver()
    assert seqs(late) == [2]


async def test_who_finds_the_order_lost_before_the_worker_does(
    hub: Hub, broker: FakeBroker
) -> None:
    broker.manual = True
    old, new = FakeTransport(), FakeTransport()
    await subscribe(hub, old)
    for _ in range(5):
        broker.store(ROOM)
    broker.deliver()
    broker.wipe(ROOM)
    broker.store(ROOM)
    join = start(subscribe(hub, new, since=Position("epoch0", 5)))
    await until(lambda: join.done())
    assert (await join).position == Position("epoch1", 1)
    assert [gap["epoch"] for gap in old.of_type("gap")] == ["epoch1"], "the worker has looked too"
    broker.store(ROOM)
    broker.deliver()
    assert seqs(new) == [2]
    assert seqs(old) == [1, 2, 3, 4, 5, 1, 2]


async def test_who_joins_ahead_of_the_worker_waits_for_it(hub: Hub, broker: FakeBroker) -> None:
    broker.manual = True
    live, ahead = FakeTransport(), FakeTransport()
    await subscribe(hub, live)
    for _ in range(3):
        broker.store(ROOM)
    recovery = await subscribe(hub, ahead, since=Position("epoch0", 1))
    assert recovery.replayed == 2
    broker.deliver()
    assert seqs(live) == [1, 2, 3]
    assert seqs(ahead) == [2, 3]
    broker.store(ROOM)
    broker.deliver()
    assert seqs(ahead) == [2, 3, 4]


# Repair ----------------------------------------------------------------------------------------


async def test_a_lost_event_is_read_again(hub: Hub, broker: FakeBroker) -> None:
    broker.manual = True
    one = FakeTransport()
    await subscribe(hub, one)
    for _ in range(4):
        broker.store(ROOM)
    broker.deliver(0, 3)
    assert seqs(one) == [1]
    await turns()
    assert seqs(one) == [1, 2, 3, 4]


@pytest.mark.parametrize("again", [0, 2, 3, 9])
async def test_events_that_a_failover_lost_end_the_epoch(
    hub: Hub, broker: FakeBroker, again: int
) -> None:
    """Three events are lost, and their seqs given `again` before this worker can look."""
    one, late = FakeTransport(), FakeTransport()
    await subscribe(hub, one)
    for number in range(5):
        broker.store(ROOM, number)
    await turns()
    broker.go_away()
    broker.fail_over(ROOM, 3)
    for number in range(again):
        broker.store(ROOM, f"other {number}")
    broker.outbox.clear()
    broker.come_back()
    await turns()
    (gap,) = one.of_type("gap")
    assert (gap["epoch"], gap["reason"], gap["before"]) == ("epoch1", "epoch_changed", 3 + again)
    assert broker.topic(ROOM).epoch == "epoch1"
    assert len(broker.topic(ROOM).events) == 2 + again, "what is left is kept"
    recovery = await subscribe(hub, late, since=Position("epoch0", 4))
    assert (recovery.recovered, recovery.reason) == (False, "epoch_changed")
    broker.store(ROOM)
    await turns()
    assert seqs(late) == [3 + again]
    assert seqs(one) == [1, 2, 3, 4, 5, 3 + again]


async def test_a_position_learnt_by_subscribing_is_known_again(
    hub: Hub, broker: FakeBroker
) -> None:
    one = FakeTransport()
    for number in range(3):
        broker.store(ROOM, number)
    await subscribe(hub, one)
    broker.go_away()
    broker.fail_over(ROOM, 1)
    for _ in range(2):
        broker.store(ROOM, "another")
    broker.outbox.clear()
    broker.come_back()
    await turns()
    assert [gap["reason"] for gap in one.of_type("gap")] == ["epoch_changed"]


async def test_a_store_that_lost_nothing_keeps_the_epoch(hub: Hub, broker: FakeBroker) -> None:
    one = FakeTransport()
    await subscribe(hub, one)
    for number in range(3):
        broker.store(ROOM, number)
        await turns()
        broker.go_away()
        broker.come_back()
        await turns()
    assert broker.count("begin_epoch") == 0
    assert (seqs(one), one.of_type("gap")) == ([1, 2, 3], [])


async def test_one_repair_of_a_topic_at_a_time(hub: Hub, broker: FakeBroker) -> None:
    broker.manual = True
    one = FakeTransport()
    await subscribe(hub, one)
    broker.reads.shut = True
    for _ in range(9):
        broker.store(ROOM)
    broker.deliver(1, 3, 5)
    hub.on_restored()
    await turns()
    assert len(broker.reads.waiting) == 1
    broker.reads.open()
    await turns()
    assert seqs(one) == [*range(1, 10)]
    assert len(broker.reads.waiting) == 0


@pytest.mark.parametrize("partly", [False, True], ids=["whole", "partly"])
async def test_a_repair_is_tried_again_while_the_store_seems_there(
    hub: Hub, broker: FakeBroker, partly: bool
) -> None:
    broker.manual = True
    one = FakeTransport()
    await subscribe(hub, one)
    if partly:
        broker.available = False
        broker.reachable.add(ROOM)
    broker.read_error = Unavailable("busy")
    for _ in range(2):
        broker.store(ROOM)
    broker.deliver(1)
    await until(lambda: broker.count("history") >= 5)
    assert seqs(one) == []
    broker.read_error = None
    await until(lambda: seqs(one) != [])
    assert seqs(one) == [1, 2]


async def test_a_repair_waits_for_a_store_that_is_away(hub: Hub, broker: FakeBroker) -> None:
    broker.manual = True
    one = FakeTransport()
    await subscribe(hub, one)
    for _ in range(2):
        broker.store(ROOM)
    broker.available = False
    broker.deliver(1)
    await turns()
    assert hub._repairing == set(), "it waits to be told, and does not ask"
    broker.come_back()
    await turns()
    assert seqs(one) == [1, 2]


async def test_a_store_that_is_back_has_every_topic_read_again(
    hub: Hub, broker: FakeBroker
) -> None:
    names = [f"room:{number}" for number in range(2 * MAX_CONCURRENT_REPAIRS + 3)]
    transports = {name: FakeTransport() for name in names}
    for name, transport in transports.items():
        await subscribe(hub, transport, name)
    broker.go_away()
    for name in names:
        broker.store(name)
    broker.outbox.clear()
    broker.reads.shut = True
    broker.come_back()
    await turns()
    assert len(broker.reads.waiting) == MAX_CONCURRENT_REPAIRS
    broker.reads.open()
    await turns(100)
    assert all(seqs(transport) == [1] for transport in transports.values())


@pytest.mark.parametrize("repairing", [True, False], ids=["repairing", "opening"])
async def test_a_read_from_before_the_loss_does_not_count(
    hub: Hub, broker: FakeBroker, repairing: bool
) -> None:
    one = FakeTransport()
    if repairing:
        await subscribe(hub, one)
        broker.reads.shut = True
        hub.on_restored()
        join = None
    else:
        broker.reads.shut = True
        join = start(subscribe(hub, one))
    await turns()
    assert len(broker.reads.waiting) == 1
    # Its answer is on its way when an event is lost with the connection.
    broker.go_away()
    broker.store(ROOM)
    broker.outbox.clear()
    broker.come_back()
    broker.reads.open()
    watcher = Observer((await join).position if join else Position("epoch0", 0))
    await turns()
    for push in one.messages:
        watcher.take(push)
    assert watcher.position.seq == 1


async def test_a_topic_closed_while_it_is_repaired_is_left_alone(
    hub: Hub, broker: FakeBroker
) -> None:
    one = FakeTransport()
    await subscribe(hub, one)
    broker.reads.shut = True
    hub.on_restored()
    await turns()
    hub.leave(one, ROOM)
    broker.reads.open()
    await turns()
    assert nothing_is_left(hub, broker)
    assert hub._repairing == set()
    assert hub._tasks == set()


async def test_a_fault_in_a_repair_is_logged(
    hub: Hub, broker: FakeBroker, caplog: pytest.LogCaptureFixture
) -> None:
    await subscribe(hub, FakeTransport())
    broker.read_error = RuntimeError("a bug")
    hub.on_restored()
    await turns()
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    broker.read_error = None
    hub.on_restored()
    await turns()
    assert hub._repairing == set()


async def test_events_of_topics_without_subscribers_are_ignored(hub: Hub) -> None:
    broker = FakeBroker()
    hub.on_events([broker.store("room:x")])
    assert hub.topic_count == 0


async def test_one_batch_may_hold_many_topics(hub: Hub, broker: FakeBroker) -> None:
    broker.manual = True
    one, other = FakeTransport(), FakeTransport()
    await subscribe(hub, one, "room:a")
    await subscribe(hub, other, "room:b")
    for name in ("room:a", "room:b", "room:a", "room:b"):
        broker.store(name)
    broker.deliver()
    assert (seqs(one), seqs(other)) == ([1, 2], [1, 2])
