"""A client that reads too slowly: nothing is pushed to it, nothing is missed, nobody else waits."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from chat_server.events import Position
from chat_server.realtime import hub as hub_module
from chat_server.realtime import topic as topic_module

from ..rig.fake_transport import FakeTransport
from ..rig.fakes import turns, until
from .observer import Observer
from .virtual import VirtualLoop
from .world import World, answer, claims

ROOM = "room:a"


@pytest.fixture
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again soon where the store did not answer."""
    monkeypatch.setattr(hub_module, "RETRY_SECONDS", 0.001)


@pytest.fixture
async def impatient() -> AsyncIterator[World]:
    """A world that soon gives up on slow clients."""
    world = World(slow_timeout_seconds=0.01)
    await world.start()
    yield world
    await world.stop()


def seqs(transport: FakeTransport) -> list[int]:
    return [message["seq"] for message in transport.of_type("message")]


def store(world: World, count: int, topic: str = ROOM) -> None:
    for _ in range(count):
        world.broker.store(topic)


async def test_pushes_pause_and_are_caught_up_with(world: World) -> None:
    slow, quick = await world.subscribed(ROOM), await world.subscribed(ROOM)
    store(world, 2)
    await turns()
    slow.fill()
    store(world, 250)
    await turns()
    assert seqs(slow) == [1, 2]
    assert len(seqs(quick)) == 252
    slow.drain()
    await turns(50)
    store(world, 1)
    await turns()
    assert seqs(slow) == seqs(quick) == [*range(1, 254)]


async def test_what_history_lost_meanwhile_becomes_a_gap(world: World) -> None:
    slow = await world.subscribed(ROOM)
    slow.fill()
    store(world, 9)
    world.broker.forget(ROOM, keep=3)
    await turns()
    slow.drain()
    await turns()
    gap, *messages = slow.messages
    assert (gap["type"], gap["after"], gap["before"], gap["reason"]) == ("gap", 0, 7, "expired")
    assert [message["seq"] for message in messages] == [7, 8, 9]


async def test_where_only_the_latest_counts_the_rest_becomes_a_gap(world: World) -> None:
    topic = "latest:price"
    slow = await world.subscribed(topic, ROOM)
    store(world, 2, topic)
    await turns()
    slow.fill()
    store(world, 250, topic)
    store(world, 2)
    await turns()
    slow.drain()
    await turns(50)
    store(world, 1, topic)
    await turns()
    prices = [message for message in slow.messages if message["topic"] == topic]
    gap = prices.pop(2)
    assert (gap["type"], gap["after"], gap["before"], gap["reason"]) == ("gap", 2, 252, "skipped")
    assert [message["seq"] for message in prices] == [1, 2, 252, 253]
    assert len([m for m in slow.messages if m["topic"] == ROOM]) == 2, "others are caught up with"


async def test_a_resume_replays_everything_also_where_only_the_latest_counts(world: World) -> None:
    topic = "latest:price"
    epoch = (await answer(await world.subscribed(topic), type="history", topic=topic))["epoch"]
    store(world, 250, topic)
    await turns()
    back = world.connect(claims())
    ok = await answer(back, type="subscribe", topic=topic, since={"epoch": epoch, "seq": 0})
    assert (ok["recovered"], ok["replayed"]) == (True, 250)
    await until(lambda: len(seqs(back)) == 250)
    assert seqs(back) == [*range(1, 251)]


async def test_a_namespace_may_have_no_patience(world: World) -> None:
    slow = await world.subscribed(ROOM, "strict:a")
    slow.fill()
    await until(lambda: slow.closed is not None)
    assert slow.closed is not None
    assert slow.closed[0] == 4490


async def test_answers_go_on(world: World) -> None:
    slow = await world.subscribed(ROOM)
    slow.fill()
    assert (await answer(slow, type="publish", topic=ROOM, data=1))["type"] == "ok"


