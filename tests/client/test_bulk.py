"""`publish_all`: in order, each once, bounded, whatever the server or the network does."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing
from typing import Any

import msgspec
import pytest

from chat_server.client import CommandFailed, TimedOut, publish_all
from chat_server.protocol import commands
from chat_server.realtime.limits import TokenBucket
from tests.client.conftest import Connect
from tests.rig.fake_server import FakeServer
from tests.rig.waiting import until


async def each(items: Iterable[object]) -> AsyncIterator[object]:
    for item in items:
        yield item


def stored(server: FakeServer) -> list[Any]:
    return [message.data for message in server.topic("room:a").messages]


async def test_many_in_order(server: FakeServer, client: Connect) -> None:
    async with client() as chat:
        places = [p.seq async for p in publish_all(chat, "room:a", each(range(500)))]
    assert places == list(range(1, 501))
    assert stored(server) == list(range(500))


async def test_nothing_to_publish(server: FakeServer, client: Connect) -> None:
    async with client() as chat:
        assert [p async for p in publish_all(chat, "room:a", each([]))] == []


async def test_no_more_than_the_window_is_on_its_way(server: FakeServer, client: Connect) -> None:
    def fall_silent(command: commands.Command) -> None:
        if len(stored(server)) == 10:
            server.silent.add("publish")

    server.on_command = fall_silent
    taken = []

    async def items() -> AsyncIterator[object]:
        for number in range(100):
            taken.append(number)
            yield number

    async with client() as chat, aclosing(publish_all(chat, "room:a", items(), window=5)) as run:
        for _ in range(10):
            await anext(run)
        unanswered = asyncio.ensure_future(anext(run))
        await until(lambda: len(server.received(commands.Publish)) == 15)
        assert await chat.ping() > 0
        assert len(server.received(commands.Publish)) == 15
        assert len(taken) <= 16, "the source was read ahead"
        unanswered.cancel()
        await asyncio.wait([unanswered])


async def test_after_a_refusal_none_overtakes_it(server: FakeServer, client: Connect) -> None:
    for _ in range(3):
        server.refuse("publish", "rate_limited", retry_in_ms=1)
    async with client() as chat:
        assert [p.seq async for p in publish_all(chat, "room:a", each(range(50)))]
    assert stored(server) == list(range(50))


async def test_each_survives_lost_connections_and_is_stored_once(
    server: FakeServer, client: Connect
) -> None:
    rng = random.Random(3)

    def sometimes_break(command: commands.Command) -> None:
        if rng.random() < 0.03:
            server.drop()

    server.on_command = sometimes_break
    async with client() as chat:
        places = [p.seq async for p in publish_all(chat, "room:a", each(range(300)))]
    assert places == list(range(1, 301))
    assert stored(server) == list(range(300))
    assert len(server.tokens) > 3


@pytest.mark.parametrize("code", ["rate_limited", "unavailable"])
async def test_a_refusal_that_passes_is_waited_for(
    server: FakeServer, client: Connect, code: str
) -> None:
    """The server refuses everything for a while, as it does when its store is away."""
    async with client() as chat:
        for _ in range(8):
            server.refuse("publish", code, retry_in_ms=1)
        places = [p.seq async for p in publish_all(chat, "room:a", each(range(100)), window=8)]
    assert stored(server) == list(range(100))
    assert places == list(range(1, 101))
    keys = [command.key for command in server.received(commands.Publish)]
    assert len(set(keys)) == 100, "an item was published again with another key"


async def test_a_refusal_without_a_time_is_waited_for(
    server: FakeServer, client: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chat_server.client.ending.RETRY_SECONDS", 0.001)
    server.refuse("publish", "unavailable")
    async with client() as chat:
        assert [p.seq async for p in publish_all(chat, "room:a", each([1]))] == [1]


async def test_a_refusal_for_good_is_raised_behind_what_was_stored(
    server: FakeServer, client: Connect
) -> None:
    def refuse_the_fourth(command: commands.Command) -> None:
        if isinstance(command, commands.Publish) and msgspec.json.decode(command.data) == 3:
            server.refuse("publish", "too_large")

    server.on_command = refuse_the_fourth
    async with client() as chat:
        run = publish_all(chat, "room:a", each(range(10)))
        assert [(await anext(run)).seq for _ in range(3)] == [1, 2, 3]
        with pytest.raises(CommandFailed, match="too_large"):
            await anext(run)


async def test_an_error_of_the_source_is_raised_behind_what_was_stored(
    server: FakeServer, client: Connect
) -> None:
    async def items() -> AsyncIterator[object]:
        yield 1
        yield 2
        raise ValueError("line 3 is no JSON")

    async with client() as chat:
        run = publish_all(chat, "room:a", items())
        assert [(await anext(run)).seq for _ in range(2)] == [1, 2]
        with pytest.raises(ValueError, match="line 3"):
            await anext(run)
    assert stored(server) == [1, 2]


async def test_keeps_within_the_rate_limit_so_that_the_order_holds(
    server: FakeServer, client: Connect
) -> None:
    """A limiter like the real one refuses nothing, or what follows would overtake."""
    loop = asyncio.get_running_loop()
    server.limits = msgspec.structs.replace(
        server.limits, messages_per_second=100.0, message_burst=100
    )
    bucket = TokenBucket(100.0, 100, loop.time())

    def limit(command: commands.Command) -> None:
        wait = bucket.acquire(loop.time())
        if wait:
            server.refuse("publish", "rate_limited", retry_in_ms=1 + int(wait * 1000))

    server.on_command = limit
    async with client() as chat:
        places = [p.seq async for p in publish_all(chat, "room:a", each(range(150)))]
    assert places == list(range(1, 151))
    assert stored(server) == list(range(150))
    assert len(server.received(commands.Publish)) == 150, "something was refused"


async def test_one_published_now_and_then_leaves_at_once(
    server: FakeServer, client: Connect
) -> None:
    """It does not wait for the next, nor for the window to fill."""
    more = asyncio.Event()

    async def items() -> AsyncIterator[object]:
        yield 1
        await more.wait()
        yield 2

    async with client() as chat, aclosing(publish_all(chat, "room:a", items())) as run:
        async with asyncio.timeout(90):
            assert (await anext(run)).seq == 1
        more.set()
        assert (await anext(run)).seq == 2


async def test_closing_it_early_leaves_nothing_behind(server: FakeServer, client: Connect) -> None:
    server.silent.add("publish")
    async with client() as chat:
        async with aclosing(publish_all(chat, "room:a", each(range(100)))) as run:
            task = asyncio.ensure_future(anext(run))
            await until(lambda: server.received(commands.Publish))
            task.cancel()
            await asyncio.wait([task])
        assert await chat.ping() > 0


async def test_an_application_that_throws_when_told_of_a_refusal(
    server: FakeServer, client: Connect
) -> None:
    def on_refusal(error: CommandFailed) -> None:
        raise KeyError(error.code)

    server.refuse("publish", "unavailable", retry_in_ms=1)
    async with client() as chat:
        run = publish_all(chat, "room:a", each([1, 2]), window=1, on_refusal=on_refusal)
        assert [p.seq async for p in run] == [1, 2]


@pytest.mark.parametrize("silent", [True, False], ids=["sent", "not sent"])
async def test_an_item_that_is_not_stored_in_time(
    server: FakeServer, client: Connect, *, silent: bool
) -> None:
    go_on = asyncio.Event()

    async def items() -> AsyncIterator[object]:
        yield 1
        await go_on.wait()
        yield 2

    async with client() as chat:
        run = publish_all(chat, "room:a", items(), timeout=2)
        assert (await anext(run)).seq == 1
        if silent:
            server.silent.add("publish")
        else:
            await server.stop()
            await until(lambda: not chat.online)
        go_on.set()
        with pytest.raises(TimedOut, match=r"not stored within 2 s") as caught:
            await anext(run)
        assert caught.value.maybe_stored is silent
