"""A worker's topics: opened once, however many want them, and closed with their last subscriber."""

import asyncio
import logging

import pytest

from chat_server.events import Position
from chat_server.protocol.errors import Unavailable
from chat_server.realtime.hub import Hub

from ..rig.fake_transport import FakeTransport
from ..rig.fakes import FakeBroker, turns
from .helpers import ROOM, nothing_is_left, seqs, start, subscribe
from .observer import Observer

# Opening ---------------------------------------------------------------------------------------


async def test_concurrent_joins_share_one_subscription(hub: Hub, broker: FakeBroker) -> None:
    broker.subscribes.shut = True
    transports = [FakeTransport() for _ in range(5)]
    joins = [start(hub.join(transport, ROOM, None, None)) for transport in transports]
    await turns()
    assert not any(join.done() for join in joins)
    broker.subscribes.open()
    recoveries = await asyncio.gather(*joins)
    assert (broker.count("subscribe"), broker.count("history")) == (1, 1)
    assert len({recovery.position.epoch for recovery in recoveries}) == 1
    for transport, recovery in zip(transports, recoveries, strict=True):
        assert hub.enter(transport, ROOM, recovery) is False
    broker.store(ROOM)
    await turns()
    assert all(seqs(transport) == [1] for transport in transports)


async def test_a_known_topic_is_joined_without_the_store(hub: Hub, broker: FakeBroker) -> None:
    one, other = FakeTransport(), FakeTransport()
    assert hub.join_now(one, ROOM) is None
    await subscribe(hub, one)
    broker.calls.clear()
    recovery = hub.join_now(other, ROOM)
    assert recovery is not None
    hub.leave(one, ROOM)
    assert hub.topic_count == 1, "who has joined keeps it open"
    hub.enter(other, ROOM, recovery)
    assert broker.calls == []


async def test_a_topic_being_opened_is_not_joined_without_the_store(
    hub: Hub, broker: FakeBroker
) -> None:
    broker.reads.shut = True
    one, other = FakeTransport(), FakeTransport()
    first = start(hub.join(one, ROOM, None, None))
    await turns()
    assert hub.join_now(other, ROOM) is None
    broker.reads.open()
    await first


@pytest.mark.parametrize("gate", ["subscribes", "reads"])
async def test_a_failure_to_open_tells_all_who_wait(
    hub: Hub, broker: FakeBroker, gate: str
) -> None:
    getattr(broker, gate).shut = True
    joins = [start(hub.join(FakeTransport(), ROOM, None, None)) for _ in range(3)]
    await turns()
    getattr(broker, gate).release(Unavailable("away"))
    results = await asyncio.gather(*joins, return_exceptions=True)
    assert all(isinstance(result, Unavailable) for result in results)
    assert nothing_is_left(hub, broker)
    getattr(broker, gate).open()
    await subscribe(hub, FakeTransport())
    assert hub.topic_count == 1


async def test_a_store_that_is_away_is_told_at_once(hub: Hub, broker: FakeBroker) -> None:
    broker.go_away()
    with pytest.raises(Unavailable) as caught:
        await hub.join(FakeTransport(), ROOM, None, None)
    assert caught.value.topic == ROOM
    assert nothing_is_left(hub, broker)


async def test_a_fault_while_opening_is_logged_and_leaves_nothing(
    hub: Hub, broker: FakeBroker, caplog: pytest.LogCaptureFixture
) -> None:
    broker.read_error = RuntimeError("a bug")
    with pytest.raises(Unavailable):
        await hub.join(FakeTransport(), ROOM, None, None)
    await turns()
    assert nothing_is_left(hub, broker)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    broker.read_error = None
    await subscribe(hub, FakeTransport())


@pytest.mark.parametrize("last", [None, 5])
async def test_a_failure_to_read_history_leaves_the_topic_to_others(
    hub: Hub, broker: FakeBroker, last: int | None
) -> None:
    one, other = FakeTransport(), FakeTransport()
    await subscribe(hub, one)
    broker.reads.shut = True
    since = None if last else Position("epoch0", 0)
    join = start(hub.join(other, ROOM, since, last))
    await turns()
    broker.reads.release(Unavailable("away"))
    with pytest.raises(Unavailable):
        await join
    broker.reads.open()
    assert hub.topic_count == 1
    hub.leave(one, ROOM)
    assert nothing_is_left(hub, broker)


