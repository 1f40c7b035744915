"""The client against the real server, where its idea of the protocol has to prove itself."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from chat_server.client import (
    Backoff,
    ClientState,
    CommandFailed,
    Gap,
    Position,
    TokenRejected,
    connect,
)
from chat_server.client.codec import Encoding
from chat_server.client.subscription import SubscriptionState
from tests.client.helpers import data, lasting_server, message, take
from tests.rig.redis_server import RedisServer
from tests.rig.server import ServerProcess, mint
from tests.rig.waiting import until


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ServerProcess]:
    async with lasting_server(tmp_path) as running:
        yield running


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
async def test_the_whole_vocabulary(server: ServerProcess, encoding: Encoding) -> None:
    values = [{"text": "grüße 👋"}, None, [1, -2.5, True], "x" * 30_000]
    async with connect(server.url, token=mint("alice"), encoding=encoding) as chat:
        assert (await chat.wait_online()).user == "alice"
        assert await chat.ping() > 0
        async with chat.subscribe("room:a") as room:
            for seq, value in enumerate(values, 1):
                assert (await chat.publish("room:a", value, key=f"k{seq}")).seq == seq
                assert (await message(room)).data == value
            assert (await chat.publish("room:a", "again", key="k1")).duplicate
            await chat.signal("room:a", {"typing": True})
            [signal] = await take(room, 1)
            assert not isinstance(signal, Gap)
            position = room.position
        assert position is not None
        page = await chat.history("room:a", before=3, limit=1)
        assert [m.data for m in page.messages] == [None]
        assert page.more
        async with chat.subscribe("room:a", last=2) as room:
            assert data(await take(room, 2)) == values[2:]
        async with chat.subscribe("room:a", since=Position(position.epoch, 1)) as room:
            assert data(await take(room, 3)) == values[1:]
        async with chat.subscribe("room:a", since=Position("other", 1)) as room:
            [gap] = await take(room, 1)
            assert isinstance(gap, Gap)
            assert (gap.after, gap.before, gap.reason) == (0, 5, "epoch_changed")
        with pytest.raises(CommandFailed, match="forbidden"):
            await chat.publish("private:a", 1)
        with pytest.raises(CommandFailed, match="too_large: message: may have 65536 bytes"):
            await chat.publish("room:a", "x" * 70_000)
        with pytest.raises(CommandFailed, match="bad_request"):
            await chat.publish("room a", 1)


async def test_rejected_tokens(server: ServerProcess) -> None:
    with pytest.raises(TokenRejected, match="signature"):
        async with connect(server.url, token=mint("alice")[:-6] + "AAAAAA"):
            pass


async def test_restarts_are_survived_without_loss_or_repeat(server: ServerProcess) -> None:
    """A publisher and two subscribers go on while the server is stopped, killed and started."""
    total = 200
    states: list[ClientState] = []
    async with AsyncExitStack() as stack:
        publisher, json, msgpack = [
            await stack.enter_async_context(
                connect(
                    server.url,
                    token=lambda: mint("alice"),
                    encoding="msgpack" if number == 2 else "json",
                    backoff=Backoff(first=0.05, longest=0.2),
                    on_state=lambda state, reason: states.append(state),
                )
            )
            for number in range(3)
        ]
        rooms = [
            await stack.enter_async_context(chat.subscribe("room:a")) for chat in (json, msgpack)
        ]

        async def publish() -> None:
            for number in range(total):
                await publisher.publish("room:a", number, key=f"k{number}", wait=True)
                if number == 50:
                    await asyncio.to_thread(server.stop)
                    await asyncio.to_thread(server.start)
                if number == 120:
                    await asyncio.to_thread(server.kill)
                    await asyncio.to_thread(server.start)

        task = asyncio.create_task(publish())
        seen = [[await message(room) for _ in range(total)] for room in rooms]
        await task
    for events in seen:
        assert [event.data for event in events] == list(range(total))
        assert [event.seq for event in events] == list(range(1, total + 1))
    assert states.count(ClientState.RECONNECTING) >= 6


async def test_an_expiring_token_is_refreshed_in_time(server: ServerProcess) -> None:
    """The tokens live for a second; the connection outlives two of them."""
    states: list[ClientState] = []
    tokens: list[str] = []

    def token() -> str:
        tokens.append(mint("alice", ttl_seconds=1))
        return tokens[-1]

    async with connect(
        server.url, token=token, on_state=lambda state, reason: states.append(state)
    ) as chat:
        async with asyncio.timeout(90):
            while len(tokens) < 3:
                await asyncio.sleep(0.05)
                await chat.ping()
    assert states == [ClientState.ONLINE, ClientState.CLOSED]


@pytest.mark.parametrize("takes", [0.0, 0.3, 1.0])
async def test_no_publication_is_refused_for_a_token_that_expires(
    server: ServerProcess, takes: float
) -> None:
    """Tokens of three seconds, one message every 20 ms, a function that takes its time."""

    async def token() -> str:
        await asyncio.sleep(takes)
        return mint("alice", ttl_seconds=3)

    loop = asyncio.get_running_loop()
    async with connect(server.url, token=token) as chat, chat.subscribe("room:a") as room:
        ends, count = loop.time() + 8, 0
        while loop.time() < ends:
            count += 1
            assert (await chat.publish("room:a", count)).seq == count
            await asyncio.sleep(0.02)
        assert [(await message(room)).data for _ in range(count)] == list(range(1, count + 1))


@pytest.mark.parametrize("burst", ["100", "100000"])
async def test_250_topics_are_live_again_within_seconds(tmp_path: Path, burst: str) -> None:
    """With a burst below their number as well: what is refused comes back at its own time."""
    environ = {"CHAT_LIMITS__MAX_TOPICS": "250", "CHAT_LIMITS__MESSAGE_BURST": burst}
    topics = [f"room:{number}" for number in range(250)]
    states: list[ClientState] = []
    redis = RedisServer(tmp_path)
    await asyncio.to_thread(redis.start)
    running = ServerProcess("--redis-url", redis.url, environ=environ)
    try:
        await asyncio.to_thread(running.__enter__)
        async with AsyncExitStack() as stack:
            chat = await stack.enter_async_context(
                connect(
                    running.url,
                    token=lambda: mint("alice"),
                    backoff=Backoff(first=0.1, longest=0.2),
                    on_state=lambda state, reason: states.append(state),
                )
            )
            rooms = [await stack.enter_async_context(chat.subscribe(topic)) for topic in topics]
            assert all(room.state is SubscriptionState.LIVE for room in rooms)
            await asyncio.to_thread(running.kill)
            await asyncio.to_thread(running.start)
            await until(lambda: states.count(ClientState.ONLINE) == 2)
            await until(lambda: all(room.state is SubscriptionState.LIVE for room in rooms), 45.0)
            assert chat.online
        assert states.count(ClientState.ONLINE) == 2, "the server closed the connection"
        await asyncio.to_thread(running.__exit__, None, None, None)
    finally:
        await asyncio.to_thread(redis.stop)
