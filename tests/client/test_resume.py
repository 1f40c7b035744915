"""How subscriptions come back on a new connection, a few at a time and each for itself."""

from contextlib import AsyncExitStack

import pytest

from chat_server.client import ClientState, CommandFailed
from chat_server.client.subscription import SubscriptionState
from chat_server.client.subscriptions import MAX_RESUMES_AT_ONCE
from chat_server.protocol import commands
from tests.client.conftest import Connect
from tests.client.helpers import message
from tests.rig.fake_server import FakeServer
from tests.rig.waiting import until


async def test_a_refusal_to_resume_ends_the_subscription(
    server: FakeServer, client: Connect
) -> None:
    async with client() as chat, chat.subscribe("room:a") as room:
        server.refuse("subscribe", "forbidden")
        server.drop()
        with pytest.raises(CommandFailed, match="forbidden"):
            await anext(room)
        async with chat.subscribe("room:a") as again:
            await chat.publish("room:a", 1)
            assert (await message(again)).data == 1


async def test_a_passing_refusal_to_resume_is_waited_for(
    server: FakeServer, client: Connect
) -> None:
    async with client() as chat, chat.subscribe("room:a") as room:
        server.refuse("subscribe", "unavailable", retry_in_ms=5)
        server.refuse("subscribe", "rate_limited", retry_in_ms=5)
        server.drop()
        await server.publish("room:a", "missed")
        assert (await message(room)).data == "missed"
    assert len(server.received(commands.Subscribe)) == 4


async def test_many_subscriptions_come_back_a_few_at_a_time(
    server: FakeServer, client: Connect
) -> None:
    """One that is refused waits for itself, and holds up no other."""
    async with AsyncExitStack() as stack:
        chat = await stack.enter_async_context(client())
        rooms = [
            await stack.enter_async_context(chat.subscribe(f"room:{number}"))
            for number in range(60)
        ]
        server.silent.add("subscribe")
        server.drop()
        await until(lambda: len(server.received(commands.Subscribe)) >= 60 + MAX_RESUMES_AT_ONCE)
        assert await chat.ping() > 0
        assert len(server.received(commands.Subscribe)) == 60 + MAX_RESUMES_AT_ONCE
        server.silent.clear()
        server.refuse("subscribe", "unavailable", retry_in_ms=60_000)
        server.drop()
        await until(lambda: sum(room.state is SubscriptionState.LIVE for room in rooms) == 59)
    assert 1 < MAX_RESUMES_AT_ONCE < 50


async def test_an_application_that_throws_in_on_state_is_connected_all_the_same(
    server: FakeServer, client: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    def on_state(state: ClientState, reason: str) -> None:
        raise KeyError(state)

    async with client(on_state=on_state) as chat, chat.subscribe("room:a") as room:
        server.drop()
        await server.publish("room:a", "missed")
        assert (await message(room)).data == "missed"
        assert chat.online
    assert "on_state failed" in caplog.text


async def test_many_subscriptions_in_a_row_wait_for_the_rate_limit(
    server: FakeServer, client: Connect
) -> None:
    for _ in range(3):
        server.refuse("subscribe", "rate_limited", retry_in_ms=5)
    async with client() as chat, chat.subscribe("room:a") as room:
        await server.publish("room:a", 1)
        assert (await message(room)).data == 1
