"""Lists for operators, while what they list comes and goes."""

import asyncio

import msgspec
import pytest

from chat_server.broker.memory_orders import MemoryOrders
from chat_server.operators import looking
from chat_server.operators.hands import Hands
from chat_server.operators.keeper import Keeper
from chat_server.operators.looking import Looking
from chat_server.operators.questions import TopicRow, TopicsQuery

from ..realtime.world import World
from ..rig.fakes import turns


async def test_a_topic_that_closes_meanwhile_hides_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(looking, "AT_ONCE", 1)
    world = World()
    await world.start()
    first, *_ = [await world.subscribed(topic) for topic in ("room:a", "room:b", "room:c")]
    orders = MemoryOrders(world.clock, lambda: True)
    keeper = Keeper(orders, world.node, Hands(world.node))
    asking = asyncio.create_task(
        Looking(world.node, keeper).topics(TopicsQuery(limit=1), ("**",), "op")
    )
    await asyncio.sleep(0)
    first.lose()
    rows, more = await asking
    assert [msgspec.json.decode(row, type=TopicRow).topic for row in rows] == ["room:a"]
    assert more, "room:b and room:c are on the next page"
    await turns()
    await world.stop()