# Leaving and cancellation ----------------------------------------------------------------------


async def test_the_last_to_leave_ends_the_subscription(hub: Hub, broker: FakeBroker) -> None:
    one, other = FakeTransport(), FakeTransport()
    await subscribe(hub, one)
    await subscribe(hub, other)
    hub.leave(one, ROOM)
    hub.leave(one, ROOM)
    hub.leave(FakeTransport(), ROOM)
    hub.leave(FakeTransport(), "room:other")
    assert broker.subscribed == {ROOM}
    hub.leave(other, ROOM)
    assert nothing_is_left(hub, broker)
    await subscribe(hub, one)
    assert broker.subscribed == {ROOM}


@pytest.mark.parametrize("cancel", [True, False], ids=["cancelled", "left"])
@pytest.mark.parametrize("passed", range(6))
async def test_giving_up_while_joining_leaves_nothing(
    hub: Hub, broker: FakeBroker, cancel: bool, passed: int
) -> None:
    """Give up after so many turns of the loop: at each place where the work may wait."""
    broker.topic(ROOM)
    transport = FakeTransport()
    join = start(hub.join(transport, ROOM, Position("epoch0", 0), None))
    await turns(passed)
    hub.leave(transport, ROOM)
    if cancel:
        join.cancel()
    await asyncio.gather(join, return_exceptions=True)
    hub.leave(transport, ROOM)
    await turns()
    assert nothing_is_left(hub, broker)


@pytest.mark.parametrize("gate", ["subscribes", "reads"])
async def test_giving_up_leaves_the_others_waiting(hub: Hub, broker: FakeBroker, gate: str) -> None:
    getattr(broker, gate).shut = True
    one, other = FakeTransport(), FakeTransport()
    first, second = (start(hub.join(who, ROOM, None, None)) for who in (one, other))
    await turns()
    first.cancel()
    await turns()
    getattr(broker, gate).open()
    recovery = await second
    hub.enter(other, ROOM, recovery)
    assert broker.subscribed == {ROOM}
    hub.leave(other, ROOM)
    assert nothing_is_left(hub, broker)


@pytest.mark.parametrize("gate", ["subscribes", "reads"])
async def test_a_topic_left_while_it_opens_can_be_joined_again(
    hub: Hub, broker: FakeBroker, gate: str
) -> None:
    getattr(broker, gate).shut = True
    one, other = FakeTransport(), FakeTransport()
    first = start(hub.join(one, ROOM, None, None))
    await turns()
    hub.leave(one, ROOM)
    first.cancel()
    second = start(hub.join(other, ROOM, None, None))
    await turns()
    broker.store(ROOM)
    getattr(broker, gate).open()
    recovery = await second
    hub.enter(other, ROOM, recovery)
    watcher = Observer(recovery.position)
    broker.store(ROOM)
    await turns()
    for push in other.messages:
        watcher.take(push)
    assert watcher.position.seq == 2
    assert broker.subscribed == {ROOM}
    hub.leave(other, ROOM)
    assert nothing_is_left(hub, broker)


async def test_the_first_attempt_failing_late_does_not_harm_the_second(
    hub: Hub, broker: FakeBroker
) -> None:
    broker.reads.shut = True
    one, other = FakeTransport(), FakeTransport()
    first = start(hub.join(one, ROOM, None, None))
    await turns()
    hub.leave(one, ROOM)
    first.cancel()
    (late,) = broker.reads.waiting
    broker.reads.open = lambda: None  # type: ignore[method-assign]  # only the second goes on
    broker.reads.waiting.clear()
    broker.reads.shut = False
    await subscribe(hub, other)
    late.set_exception(Unavailable("away"))
    await turns()
    assert (hub.topic_count, broker.subscribed) == (1, {ROOM})
    broker.store(ROOM)
    await turns()
    assert seqs(other) == [1]


async def test_stop_ends_what_is_under_way(hub: Hub, broker: FakeBroker) -> None:
    broker.subscribes.shut = True
    join = start(hub.join(FakeTransport(), ROOM, None, None))
    await turns()
    await hub.stop()
    with pytest.raises(Unavailable):
        await join
