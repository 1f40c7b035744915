"""How a stopping worker gets rid of its clients."""

import asyncio
from collections import Counter
from itertools import pairwise

import pytest

from chat_server.events import PublishResult
from chat_server.protocol.close_codes import CloseCode
from chat_server.realtime.drain import BATCH, Drain
from chat_server.realtime.registry import Registry

from ..rig.fakes import turns
from ..rig.waiting import until
from .clients import FakeClient
from .world import World, claims


def drain_within(seconds: float) -> tuple[Registry, Drain]:
    registry = Registry(per_user=1, per_address=1)
    return registry, Drain(registry, seconds)


async def test_draining_sends_every_client_elsewhere() -> None:
    registry, drain = drain_within(20.0)
    clients = [FakeClient(registry) for _ in range(20)]
    assert len(registry) == 20
    await drain.run()
    assert drain.begun
    assert len(registry) == 0
    waits = set()
    for client in clients:
        ((call, code, wait),) = client.calls
        assert (call, code) == ("close", CloseCode.RESTART)
        assert 0 < wait <= 1_000, "so few may come back within a second"
        waits.add(wait)
    assert len(waits) == 20


async def test_many_clients_come_back_spread_over_the_drain_time() -> None:
    registry, drain = drain_within(4.0)
    clients = [FakeClient(registry) for _ in range(2_000)]
    began = asyncio.get_running_loop().time()
    await drain.run()
    seconds = Counter(int(client.back_at - began) for client in clients)
    assert set(seconds) <= {0, 1, 2, 3, 4}
    for second in range(4):
        assert seconds[second] == pytest.approx(500, rel=0.2)
    assert 0 < drain.reconnect_in_ms() <= 4_000


async def test_many_clients_are_sent_away_in_batches() -> None:
    registry, drain = drain_within(60.0)
    clients = [FakeClient(registry) for _ in range(3 * BATCH)]
    task = asyncio.get_running_loop().create_task(drain.run())
    left = []
    while not task.done():
        left.append(len(registry))
        await asyncio.sleep(0)
    assert {3 * BATCH, 2 * BATCH, BATCH} <= set(left)
    assert all(before - after <= BATCH for before, after in pairwise(left))
    assert all(len(client.calls) == 1 for client in clients)


async def test_batches_leave_half_of_the_drain_time() -> None:
    registry, drain = drain_within(2.0)
    clients = [FakeClient(registry, stubborn=True) for _ in range(20 * BATCH)]
    loop = asyncio.get_running_loop()
    began = loop.time()
    task = loop.create_task(drain.run())
    await until(lambda: all(client.calls for client in clients))
    assert [call[0] for call in clients[0].calls] == ["close"], "all were asked before any abort"
    await task
    assert loop.time() - began >= 2.0
    assert len(registry) == 0


async def test_who_goes_by_itself_is_not_sent_away() -> None:
    registry, drain = drain_within(60.0)
    clients = [FakeClient(registry) for _ in range(2 * BATCH)]
    task = asyncio.get_running_loop().create_task(drain.run())
    await turns()
    [*waiting] = [client for client in clients if not client.calls]
    for client in waiting:
        registry.remove(client)
    await task
    assert not any(client.calls for client in waiting)


async def test_draining_aborts_who_does_not_go() -> None:
    registry, drain = drain_within(0.05)
    stubborn, willing = FakeClient(registry, stubborn=True), FakeClient(registry)
    await drain.run()
    assert [call[0] for call in stubborn.calls] == ["close", "abort"]
    assert [call[0] for call in willing.calls] == ["close"]
    assert len(registry) == 0


async def test_draining_without_clients_takes_no_time() -> None:
    _, drain = drain_within(1_000.0)
    async with asyncio.timeout(90):
        await drain.run()
        await drain.run()


async def test_real_connections_are_drained(world: World) -> None:
    transports = [await world.subscribed("room:a", "room:b") for _ in range(3)]
    late = world.connect(claims())
    drain = asyncio.get_running_loop().create_task(world.node.drain.run())
    await turns()
    refused = world.connect(claims("bob"))
    await turns()
    for transport in (*transports, late, refused):
        assert transport.closed is not None
        assert transport.closed[0] == CloseCode.RESTART
        assert transport.messages[-1]["type"] == "goodbye"
        transport.lose()
    await drain
    assert world.node.hub.topic_count == 0


async def test_commands_under_way_are_answered_before_the_end(world: World) -> None:
    transport = await world.subscribed("room:a")
    world.broker.publications = []
    transport.say(type="publish", topic="room:a", data=1, id=7)
    drain = asyncio.get_running_loop().create_task(world.node.drain.run())
    await turns()
    assert transport.messages == [], "sent away without an answer"
    world.broker.publications[0].set_result(PublishResult(1, "e", 1))
    await turns()
    assert [m["type"] for m in transport.messages] == ["ok", "goodbye"]
    assert transport.messages[0]["id"] == 7
    assert transport.closed is not None
    transport.lose()
    await drain
