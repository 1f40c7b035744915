"""A store that lost events and gave their seqs out again: whoever saw the first is told."""

import pytest

from chat_server.events import Position
from chat_server.realtime.hub import Hub

from ..rig.fake_transport import FakeTransport
from ..rig.fakes import FakeBroker, turns
from .helpers import ROOM, seqs, start, subscribe


def data(transport: FakeTransport) -> list[str]:
    """Return what a client was sent, with `gap` where it was told of one."""
    return [push.get("data", push["type"]) for push in transport.of_type("message", "gap")]


async def test_what_is_heard_before_the_store_was_looked_at_is_not_taken_for_the_next(
    hub: Hub, broker: FakeBroker
) -> None:
    """Another worker is back before this one, and publishes once we hear but have not read."""
    one = FakeTransport()
    await subscribe(hub, one)
    for number in range(1, 6):
        broker.store(ROOM, f"old {number}")
    await turns()
    broker.go_away()
    broker.fail_over(ROOM, 2)
    for number in range(4, 6):
        broker.store(ROOM, f"new {number}")
    broker.outbox.clear()
    broker.store(ROOM, "new 6")
    await turns()
    assert data(one) == [f"old {number}" for number in range(1, 6)]
    broker.come_back()
    await turns(50)
    broker.store(ROOM, "new 7")
    await turns(50)
    assert data(one)[5:] == ["gap", "new 7"]
    assert [gap["reason"] for gap in one.of_type("gap")] == ["epoch_changed"]


async def test_what_is_heard_meanwhile_is_sent_once_it_is_known_to_follow(
    hub: Hub, broker: FakeBroker
) -> None:
    one = FakeTransport()
    await subscribe(hub, one)
    broker.store(ROOM)
    await turns()
    broker.go_away()
    broker.store(ROOM)
    await turns()
    assert seqs(one) == [1]
    broker.come_back()
    await turns()
    assert (seqs(one), one.of_type("gap")) == ([1, 2], [])


@pytest.mark.parametrize("opening", [True, False])
async def test_a_read_from_before_a_loss_is_not_used(
    hub: Hub, broker: FakeBroker, opening: bool
) -> None:
    one = FakeTransport()
    if not opening:
        await subscribe(hub, one)
        broker.store(ROOM, "old 1")
        await turns()
    broker.reads.shut = True
    hub.on_restored()
    join = start(subscribe(hub, one)) if opening else None
    await turns()
    broker.go_away()
    broker.fail_over(ROOM, 1)
    broker.store(ROOM, "new 1")
    broker.outbox.clear()
    broker.available = True
    broker.reads.release()
    broker.store(ROOM, "new 2")
    await turns()
    assert data(one) == ([] if opening else ["old 1"])
    broker.come_back()
    broker.reads.open()
    await turns(50)
    if join:
        assert (await join).position == Position("epoch0", 2)
    else:
        assert data(one) == ["old 1", "gap"]


async def test_only_the_topics_concerned_are_held_and_read(hub: Hub, broker: FakeBroker) -> None:
    names = ["room:a", "room:b", "room:c"]
    clients = {name: FakeTransport() for name in names}
    for name, transport in clients.items():
        await subscribe(hub, transport, name)
    reads = broker.count("history")
    hub.on_lost(["room:a", "room:unknown"])
    for name in names:
        broker.store(name)
    await turns()
    assert [seqs(clients[name]) for name in names] == [[], [1], [1]]
    hub.on_restored(["room:a", "room:unknown"])
    await turns()
    assert [seqs(clients[name]) for name in names] == [[1], [1], [1]]
    assert broker.count("history") == reads + 1


@pytest.mark.parametrize("again", [0, 2, 3], ids="given {} times".format)
@pytest.mark.parametrize("full", [False, True], ids=["ahead", "lagging"])
async def test_who_was_ahead_of_the_worker_is_told_too(
    hub: Hub, broker: FakeBroker, full: bool, again: int
) -> None:
    """The worker stands at 3; events 4 and 5 were sent by replay, and then lost."""
    live, ahead = FakeTransport(), FakeTransport()
    await subscribe(hub, live)
    for number in range(1, 4):
        broker.store(ROOM, f"old {number}")
    await turns()
    broker.manual = True
    for number in range(4, 6):
        broker.store(ROOM, f"old {number}")
    await subscribe(hub, ahead, since=Position("epoch0", 2))
    assert data(ahead) == ["old 3", "old 4", "old 5"]
    if full:
        ahead.fill()
        hub.lag(ahead, [ROOM])
    broker.go_away()
    broker.fail_over(ROOM, 2)
    for number in range(4, 4 + again):
        broker.store(ROOM, f"new {number}")
    broker.outbox.clear()
    broker.come_back()
    broker.manual = False
    await turns(50)
    ahead.drain()
    await hub.replay(ahead, [ROOM])
    broker.store(ROOM, "newest")
    await turns(50)
    for transport in (live, ahead):
        assert data(transport)[3:] == ["gap", "newest"]
        (gap,) = transport.of_type("gap")
        assert (gap["epoch"], gap["reason"]) == ("epoch1", "epoch_changed")


async def test_a_subscriber_may_find_the_loss_before_the_worker_looks(
    hub: Hub, broker: FakeBroker
) -> None:
    one, slow = FakeTransport(), FakeTransport()
    for transport in (one, slow):
        await subscribe(hub, transport)
    for number in range(1, 4):
        broker.store(ROOM, f"old {number}")
    await turns()
    slow.fill()
    hub.lag(slow, [ROOM])
    broker.fail_over(ROOM, 1)
    slow.drain()
    await hub.replay(slow, [ROOM])
    broker.store(ROOM, "new 3")
    await turns(50)
    for transport in (one, slow):
        assert data(transport) == ["old 1", "old 2", "old 3", "gap", "new 3"]
        (gap,) = transport.of_type("gap")
        assert (gap["epoch"], gap["before"]) == ("epoch1", 3), "a client has to notice it"


async def test_what_was_sent_while_a_read_was_under_way_is_no_evidence(
    hub: Hub, broker: FakeBroker
) -> None:
    live, ahead = FakeTransport(), FakeTransport()
    await subscribe(hub, live)
    broker.store(ROOM)
    await turns()
    broker.manual = True
    broker.reads.shut = True
    hub.on_restored()
    await turns()
    (late,) = broker.reads.waiting
    broker.reads.waiting.clear()
    broker.reads.open()
    broker.store(ROOM)
    await subscribe(hub, ahead, since=Position("epoch0", 0))
    late.set_result(None)
    await turns()
    broker.deliver()
    await turns()
    assert broker.count("begin_epoch") == 0
    assert (seqs(live), seqs(ahead)) == ([1, 2], [1, 2])
