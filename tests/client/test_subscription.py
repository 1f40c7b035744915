"""A subscription's promises: every event once and in order, over any number of connections."""

import asyncio
import random
from contextlib import AsyncExitStack

import pytest

from chat_server.client import CommandFailed, Event, Gap, Other, Position
from chat_server.protocol import commands, messages
from tests.client.conftest import Connect
from tests.client.helpers import data, take
from tests.rig.fake_server import FakeServer
from tests.rig.waiting import until


async def test_last_begins_with_stored_messages(server: FakeServer, client: Connect) -> None:
    for number in range(5):
        server.topic("room:a").append("room:a", number)
    async with client() as chat, chat.subscribe("room:a", last=3) as room:
        assert room.position == Position("e1", 2)
        await server.publish("room:a", "live")
        assert data(await take(room, 4)) == [2, 3, 4, "live"]
        assert room.position == Position("e1", 6)


async def test_the_position_follows_what_was_yielded(server: FakeServer, client: Connect) -> None:
    async with client() as chat:
        assert chat.subscribe("room:b").position is None
        async with chat.subscribe("room:a") as room:
            for number in range(3):
                await server.publish("room:a", number)
            await take(room, 2)
            position = room.position
        assert position == Position("e1", 2)
        async with chat.subscribe("room:a", since=position) as room:
            assert room.position == position
            assert data(await take(room, 1)) == [2]


async def test_since_and_last_exclude_each_other(client: Connect) -> None:
    with pytest.raises(ValueError, match="only one"):
        client().subscribe("room:a", last=1, since=Position("e1", 1))


async def test_resumes_without_a_hole_or_a_repeat(server: FakeServer, client: Connect) -> None:
    """Connections break at random places while a publisher goes on."""
    rng = random.Random(7)
    total = 300
    async with client() as chat, chat.subscribe("room:a") as room:

        async def publish() -> None:
            for number in range(total):
                await server.publish("room:a", number)
                if rng.random() < 0.05:
                    await until(lambda: server.connections)
                    await server.publish("room:a", "the last before")
                    server.drop()

        publisher = asyncio.create_task(publish())
        events = await take(room, total)
        await publisher
        events += await take(room, server.topic("room:a").seq - total)
    assert data(events) == [message.data for message in server.topic("room:a").messages]
    assert not any(isinstance(event, Gap) for event in events)
    assert len(server.tokens) > 5


async def test_repeated_events_are_dropped(server: FakeServer, client: Connect) -> None:
    async with client() as chat, chat.subscribe("room:a") as room:
        first = await server.publish("room:a", 1)
        await server.push(first)
        second = await server.publish("room:a", 2)
        await server.push(first)
        await server.push(second)
        await server.publish("room:a", 3)
        assert data(await take(room, 3)) == [1, 2, 3]


async def test_a_lost_history_becomes_a_gap(server: FakeServer, client: Connect) -> None:
    async with client() as chat, chat.subscribe("room:a") as room:
        await server.publish("room:a", 1)
        await take(room, 1)
        await server.stop()
        topic = server.topic("room:a")
        for number in range(5):
            topic.append("room:a", number)
        del topic.messages[:3]
        await server.start()
        gap, *_ = await take(room, 1)
        assert gap == Gap(topic="room:a", epoch="e1", after=1, before=7, reason="expired")
        assert room.position == Position("e1", 6)
        await server.publish("room:a", "live")
        assert data(await take(room, 1)) == ["live"]


@pytest.mark.parametrize("survivors", [0, 2, 9])
async def test_a_new_epoch_becomes_a_gap(
    server: FakeServer, client: Connect, survivors: int
) -> None:
    async with client() as chat, chat.subscribe("room:a") as room:
        for number in range(5):
            await server.publish("room:a", number)
        await take(room, 5)
        await server.stop()
        server.topic("room:a").restart("e2")
        for number in range(survivors):
            server.topic("room:a").append("room:a", number)
        await server.start()
        gap, *_ = await take(room, 1)
        assert gap == Gap(
            topic="room:a", epoch="e2", after=0, before=survivors + 1, reason="epoch_changed"
        )
        await server.publish("room:a", "live")
        assert data(await take(room, 1)) == ["live"]
        assert room.position == Position("e2", survivors + 1)


