"""What a slow consumer costs: bounded memory here, nothing lost that is stored."""

import asyncio

import pytest

from chat_server.client.flow import Flow
from chat_server.protocol import commands, messages
from tests.client.conftest import Connect
from tests.client.helpers import data, message, take
from tests.rig.fake_server import FakeServer
from tests.rig.waiting import until

BIG = "x" * 10_000


async def fill(server: FakeServer, topic: str, count: int) -> None:
    """Publish messages so big that they do not vanish in socket buffers."""
    for number in range(count):
        await server.publish(topic, {"n": number, "big": BIG})


async def test_a_slow_consumer_stops_the_server(server: FakeServer, client: Connect) -> None:
    count = 2000
    async with client(max_held=10) as chat, chat.subscribe("room:a") as room:
        publisher = asyncio.create_task(fill(server, "room:a", count))
        held = 0
        while (seq := server.topic("room:a").seq) != held:  # until it stands still
            held = seq
            await asyncio.sleep(0.05)
        assert held < count, "the server could send everything: nobody held it back"
        events = await take(room, count)
        await publisher
        assert data(events) == [{"n": n, "big": BIG} for n in range(count)]
        assert len(server.tokens) == 1


async def test_a_consumer_that_publishes_is_not_locked_out(
    server: FakeServer, client: Connect
) -> None:
    """The answer lies behind more events than may be held; they are dropped and asked for again."""
    count = 300
    async with client(max_held=10) as chat, chat.subscribe("room:a") as room:
        publisher = asyncio.create_task(fill(server, "room:a", count))
        seen = []
        async with asyncio.timeout(90):
            for number in range(count):
                seen.append((await message(room)).seq)
                await chat.publish("room:b", number)
        await publisher
    assert seen == list(range(1, count + 1))
    resumed = [c for c in server.received(commands.Subscribe) if c.since is not None]
    assert resumed, "nothing was dropped, so this test tests nothing"
    assert [m.data for m in server.topic("room:b").messages] == list(range(count))


async def test_the_bound_is_one_for_all_subscriptions(server: FakeServer, client: Connect) -> None:
    async with (
        client(max_held=10) as chat,
        chat.subscribe("room:a") as a,
        chat.subscribe("room:b") as b,
    ):
        await fill(server, "room:a", 30)
        await server.publish("room:b", "behind")
        waiting = asyncio.create_task(message(b))
        assert len(data(await take(a, 15))) == 15
        assert not waiting.done(), "it was read past the bound"
        assert len(data(await take(a, 15))) == 15
        assert (await waiting).data == "behind"


async def test_what_is_held_survives_a_lost_connection(server: FakeServer, client: Connect) -> None:
    async with client(max_held=5) as chat, chat.subscribe("room:a") as room:
        for number in range(20):
            await server.publish("room:a", number)
        await until(lambda: room.position is not None)
        server.drop()
        assert data(await take(room, 20)) == list(range(20))


async def test_signals_are_dropped_past_the_bound(server: FakeServer, client: Connect) -> None:
    async with client(max_held=2) as chat, chat.subscribe("room:a") as room:
        for number in range(5):
            await chat.signal("room:a", number)
        events = await take(room, 2)
        assert [event.data for event in events if isinstance(event, messages.SignalPush)] == [0, 1]
        await server.publish("room:a", "stored")
        assert (await message(room)).data == "stored"


async def test_leaving_a_full_subscription_makes_room(server: FakeServer, client: Connect) -> None:
    async with client(max_held=3) as chat, chat.subscribe("room:b") as b:
        async with chat.subscribe("room:a"):
            for number in range(10):
                await server.publish("room:a", number)
            await chat.ping()
        await server.publish("room:b", 1)
        assert (await message(b)).data == 1


@pytest.mark.parametrize("limit", [1, 2, 7])
async def test_any_limit_makes_headway(server: FakeServer, client: Connect, limit: int) -> None:
    async with client(max_held=limit) as chat, chat.subscribe("room:a") as room:
        for number in range(20):
            await chat.publish("room:a", number)
        assert data(await take(room, 20)) == list(range(20))


async def test_reading_goes_on_while_a_command_waits() -> None:
    flow = Flow(1)
    flow.add()
    reading = asyncio.create_task(flow.may_read())
    await asyncio.sleep(0)
    assert not reading.done()
    flow.begin_command()
    await reading
    flow.end_command()
    reading = asyncio.create_task(flow.may_read())
    await asyncio.sleep(0)
    assert not reading.done()
    flow.remove()
    await reading


async def test_large_events_are_bounded_by_their_bytes(
    server: FakeServer, client: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None is lost: what did not fit is asked for again."""
    monkeypatch.setattr(Flow.__init__, "__defaults__", (5 * len(BIG),))
    async with client(max_held=1_000) as chat, chat.subscribe("room:a") as room:
        publisher = asyncio.create_task(fill(server, "room:a", 100))
        await until(lambda: chat._flow.full)
        await chat.publish("room:b", 1)
        assert chat._flow._held <= 6
        assert data(await take(room, 100)) == [{"n": n, "big": BIG} for n in range(100)]
        await publisher
    assert chat._flow._held_bytes == 0
