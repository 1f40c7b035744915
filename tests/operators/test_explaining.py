"""Why somebody did not get a message, as a worker's notes tell it."""

import asyncio

import pytest

from chat_server.clock import SystemClock
from chat_server.operators.explaining import MAX_STORIES, Asked, explain_here
from chat_server.operators.questions import WorkerStory
from chat_server.realtime.trail import Trail

from ..realtime.world import World, answer, claims
from ..rig.fake_transport import FakeTransport
from ..rig.fakes import turns, until

ROOM = "room:a"


@pytest.fixture
async def world() -> World:
    return World()


async def explain(
    world: World, seq: int, user: str | None = "alice", topic: str = ROOM
) -> WorkerStory:
    return await explain_here(world.node, Asked(topic, seq, user))


async def verdicts(world: World, seq: int, topic: str = ROOM) -> list[str]:
    return [story.verdict for story in (await explain(world, seq, topic=topic)).connections]


async def store(world: World, count: int = 1, topic: str = ROOM) -> None:
    for _ in range(count):
        world.broker.store(topic)
    await turns()


async def test_who_is_live_was_sent_it_and_who_comes_later_was_not(world: World) -> None:
    await world.start()
    await world.subscribed(ROOM)
    await store(world, 3)
    await world.subscribed(ROOM)
    assert await verdicts(world, 2) == ["sent", "subscribed behind it"]
    story = await explain(world, 2)
    assert story.heard_at is not None
    assert (story.seq, story.subscribers, story.notes_since) == (3, 2, 0.0)
    assert await verdicts(world, 4) == ["has not come to this worker"] * 2
    assert (await explain(world, 4)).heard_at is None
    assert (await explain(world, 2, "bob")).connections == []
    assert (await explain(world, 2, None)).connections == []
    await world.stop()


async def test_a_slow_reader_is_told_of_and_what_it_was_sent_later(world: World) -> None:
    await world.start()
    slow = await world.subscribed(ROOM)
    await store(world)
    slow.fill()
    await store(world, 3)
    assert await verdicts(world, 1) == ["sent"]
    assert await verdicts(world, 3) == ["reads too slowly: has seen no more than 1"]
    slow.drain()
    await until(lambda: len(slow.of_type("message")) == 4)
    await store(world)
    assert [await verdicts(world, seq) for seq in (3, 5)] == [["sent in a replay"], ["sent"]]
    (story,) = (await explain(world, 3)).connections
    assert [step.what for step in story.steps] == ["subscribed", "lagging", "replayed"]
    await world.stop()


async def test_what_history_lost_meanwhile_was_told_as_a_gap(world: World) -> None:
    await world.start()
    slow = await world.subscribed(ROOM)
    slow.fill()
    await store(world, 9)
    world.broker.forget(ROOM, keep=3)
    slow.drain()
    await until(lambda: len(slow.of_type("message")) == 3)
    assert [await verdicts(world, seq) for seq in (6, 7)] == [
        ["told a gap: expired"],
        ["sent in a replay"],
    ]
    await world.stop()


async def test_where_only_the_latest_counts_the_gap_says_so(world: World) -> None:
    await world.start()
    slow = await world.subscribed("latest:a")
    slow.fill()
    await store(world, 9, "latest:a")
    slow.drain()
    await until(lambda: bool(slow.of_type("message")))
    found = [await verdicts(world, seq, "latest:a") for seq in (8, 9)]
    assert found == [["told a gap: skipped"], ["sent in a replay"]]
    await world.stop()


async def test_who_has_left_and_come_back_is_told_of_twice(world: World) -> None:
    await world.start()
    first = await world.subscribed(ROOM)
    await world.subscribed(ROOM, who=claims("bob"))
    await store(world)
    first.lose()
    await store(world, 2)
    assert await verdicts(world, 3) == ["left before it came"]
    epoch = (await answer(world.connect(claims("bob")), type="history", topic=ROOM))["epoch"]
    back = world.connect(claims())
    await answer(back, type="subscribe", topic=ROOM, since={"epoch": epoch, "seq": 1})
    await turns()
    assert await verdicts(world, 3) == ["left before it came", "sent in a replay"]
    assert await verdicts(world, 1) == ["sent", "subscribed behind it"]
    await world.stop()


async def test_who_comes_very_often_is_told_of_by_and_by(world: World) -> None:
    """Or somebody who subscribes all the time would let an operator's question hold the loop."""
    await world.start()
    await world.subscribed(ROOM, who=claims("bob"))
    here = world.node.hub.topics[ROOM].position
    for number in range(3 * MAX_STORIES):
        world.node.trail.subscribed(ROOM, FakeTransport(), here, f"s{number}", "alice")
    turns_meanwhile = 0

    def count() -> None:
        nonlocal turns_meanwhile
        turns_meanwhile += 1
        asyncio.get_running_loop().call_soon(count)

    count()
    sessions = [story.session for story in (await explain(world, 1)).connections]
    assert sessions == [f"s{number}" for number in range(2 * MAX_STORIES, 3 * MAX_STORIES)]
    assert turns_meanwhile >= MAX_STORIES
    await world.stop()


async def test_without_notes_only_what_is_there_now_is_known(world: World) -> None:
    world.node.trail.enabled = False
    await world.start()
    await world.subscribed(ROOM)
    await store(world)
    assert await verdicts(world, 1) == ["has not come to this worker"]
    await world.stop()


def test_the_notes_are_bounded_and_say_from_when_on_they_are_whole() -> None:
    from chat_server.events import Position

    trail = Trail(SystemClock(), 3)
    for seq in range(5):
        trail.heard(ROOM, Position("e", seq), Position("e", seq + 1))
    notes = list(trail.of_topic(ROOM))
    assert [note.seq for note in notes] == [3, 4, 5]
    assert trail.since == notes[0].at > 0
    assert Trail(SystemClock(), 0).since == float("inf")