async def test_a_store_that_went_back_in_time_becomes_a_gap(
    server: FakeServer, client: Connect
) -> None:
    """The epoch is the same, but the newest messages are lost: their numbers come again."""
    async with client() as chat, chat.subscribe("room:a") as room:
        for number in range(5):
            await server.publish("room:a", number)
        await take(room, 5)
        await server.stop()
        topic = server.topic("room:a")
        topic.seq = 3
        del topic.messages[3:]
        await server.start()
        gap, *_ = await take(room, 1)
        assert gap == Gap(topic="room:a", epoch="e1", after=0, before=4, reason="epoch_changed")
        await server.publish("room:a", "other four")
        assert data(await take(room, 1)) == ["other four"]
        assert room.position == Position("e1", 4)


async def test_a_gap_of_the_server_moves_on(server: FakeServer, client: Connect) -> None:
    async with client() as chat, chat.subscribe("room:a") as room:
        await server.publish("room:a", 1)
        gap = Gap(topic="room:a", epoch="e1", after=1, before=9, reason="expired")
        await server.push(gap)
        server.topic("room:a").seq = 8
        await server.publish("room:a", 9)
        one, hole, nine = await take(room, 3)
        assert data([one, nine]) == [1, 9]
        assert hole == gap


async def test_a_hole_that_the_server_does_not_tell_of(server: FakeServer, client: Connect) -> None:
    async with client() as chat, chat.subscribe("room:a") as room:
        await server.publish("room:a", 1)
        server.topic("room:a").seq = 4
        await server.publish("room:a", 5)
        one, hole, five = await take(room, 3)
        assert data([one, five]) == [1, 5]
        assert hole == Gap(topic="room:a", epoch="e1", after=1, before=5, reason="skipped")


async def test_events_of_later_versions_keep_their_place(
    server: FakeServer, client: Connect
) -> None:
    """An event with a target is stored; of another the `seq` says nothing about its place."""
    async with client() as chat, chat.subscribe("room:a") as room:
        raw = b'{"type":"pinned","topic":"room:a","seq":1,"target":1,"data":"x"}'
        cursor = b'{"type":"seen","topic":"room:a","user":"bob","seq":99}'
        connection = server.connections[0]
        for frame in (raw, raw, cursor, b'{"type":"news","text":"for nobody"}'):
            await connection.send_raw(frame)
        server.topic("room:a").seq = 1
        await server.publish("room:a", 2)
        pinned, seen, message = await take(room, 3)
        assert isinstance(pinned, Other)
        assert (pinned.type, pinned.seq, pinned.fields["data"]) == ("pinned", 1, "x")
        assert isinstance(seen, Other)
        assert (seen.type, seen.seq) == ("seen", None)
        assert data([message]) == [2]


async def test_topics_do_not_mix(server: FakeServer, client: Connect) -> None:
    async with client() as chat, chat.subscribe("room:a") as a, chat.subscribe("room:b") as b:
        for number in range(3):
            await server.publish("room:a", f"a{number}")
            await server.publish("room:b", f"b{number}")
        assert data(await take(b, 3)) == ["b0", "b1", "b2"]
        assert data(await take(a, 3)) == ["a0", "a1", "a2"]


async def test_a_topic_is_subscribed_once(server: FakeServer, client: Connect) -> None:
    async with client() as chat, chat.subscribe("room:a"):
        with pytest.raises(CommandFailed, match="already_subscribed"):
            async with chat.subscribe("room:a"):
                pass
        await server.publish("room:a", 1)


async def test_a_topic_can_be_left_and_joined_again(server: FakeServer, client: Connect) -> None:
    async with client() as chat:
        for number in range(3):
            async with chat.subscribe("room:a") as room:
                await chat.publish("room:a", number)
                assert data(await take(room, 1)) == [number]
        await until(lambda: not server.connections[0].topics)


async def test_a_refused_subscription_leaves_nothing_behind(
    server: FakeServer, client: Connect
) -> None:
    server.refuse("subscribe", "forbidden")
    async with client() as chat:
        with pytest.raises(CommandFailed, match="forbidden"):
            async with chat.subscribe("room:a"):
                pass
        async with chat.subscribe("room:a") as room:
            await server.publish("room:a", 1)
            assert data(await take(room, 1)) == [1]


async def test_a_cancelled_subscription_is_taken_back(server: FakeServer, client: Connect) -> None:
    server.silent.add("subscribe")
    async with client() as chat:
        task = asyncio.create_task(chat.subscribe("room:a").__aenter__())
        await until(lambda: server.received(commands.Subscribe))
        task.cancel()
        await asyncio.wait([task])
        await until(lambda: server.received(commands.Unsubscribe))
        server.silent.clear()
        async with chat.subscribe("room:a"):
            pass