async def test_histories_wait_until_there_is_room(world: World) -> None:
    """Each may be megabytes, and as many commands may wait as the session takes in."""
    slow = await world.subscribed(ROOM)
    store(world, 1)
    await turns()
    slow.fill()
    await turns()
    for id in (7, 8):
        slow.say(type="history", id=id, topic=ROOM)
    await turns()
    assert [ok for ok in slow.of_type("ok") if ok.get("id") in (7, 8)] == []
    slow.drain()
    await turns()
    assert [ok["id"] for ok in slow.of_type("ok")][-2:] == [7, 8]


async def test_a_client_that_leaves_while_its_history_waits(world: World) -> None:
    slow = await world.subscribed(ROOM)
    slow.fill()
    slow.say(type="history", id=7, topic=ROOM)
    await turns()
    slow.lose()
    await turns()
    assert len(world.node.registry) == 0


async def test_it_fills_again_while_it_is_caught_up_with(
    monkeypatch: pytest.MonkeyPatch, world: World
) -> None:
    monkeypatch.setattr(topic_module, "FLUSH_BYTES", 200)
    slow = await world.subscribed(ROOM)
    watcher = Observer(Position("epoch0", 0))
    slow.fill()
    store(world, 35)
    await turns()
    for _ in range(20):
        slow.drain(room=3)
        await turns()
    assert seqs(slow) == [*range(1, 36)]
    for push in slow.messages:
        watcher.take(push)
    slow.drain()
    store(world, 1)
    await turns()
    assert seqs(slow)[-1] == 36


async def test_topics_that_lag_behind_one_that_is_replayed(world: World) -> None:
    """It fills up again, and drains again, while one of its topics waits for the store."""
    topics = [f"room:{number}" for number in range(5)]
    slow = await world.subscribed(*topics)
    slow.fill()
    for topic in topics:
        store(world, 2, topic)
    await turns()
    world.broker.reads.shut = True
    slow.drain()
    for _ in topics:
        await turns()
        slow.fill()
        for topic in topics:
            store(world, 1, topic)
        await turns()
        slow.drain()
        await turns()
        world.broker.reads.release()
    world.broker.reads.open()
    await turns(100)
    for topic in topics:
        got = [m["seq"] for m in slow.of_type("message") if m["topic"] == topic]
        assert got == [*range(1, 8)], topic


async def test_a_topic_joined_while_it_is_full_is_not_pushed_to(world: World) -> None:
    slow = world.connect(claims())
    slow.fill()
    await answer(slow, type="subscribe", topic=ROOM)
    store(world, 3)
    await turns()
    assert seqs(slow) == []
    slow.drain()
    await turns()
    assert seqs(slow) == [1, 2, 3]


async def test_a_topic_left_while_it_lags_is_forgotten(world: World) -> None:
    slow = await world.subscribed(ROOM)
    slow.fill()
    store(world, 3)
    await answer(slow, type="unsubscribe", topic=ROOM)
    slow.drain()
    await turns()
    assert seqs(slow) == []
    assert world.node.hub.topic_count == 0


async def test_who_left_and_came_back_is_not_sent_the_old_replay(world: World) -> None:
    slow = await world.subscribed(ROOM)
    await world.subscribed(ROOM)
    slow.fill()
    store(world, 3)
    await turns()
    world.broker.reads.shut = True
    slow.drain()
    await turns()
    await answer(slow, type="unsubscribe", topic=ROOM)
    reply = await answer(slow, type="subscribe", topic=ROOM)
    assert reply["seq"] == 3
    world.broker.reads.open()
    store(world, 1)
    await turns()
    assert seqs(slow) == [4]


async def test_a_broker_that_is_away_is_asked_again(brisk: None, world: World) -> None:
    slow = await world.subscribed(ROOM)
    slow.fill()
    store(world, 3)
    await turns()
    world.broker.available = False
    reads = world.broker.count("history")
    slow.drain()
    await until(lambda: world.broker.count("history") > reads + 3)
    assert seqs(slow) == []
    world.broker.available = True
    await until(lambda: seqs(slow) == [1, 2, 3])


