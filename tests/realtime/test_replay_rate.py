"""Whoever reads again and again has to wait, but nobody who resumes everything once."""

from typing import Any

import pytest

from ..rig.fakes import turns
from .world import World, answer, claims

MAX_REPLAY, TOPICS = 10, 3


@pytest.mark.parametrize("how", ["since", "last"])
async def test_a_client_that_asks_for_everything_without_end(how: str) -> None:
    world = World(max_replay=MAX_REPLAY, max_topics=TOPICS, messages_per_second=1e6)
    await world.start()
    rooms = [f"room:{number}" for number in range(TOPICS)]
    for room in rooms:
        for _ in range(MAX_REPLAY):
            world.broker.store(room)
    client = world.connect(claims())

    async def resume(room: str) -> dict[str, Any]:
        start = {"epoch": world.broker.topic(room).epoch, "seq": 0}
        asked: Any = start if how == "since" else MAX_REPLAY
        return await answer(client, type="subscribe", topic=room, **{how: asked})

    for room in rooms:
        assert (await resume(room))["replayed"] == MAX_REPLAY
    await answer(client, type="unsubscribe", topic=rooms[0])
    before = list(world.broker.calls)
    reply = await resume(rooms[0])
    assert (reply["code"], reply["topic"]) == ("rate_limited", rooms[0])
    assert world.broker.calls == before, "the store is not asked"
    assert (await answer(client, type="subscribe", topic=rooms[0]))["type"] == "ok"
    await answer(client, type="unsubscribe", topic=rooms[0])
    world.clock.advance(reply["retry_in_ms"] / 1000)
    assert (await resume(rooms[0]))["replayed"] == MAX_REPLAY
    await turns()
    await world.stop()


KIB = 1024


async def test_coming_back_is_no_way_to_a_new_budget() -> None:
    world = World(max_replay=MAX_REPLAY, max_topics=1, messages_per_second=1e6)
    await world.start()
    for _ in range(MAX_REPLAY):
        world.broker.store("room:a")
    first = world.connect(claims())
    assert (await answer(first, type="subscribe", topic="room:a", last=MAX_REPLAY))[
        "replayed"
    ] == 10
    first.lose()
    again = world.connect(claims())
    reply = await answer(again, type="subscribe", topic="room:a", last=MAX_REPLAY)
    assert reply["code"] == "rate_limited"
    other = world.connect(claims("bob"))
    assert (await answer(other, type="subscribe", topic="room:a", last=MAX_REPLAY))["type"] == "ok"
    await world.stop()


@pytest.mark.parametrize(
    "command",
    [
        {"type": "history", "limit": 10},
        {"type": "history", "after": 0, "limit": 10},
        {"type": "subscribe", "last": 10},
        {"type": "subscribe", "since": {"epoch": "epoch0", "seq": 0}},
    ],
    ids=lambda command: "-".join(command),
)
async def test_reading_is_paid_for_by_what_was_read(command: dict[str, Any]) -> None:
    world = World(read_bytes_per_second=20.0 * KIB, read_burst_bytes=4 * KIB)
    await world.start()
    for _ in range(10):
        world.broker.store("room:a", "x" * KIB)
    size = sum(len(event.payload) for event in world.broker.topic("room:a").events)
    client = world.connect(claims())
    assert (await answer(client, topic="room:a", **command))["type"] == "ok"
    await turns()
    before = list(world.broker.calls)
    second = world.connect(claims())
    reply = await answer(second, type="history", topic="room:a")
    assert (reply["code"], reply["message"]) == (
        "rate_limited",
        "too much was read in too short a time",
    )
    assert reply["retry_in_ms"] == pytest.approx((size + 1 - 4 * KIB) / (20 * KIB) * 1000, abs=2)
    assert world.broker.calls == before, "the store is not asked"
    world.clock.advance(reply["retry_in_ms"] / 1000)
    assert (await answer(second, type="history", topic="room:a"))["type"] == "ok"
    await world.stop()


async def test_what_a_slow_client_catches_up_with_is_paid_for() -> None:
    world = World(read_bytes_per_second=1.0, read_burst_bytes=4 * KIB)
    await world.start()
    client = await world.subscribed("room:a")
    client.fill()
    for _ in range(10):
        world.broker.store("room:a", "x" * KIB)
    world.broker.deliver()
    client.drain()
    await turns()
    assert [m["seq"] for m in client.of_type("message")] == [*range(1, 11)]
    assert (await answer(client, type="history", topic="room:a"))["code"] == "rate_limited"
    await world.stop()


@pytest.mark.parametrize("size", [100, 40 * KIB])
async def test_the_last_events_are_replayed_whatever_their_size(size: int) -> None:
    """A read ends at a number of bytes; what was asked for comes all the same."""
    world = World(messages_per_second=1e6, read_bytes_per_second=1e9, read_burst_bytes=2**30)
    await world.start()
    for _ in range(60):
        world.broker.store("room:a", "x" * size)
    client = world.connect(claims())
    reply = await answer(client, type="subscribe", topic="room:a", last=50)
    assert (reply["recovered"], reply["replayed"]) == (True, 50)
    for _ in range(20):
        await turns()
    assert [m["seq"] for m in client.of_type("message")] == [*range(11, 61)]
    assert client.of_type("gap") == []
    await world.stop()


async def test_the_pages_of_a_replay_wait_for_their_turns() -> None:
    """Else a user who subscribes has what he missed ahead of everybody else's commands."""
    world = World(read_bytes_per_second=1.0)
    await world.start()
    for _ in range(100):
        world.broker.store("room:a", "x" * 40 * KIB)
    client = world.connect(claims())
    assert (await answer(client, type="subscribe", topic="room:a", last=100))["replayed"] == 100
    await turns()
    at_once = len(client.of_type("message"))
    assert 25 <= at_once < 100, "a MiB, and what one page adds"
    for _ in range(20):
        await turns()
    assert len(client.of_type("message")) == at_once
    await world.stop()


# How far back ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("age", "grants", "recovered"),
    [
        (599, ["subscribe"], True),
        (601, ["subscribe"], False),
        (601, ["subscribe", "history"], True),
    ],
)
async def test_without_history_a_resume_goes_back_a_short_while(
    age: float, grants: list[str], recovered: bool
) -> None:
    world = World(resume_seconds=600.0)
    await world.start()
    world.broker.store("room:a", "old", at=int((world.clock.time() - age) * 1000))
    world.broker.store("room:a", "new", at=int(world.clock.time() * 1000))
    granted: dict[str, Any] = dict.fromkeys(grants, ("**",))
    client = world.connect(claims(**granted))
    start = {"epoch": world.broker.topic("room:a").epoch, "seq": 0}
    reply = await answer(client, type="subscribe", topic="room:a", since=start)
    assert (reply["recovered"], reply["replayed"]) == (recovered, 2 * recovered)
    assert reply.get("reason") == (None if recovered else "expired")
    await turns()
    assert [m["data"] for m in client.of_type("message")] == ["old", "new"] * recovered
    # Behind what is too old it can resume as ever.
    await answer(client, type="unsubscribe", topic="room:a")
    reply = await answer(client, type="subscribe", topic="room:a", since={**start, "seq": 1})
    assert (reply["recovered"], reply["replayed"]) == (True, 1)
    await world.stop()