async def test_cancelled_at_every_turn_it_can_be_had_again(
    server: FakeServer, client: Connect
) -> None:
    async with client() as chat:

        async def visit() -> None:
            async with chat.subscribe("room:a") as room:
                await chat.publish("room:a", "x")
                await anext(room)

        for turns in range(30):
            task = asyncio.create_task(visit())
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            async with chat.subscribe("room:a") as room:
                await chat.ping()
                await server.publish("room:a", turns)
                events: list[Event] = []
                while turns not in data(events):
                    events += await take(room, 1)
        await until(lambda: not server.connections[0].topics)


async def test_an_end_that_the_server_refused_to_hear_of(
    server: FakeServer, client: Connect
) -> None:
    """It is told again when the topic is next subscribed."""
    async with client() as chat:
        server.refuse("unsubscribe", "rate_limited")
        async with chat.subscribe("room:a"):
            pass
        await chat.ping()
        assert server.connections[0].topics == {"room:a"}
        async with chat.subscribe("room:a") as room:
            await server.publish("room:a", 1)
            assert data(await take(room, 1)) == [1]


async def test_the_server_ends_a_subscription(server: FakeServer, client: Connect) -> None:
    async with client() as chat, chat.subscribe("room:a") as room:
        connection = server.connections[0]
        connection.topics.clear()
        await connection.send(
            messages.Error(code="forbidden", message="you were removed", topic="room:a")
        )
        with pytest.raises(CommandFailed, match="you were removed"):
            await anext(room)


async def test_the_server_interrupts_a_subscription(server: FakeServer, client: Connect) -> None:
    async with client() as chat, chat.subscribe("room:a") as room:
        connection = server.connections[0]
        connection.topics.clear()
        await server.publish("room:a", "missed")
        await connection.send(
            messages.Error(code="unavailable", message="lost its store", topic="room:a")
        )
        assert data(await take(room, 1)) == ["missed"]


async def test_several_consumers_share_a_subscription(server: FakeServer, client: Connect) -> None:
    async with client() as chat, chat.subscribe("room:a") as room:
        consumers = [asyncio.create_task(anext(room)) for _ in range(3)]
        await asyncio.sleep(0)
        for number in range(3):
            await server.publish("room:a", number)
        events = await asyncio.gather(*consumers)
        assert sorted(map(repr, data(events))) == ["0", "1", "2"]


async def test_a_cancelled_consumer_takes_nothing(server: FakeServer, client: Connect) -> None:
    async with client() as chat, chat.subscribe("room:a") as room:
        waiting = asyncio.create_task(anext(room))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        await server.publish("room:a", 1)
        assert data(await take(room, 1)) == [1]


async def test_what_is_left_is_left_however_often_the_server_refuses(
    server: FakeServer, client: Connect
) -> None:
    """As many as it takes, left all at once; there is room for as many others then."""
    for _ in range(40):
        server.refuse("unsubscribe", "rate_limited", retry_in_ms=10)
    async with client() as chat:
        async with AsyncExitStack() as stack:
            for number in range(20):
                await stack.enter_async_context(chat.subscribe(f"room:{number}"))
        server.refuse("subscribe", "too_many_topics")
        async with chat.subscribe("room:other"):
            await until(lambda: server.connections[0].topics == {"room:other"})
    assert not server.refusals["unsubscribe"]


async def test_too_many_topics_is_said_where_none_is_being_left(
    server: FakeServer, client: Connect
) -> None:
    server.refuse("subscribe", "too_many_topics")
    async with client() as chat:
        with pytest.raises(CommandFailed, match="too_many_topics"):
            async with chat.subscribe("room:a"):
                pass


async def test_what_has_no_form_on_the_wire_leaves_nothing_behind(
    server: FakeServer, client: Connect
) -> None:
    async with client() as chat:
        with pytest.raises(ValueError, match="surrogate"):
            async with chat.subscribe("room:\ud800"):
                pass
        async with chat.subscribe("room:a"):
            pass
        await until(lambda: not server.connections[0].topics)
        assert [c.topic for c in server.received(commands.Unsubscribe)] == ["room:a"]


async def test_a_subscription_is_entered_once(server: FakeServer, client: Connect) -> None:
    async with client() as chat:
        room = chat.subscribe("room:a")
        async with room:
            pass
        with pytest.raises(RuntimeError, match="a subscription can be entered only once"):
            async with room:
                pass


async def test_an_async_on_state_is_refused(client: Connect) -> None:
    async def on_state(state: object, reason: str) -> None:
        pass

    with pytest.raises(TypeError, match="on_state: must be a plain function"):
        client(on_state=on_state)
