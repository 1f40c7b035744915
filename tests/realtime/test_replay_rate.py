"""Whoever resumes again and again has to wait, but nobody who resumes everything once."""

from typing import Any

import pytest

from ..support.fakes import turns
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
