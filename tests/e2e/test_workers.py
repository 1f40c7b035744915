"""Two workers and a real Redis are one server: every subscriber sees everything once, in order."""

import asyncio
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from tests.rig.chat_client import JSON, MSGPACK, Chat, chat
from tests.rig.raw_client import RawClient
from tests.rig.redis_server import RedisServer
from tests.rig.rfc6455 import closing, text
from tests.rig.server import ServerProcess

from .cluster import KeptAlive, health, one_on_each
from .differences import way
from .room import token

CLIENTS = 50
ROOMS = 20
ROOMS_EACH = 2
MESSAGES = 10_000

ENVIRON = {
    "CHAT_AUTH__AUDIENCE": "chat",
    "CHAT_LIMITS__MAX_CONNECTIONS_PER_USER": "10000",
    "CHAT_LIMITS__MESSAGES_PER_SECOND": "1000000",
    "CHAT_LIMITS__MESSAGE_BURST": "1000000",
}


@pytest.fixture(scope="module")
def server(transport: str, redis: RedisServer) -> Iterator[ServerProcess]:
    environ = {**way(transport), "CHAT_REDIS__PREFIX": transport, **ENVIRON}
    flags = ("--workers", "2", "--redis-url", redis.url)
    with ServerProcess(*flags, environ=environ) as running:
        yield running


class Member:
    """A client with what it has seen, room by room."""

    def __init__(self, number: int, client: Chat) -> None:
        self.number = number
        self.client = client
        self.rooms = [f"room:{(number * ROOMS_EACH + n) % ROOMS}" for n in range(ROOMS_EACH)]
        self.seen: dict[str, list[tuple[int, Any]]] = defaultdict(list)
        self.answered = 0

    async def send_all(self, targets: list[str]) -> None:
        """Publish to one room after another, not waiting for answers."""
        for count, room in enumerate(targets, start=1):
            await self.client.send(type="publish", id=count, topic=room, data=[self.number, count])

    async def read_until(self, answers: int, expected: Counter[str]) -> None:
        """Read that many answers, and as many messages as the rooms will have."""
        missing = sum(expected[room] for room in self.rooms)
        while missing or self.answered < answers:
            message = await self.client.next()
            if message["type"] == "message":
                missing -= 1
                self.seen[message["topic"]].append((message["seq"], message["data"]))
            else:
                assert message["type"] == "ok", message
                self.answered += 1
                assert message["id"] == self.answered, "answers out of order"


@pytest.mark.usefixtures("quiet")
async def test_every_subscriber_sees_every_message_once_and_in_order(
    server: ServerProcess,
) -> None:
    await health(server)
    async with AsyncExitStack() as stack:
        members = []
        for number in range(CLIENTS):
            encoding = MSGPACK if number % 2 else JSON
            client = await chat(server.ws_url, token(f"user-{number}"), encoding=encoding)
            members.append(Member(number, await stack.enter_async_context(client)))
        workers = Counter(member.client.welcome["server"] for member in members)
        assert len(workers) == 2, f"all on one worker: {workers}"
        assert min(workers.values()) >= 5, workers
        for member in members:
            for room in member.rooms:
                await member.client.ok(type="subscribe", topic=room)

        # Everybody publishes everywhere, also where they are not subscribed.
        each = MESSAGES // CLIENTS
        targets = {
            member.number: [f"room:{(member.number + n) % ROOMS}" for n in range(each)]
            for member in members
        }
        expected = Counter(itertools.chain.from_iterable(targets.values()))
        assert expected.total() == MESSAGES
        async with asyncio.timeout(380), asyncio.TaskGroup() as group:
            for member in members:
                group.create_task(member.send_all(targets[member.number]))
                group.create_task(member.read_until(each, expected))

        check_all_saw_the_same(members, expected)
        await asyncio.gather(*(check_nothing_follows(member) for member in members))


def check_all_saw_the_same(members: list[Member], expected: Counter[str]) -> None:
    """Fail unless all members of a room saw the same, without a hole or a repeat."""
    told: dict[str, list[tuple[int, Any]]] = {}
    for member in members:
        assert set(member.seen) == set(member.rooms)
        for room, messages in member.seen.items():
            assert [seq for seq, _ in messages] == list(range(1, expected[room] + 1)), room
            assert messages == told.setdefault(room, messages), f"{room} differs"
    for messages in told.values():
        counts: dict[int, int] = {}
        for _, (sender, count) in messages:
            assert counts.get(sender, 0) < count, "a sender's messages changed places"
            counts[sender] = count