async def test_a_topic_that_cannot_be_read_holds_up_no_other(
    monkeypatch: pytest.MonkeyPatch, world: World
) -> None:
    topics = [f"room:{number}" for number in range(5)]
    slow = await world.subscribed(*topics)
    slow.fill()
    for topic in topics:
        store(world, 2, topic)
    await turns()
    world.broker.available = False
    world.broker.reachable = set(topics[1:-1])
    monkeypatch.setattr(hub_module, "RETRY_SECONDS", 3_600.0)
    slow.drain()
    await turns(50)
    store(world, 1, topics[1])
    await turns()
    got = {
        topic: [m["seq"] for m in slow.of_type("message") if m["topic"] == topic]
        for topic in topics
    }
    assert list(got.values()) == [[], [1, 2, 3], [1, 2], [1, 2], []]


async def test_a_worker_in_a_lost_order_looks_again(brisk: None, world: World) -> None:
    """What a subscriber reads may show first that the store has begun anew."""
    slow, quick = await world.subscribed(ROOM), await world.subscribed(ROOM)
    store(world, 5)
    await turns()
    slow.fill()
    world.broker.wipe(ROOM)
    slow.drain()
    await until(lambda: world.node.hub._topics[ROOM].position.epoch == "epoch1")
    store(world, 1)
    for transport in (slow, quick):
        await until(lambda transport=transport: seqs(transport)[-1:] == [1])  # type: ignore[misc]
        (gap,) = transport.of_type("gap")
        assert (gap["epoch"], gap["after"], gap["before"]) == ("epoch1", 0, 1)


# The end of patience -----------------------------------------------------------------------------


async def test_who_does_not_drain_in_time_is_closed(impatient: World) -> None:
    slow, quick = await impatient.subscribed(ROOM), await impatient.subscribed(ROOM)
    slow.fill()
    await until(lambda: slow.closed is not None)
    assert slow.messages[-1]["type"] == "goodbye"
    assert slow.messages[-1]["code"] == 4490
    store(impatient, 1)
    await turns()
    assert seqs(quick) == [1]
    assert seqs(slow) == []


def test_who_drains_in_time_is_not() -> None:
    loop = VirtualLoop()
    world = loop.do(World)
    loop.run_until_complete(world.start())
    slow = loop.run_until_complete(world.subscribed(ROOM))
    patience = world.node.settings.limits.slow_timeout_seconds
    for _ in range(10):
        loop.do(slow.fill)
        # A transport may tell of it again without having drained.
        loop.do(slow.fill)
        loop.advance(patience - 0.1)
        loop.turn()
        loop.do(slow.drain)
        loop.turn(5)
    loop.advance(patience)
    loop.turn()
    assert slow.closed is None
    loop.do(slow.fill)
    loop.advance(patience)
    loop.turn()
    assert slow.of_type("goodbye") != []
    loop.run_until_complete(world.stop())
    loop.close()


async def test_fullness_after_the_end_starts_nothing(world: World) -> None:
    slow = await world.subscribed(ROOM)
    connection: Any = slow.receiver
    connection.on_message(b"", binary=True)
    assert slow.closed is not None
    slow.fill()
    assert connection._slow_timer is None
    slow.drain()
    assert connection._tasks == set()


async def test_a_client_too_slow_to_be_read_is_not_taken_for_dead(world: World) -> None:
    slow = await world.subscribed(ROOM)
    world.advance(28)
    assert slow.pings == 1
    # The pong may be there, but the transport does not read while it is full.
    slow.fill()
    world.advance(10)
    assert slow.of_type("goodbye") == []
    slow.drain()
    world.advance(28)
    assert slow.pings == 2
    slow.fill()
    world.clock.advance(9.9)
    # To have read so much is a sign of life, also if our timer comes before the pong.
    slow.drain()
    world.advance(0.1)
    assert slow.of_type("goodbye") == []
    world.advance(28)
    world.advance(10)
    assert [goodbye["code"] for goodbye in slow.of_type("goodbye")] == [4408]