async def check_nothing_follows(member: Member) -> None:
    """Fail if something was waiting that nobody expected."""
    pong = await member.client.call(type="ping")
    assert pong["type"] == "pong"
    assert member.client.unread == []


@pytest.mark.usefixtures("quiet")
async def test_http_on_one_worker_reaches_websockets_on_the_other(server: ServerProcess) -> None:
    one, two = await one_on_each(server)
    async with one, two, await RawClient.connect(server.port) as wire:
        for client in (one, two):
            await client.ok(type="subscribe", topic="room:http")
        http = KeptAlive(wire)
        node = (await http.ask("GET", "/health")).json()["node"]
        assert node in (one.welcome["server"], two.welcome["server"])
        for number in range(1, 21):
            answer = await http.publish("room:http", number)
            assert (answer.status, answer.json()["seq"]) == (201, number)
        for client in (one, two):
            assert [(await client.next())["data"] for _ in range(20)] == list(range(1, 21))
        answer = await http.ask("GET", "/api/topics/room:http/messages?limit=5")
        assert [m["data"] for m in answer.json()["messages"]] == [16, 17, 18, 19, 20]


@pytest.mark.usefixtures("quiet")
async def test_a_key_holds_on_every_worker(server: ServerProcess) -> None:
    one, two = await one_on_each(server)
    async with one, two:
        first = await one.ok(type="publish", topic="room:key", data="a", key="k")
        again = await two.ok(type="publish", topic="room:key", data="b", key="k")
        assert (first["duplicate"], again["duplicate"]) == (False, True)
        assert again["seq"] == first["seq"]


@pytest.mark.usefixtures("quiet")
async def test_a_client_resumes_on_the_other_worker(server: ServerProcess) -> None:
    one, two = await one_on_each(server)
    async with one, two:
        place = await one.ok(type="subscribe", topic="room:resume")
        for number in range(1, 11):
            await two.ok(type="publish", topic="room:resume", data=number)
        seen = [(await one.next())["seq"] for _ in range(4)]
        await one.websocket.close()
        since = {"epoch": place["epoch"], "seq": seen[-1]}
        answer = await two.ok(type="subscribe", topic="room:resume", since=since)
        assert (answer["recovered"], answer["replayed"], answer["seq"]) == (True, 6, 10)
        assert [(await two.next())["data"] for _ in range(6)] == [5, 6, 7, 8, 9, 10]


@pytest.mark.usefixtures("quiet")
async def test_signals_reach_all_workers_and_are_not_kept(server: ServerProcess) -> None:
    one, two = await one_on_each(server)
    async with one, two:
        for client in (one, two):
            await client.ok(type="subscribe", topic="room:signal")
        await one.ok(type="signal", topic="room:signal", data="typing")
        for client in (one, two):
            signal = await client.next()
            assert (signal["type"], signal["data"]) == ("signal", "typing")
            assert "seq" not in signal
        history = await one.ok(type="history", topic="room:signal")
        assert history["messages"] == []


@pytest.mark.usefixtures("quiet")
async def test_what_came_before_the_clients_close_is_done(server: ServerProcess) -> None:
    """A bot says something and hangs up, as soon as it may."""
    async with await chat(server.ws_url, token("watcher")) as watcher:
        for number in range(20):
            topic = f"room:bot:{number}"
            async with await RawClient.open(server.port, token=token("bot")) as bot:
                await bot.read_message()
                await bot.send(
                    text({"type": "subscribe", "topic": topic}),
                    text({"type": "publish", "topic": topic, "data": "said"}),
                    closing(1000),
                )
                assert (await bot.read_to_close())[0] == 1000
            # Under the ASGI transport the server below answers the close without waiting.
            async with asyncio.timeout(90):
                messages: list[dict[str, Any]] = []
                while not messages:
                    messages = (await watcher.ok(type="history", topic=topic))["messages"]
            assert [m["data"] for m in messages] == ["said"], number
