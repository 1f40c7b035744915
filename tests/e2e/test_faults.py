"""Redis and workers come and go; clients lose nothing without being told, and nothing has to be
restarted by hand."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from tests.rig.chat_client import Chat, Closed, chat
from tests.rig.raw_client import RawClient, request
from tests.rig.redis_server import KEPT, RedisServer, running
from tests.rig.rfc6455 import text
from tests.rig.server import ServerProcess
from tests.rig.waiting import SECONDS, until
from tests.server.processes import ready_workers, rss, runs, worker_of, workers

from .cluster import KeptAlive, health, one_on_each, until_health
from .differences import way
from .room import token

ENVIRON = {
    "CHAT_AUTH__AUDIENCE": "chat",
    "CHAT_LIMITS__MAX_CONNECTIONS_PER_USER": "10000",
    "CHAT_LIMITS__MESSAGES_PER_SECOND": "1000000",
    "CHAT_LIMITS__MESSAGE_BURST": "1000000",
    "CHAT_LOG__LEVEL": "INFO",
    "CHAT_REDIS__TIMEOUT_SECONDS": "6",
}

AT_ONCE_SECONDS = 5.0


@pytest.fixture(scope="module")
def redis(transport: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis that forgets nothing when it is killed; another one for each transport."""
    with running(RedisServer(tmp_path_factory.mktemp("redis"), *KEPT)) as started:
        yield started


@pytest.fixture(scope="module")
def server(redis: RedisServer, transport: str) -> Iterator[ServerProcess]:
    flags = ("--workers", "2", "--redis-url", redis.url)
    environ = {**ENVIRON, **way(transport)}
    with ServerProcess(*flags, environ=environ) as started:
        yield started


async def receive_until(client: Chat, data: object) -> list[dict[str, Any]]:
    """Return the pushes up to the message with this data."""
    messages: list[dict[str, Any]] = []
    while not messages or messages[-1].get("data") != data:
        messages.append(await client.next())
    return messages


async def publish_when_possible(client: Chat, topic: str, data: object, key: str) -> int:
    """Publish, and again while the store is away; return the seq."""
    async with asyncio.timeout(SECONDS):
        while True:
            answer = await client.call(type="publish", topic=topic, data=data, key=key)
            if answer["type"] == "ok":
                return int(answer["seq"])
            assert answer["code"] == "unavailable", answer
            await asyncio.sleep(0.05)


async def check_refusals(server: ServerProcess, clients: list[Chat], topic: str) -> None:
    """Fail unless everything that needs the store is refused at once, and nothing else is."""
    for client in clients:
        for command in (
            {"type": "publish", "topic": topic, "data": "lost"},
            {"type": "signal", "topic": topic, "data": "lost"},
            {"type": "history", "topic": topic},
            {"type": "subscribe", "topic": f"{topic}:new"},
        ):
            began = time.monotonic()
            answer = await client.call(**command)
            assert (answer["type"], answer.get("code")) == ("error", "unavailable"), answer
            assert time.monotonic() - began < AT_ONCE_SECONDS, command
            if command["type"] == "publish":
                assert answer["retry_in_ms"] > 0
        assert (await client.call(type="ping"))["type"] == "pong"
    async with await RawClient.connect(server.port) as wire:
        http = KeptAlive(wire)
        refused = await http.publish(topic, "lost")
        assert (refused.status, refused.json()["code"]) == (503, "unavailable")
        assert int(refused.headers["retry-after"]) >= 1
        assert (await http.ask("GET", "/health/ready")).status == 503
        assert (await http.ask("GET", "/health/live")).status == 200


@pytest.mark.parametrize("outage", ["killed", "frozen"])
async def test_without_redis_it_says_so_and_goes_on_when_it_is_back(
    server: ServerProcess, redis: RedisServer, outage: str
) -> None:
    topic = f"room:{outage}"
    one, two = await one_on_each(server)
    async with one, two:
        places = [await client.ok(type="subscribe", topic=topic) for client in (one, two)]
        for number in range(5):
            await one.ok(type="publish", topic=topic, data=number)
        (redis.kill if outage == "killed" else redis.pause)()
        try:
            await until_health(server, "unavailable")
            await check_refusals(server, [one, two], topic)
        finally:
            (redis.start if outage == "killed" else redis.resume)()
        await until_health(server, "ok")
        assert (await request(server.port, "GET", "/health/ready")).status == 200
        await publish_when_possible(two, topic, "back", "back")
        for client, place in zip((one, two), places, strict=True):
            messages = await receive_until(client, "back")
            assert [m["seq"] for m in messages] == list(range(1, len(messages) + 1)), messages
            assert [m["data"] for m in messages if m["data"] != "lost"] == [0, 1, 2, 3, 4, "back"]
            since = {"epoch": place["epoch"], "seq": messages[-2]["seq"]}
            async with await chat(server.ws_url, token("late")) as late:
                answer = await late.ok(type="subscribe", topic=topic, since=since)
                assert (answer["recovered"], answer["replayed"]) == (True, 1)
    assert "Traceback" not in server.stderr


async def test_a_store_that_lost_everything_is_told_as_a_new_epoch(
    server: ServerProcess, redis: RedisServer
) -> None:
    topic = "room:wiped"
    one, two = await one_on_each(server)
    async with one, two:
        place = await one.ok(type="subscribe", topic=topic)
        await two.ok(type="subscribe", topic=topic)
        for number in range(5):
            await one.ok(type="publish", topic=topic, data=number)
        for client in (one, two):
            await receive_until(client, 4)
        redis.command("FLUSHALL")
        redis.command("CLIENT", "KILL", "TYPE", "pubsub")
        redis.command("CLIENT", "KILL", "TYPE", "normal")
        await publish_when_possible(one, topic, "new", "new")
        gaps = [await client.next() for client in (one, two)]
        seq = await publish_when_possible(one, topic, "newer", "newer")
        for client, gap in zip((one, two), gaps, strict=True):
            assert (gap["type"], gap["reason"], gap["after"]) == ("gap", "epoch_changed", 0)
            assert gap["epoch"] != place["epoch"]
            assert gap["before"] == 1, "nothing of the new order is missed"
            rest = await receive_until(client, "newer")
            assert [m["seq"] for m in rest] == list(range(1, seq + 1))
        since = {"epoch": place["epoch"], "seq": 5}
        async with await chat(server.ws_url, token("late")) as late:
            answer = await late.ok(type="subscribe", topic=topic, since=since)
            assert (answer["recovered"], answer["reason"]) == (False, "epoch_changed")
            assert answer["replayed"] == 0


async def test_lost_connections_to_redis_lose_no_message(
    server: ServerProcess, redis: RedisServer
) -> None:
    topic, rounds = "room:rolling", 6
    one, two = await one_on_each(server)
    async with one, two, await chat(server.ws_url, token("sender")) as sender:
        for client in (one, two):
            await client.ok(type="subscribe", topic=topic)
        enough = asyncio.Event()

        async def send() -> int:
            number = 0
            while not enough.is_set():
                number += 1
                await publish_when_possible(sender, topic, number, f"key-{number}")
            await publish_when_possible(sender, topic, "last", "last")
            return number

        async def disturb() -> None:
            for number in range(rounds):
                for kind in ("pubsub", "normal") if number % 2 else ("normal",):
                    await asyncio.to_thread(redis.command, "CLIENT", "KILL", "TYPE", kind)
                # Time to recover, and to send something.
                await until_health(server, "ok")
                await asyncio.sleep(0.1)
            enough.set()

        async with asyncio.timeout(250), asyncio.TaskGroup() as group:
            sending = group.create_task(send())
            group.create_task(disturb())
            received = [group.create_task(receive_until(client, "last")) for client in (one, two)]
        count = sending.result()
        assert count > rounds
        for messages in (task.result() for task in received):
            assert {m["type"] for m in messages} == {"message"}, "nothing was lost in Redis"
            assert [m["seq"] for m in messages] == list(range(1, count + 2))
            assert [m["data"] for m in messages] == [*range(1, count + 1), "last"], "a repeat"


@pytest.fixture
def brisk(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that writes nothing to the disk."""
    with running(RedisServer(tmp_path)) as started:
        yield started


async def test_a_paused_redis_stops_the_reading_of_who_publishes(
    brisk: RedisServer, transport: str
) -> None:
    """5,000 publications are sent at once, and 64 of them may wait in the server."""
    topic, count = "room:paused", 5_000
    environ = {
        **ENVIRON,
        **way(transport),
        "CHAT_REDIS__TIMEOUT_SECONDS": "15",
    }
    with ServerProcess("--redis-url", brisk.url, environ=environ) as server:
        async with await RawClient.open(server.port, token=token()) as client:
            await client.read_message()
            data = "x" * 4_000
            publications = [
                text({"type": "publish", "id": number, "topic": topic, "data": data})
                for number in range(1, count + 1)
            ]
            whole = b"".join(publications)
            await client.send(text({"type": "publish", "topic": topic, "data": 0}))
            brisk.pause()
            try:
                before = rss(server.pid)
                sent = await client.send_what_fits(whole, patience=1.0)
                assert sent < len(whole), "the server took everything"
                assert rss(server.pid) - before < 16 * 2**20
                async with await chat(server.ws_url, token("other")) as other:
                    assert (await other.call(type="ping"))["type"] == "pong"
            finally:
                brisk.resume()
            sending = asyncio.create_task(client.send(whole[sent:]))
            for number in range(1, count + 1):
                answer = await client.read_message()
                assert (answer["type"], answer["id"], answer["seq"]) == ("ok", number, number + 1)
            await sending


class Resuming:
    """A client that comes back wherever it can, and resumes where it was."""

    def __init__(self, url: str, topic: str) -> None:
        self._url = url
        self._topic = topic
        self.client: Chat | None = None
        self.place: dict[str, Any] | None = None
        self.seqs: list[int] = []
        self.resumed = 0

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Chat]:
        while True:
            with suppress(OSError, Closed):
                self.client = await chat(self._url, token("resuming"))
                break
            await asyncio.sleep(0.05)
        async with self.client:
            yield self.client

    async def follow(self, last: int) -> None:
        """Receive until the message with seq `last`."""
        while not self.seqs or self.seqs[-1] < last:
            with suppress(Closed):
                async with self.connected() as client:
                    await self._follow(client, last)

    async def _follow(self, client: Chat, last: int) -> None:
        command: dict[str, Any] = {"type": "subscribe", "topic": self._topic}
        if self.place is not None:
            command["since"] = self.place
        answer = await client.ok(**command)
        if self.place is None:
            self.place = {"epoch": answer["epoch"], "seq": answer["seq"]}
        else:
            assert answer["recovered"], answer
            self.resumed += 1
        while not self.seqs or self.seqs[-1] < last:
            message = await client.next()
            assert message["type"] in ("message", "goodbye"), message
            if message["type"] == "message":
                self.seqs.append(message["seq"])
                self.place["seq"] = message["seq"]


async def send(server: ServerProcess, topic: str, count: int, *, pace: float = 0.003) -> None:
    """Publish the numbers up to `count`, each until it is acknowledged."""
    number = 1
    while number <= count:
        with suppress(Closed, OSError):
            async with await chat(server.ws_url, token("sender")) as sender:
                while number <= count:
                    key = f"key-{number}"
                    await sender.ok(type="publish", topic=topic, data=number, key=key)
                    number += 1
                    await asyncio.sleep(pace)


async def test_killed_workers_cost_resuming_clients_nothing(
    server: ServerProcess, redis: RedisServer
) -> None:
    topic, count = "room:killed-worker", 600
    pids = await ready_workers(server, 2)
    clients = [Resuming(server.ws_url, topic) for _ in range(10)]
    async with asyncio.timeout(250), asyncio.TaskGroup() as group:
        for client in clients:
            group.create_task(client.follow(count))
        await until(lambda: all(client.place for client in clients))

        sending = group.create_task(send(server, topic, count))
        await until(lambda: all(len(client.seqs) > 50 for client in clients))
        assert clients[0].client
        first = worker_of(clients[0].client)
        [second] = pids - {first}
        os.kill(first, signal.SIGKILL)
        await until(lambda: not runs(first))
        await until(lambda: len(workers(server.pid)) == 2)
        await ready_workers(server, 2)
        if not sending.done():
            os.kill(second, signal.SIGKILL)
    for client in clients:
        assert client.seqs == list(range(1, count + 1)), "a hole or a repeat"
    assert sum(client.resumed for client in clients) >= 1
    await ready_workers(server, 2)


@pytest.mark.parametrize("crowd", [100, pytest.param(500, marks=pytest.mark.extra)])
async def test_a_storm_of_resumes_costs_nobody_anything(server: ServerProcess, crowd: int) -> None:
    topic, count = f"room:storm:{crowd}", 150
    old = await ready_workers(server, 2)
    clients = [Resuming(server.ws_url, topic) for _ in range(crowd)]
    async with asyncio.timeout(250), asyncio.TaskGroup() as group:
        for client in clients:
            group.create_task(client.follow(count))
        await until(lambda: all(client.place for client in clients))
        group.create_task(send(server, topic, count, pace=0.02))
        await until(lambda: all(len(client.seqs) > 10 for client in clients))
        for pid in old:
            os.kill(pid, signal.SIGKILL)
    for client in clients:
        assert client.seqs == list(range(1, count + 1)), "a hole or a repeat"
        assert client.resumed >= 1
    await ready_workers(server, 2)


async def test_a_restarted_server_without_redis_begins_a_new_epoch() -> None:
    with ServerProcess(environ=ENVIRON) as server:
        async with await chat(server.ws_url, token("ada")) as ada:
            place = await ada.ok(type="subscribe", topic="room:a")
            await ada.ok(type="publish", topic="room:a", data="before")
            seq = (await ada.next())["seq"]
            await asyncio.to_thread(server.stop)
            assert await ada.closed() == 1012
            assert ada.unread[-1]["type"] == "goodbye"
        await asyncio.to_thread(server.start)
        async with await chat(server.ws_url, token("ada")) as ada:
            since = {"epoch": place["epoch"], "seq": seq}
            answer = await ada.ok(type="subscribe", topic="room:a", since=since)
            assert (answer["recovered"], answer["reason"]) == (False, "epoch_changed")
            assert answer["epoch"] != place["epoch"]
            await ada.ok(type="publish", topic="room:a", data="after")
            message = await ada.next()
            assert (message["seq"], message["data"]) == (answer["seq"] + 1, "after")


async def test_it_starts_without_redis_and_becomes_ready(tmp_path: Path) -> None:
    late = RedisServer(tmp_path)
    environ = {**ENVIRON, "CHAT_REDIS__URL": late.url}
    server = ServerProcess(environ=environ)
    starting = asyncio.create_task(asyncio.to_thread(server.__enter__))
    try:
        async with asyncio.timeout(SECONDS):
            while True:
                with suppress(OSError):
                    if (await request(server.port, "GET", "/health/live")).status == 200:
                        break
                await asyncio.sleep(0.05)
        assert (await request(server.port, "GET", "/health/ready")).status == 503
        # It does not know yet whom operators keep out.
        with pytest.raises(InvalidStatus) as early:
            await chat(server.ws_url, token("early"))
        assert early.value.response.status_code == 503
        assert early.value.response.headers["Retry-After"]
        await asyncio.to_thread(late.start)
        await starting
        async with await chat(server.ws_url, token("early")) as chatter:
            await chatter.ok(type="subscribe", topic="room:a")
            await chatter.ok(type="publish", topic="room:a", data=1)
            assert (await chatter.next())["data"] == 1
    finally:
        await starting
        await asyncio.to_thread(server.__exit__, None, None, None)
        late.stop()


async def test_health_names_the_store(server: ServerProcess) -> None:
    for answer in (await health(server)).values():
        assert answer["checks"]["broker"]["status"] == "ok"
        assert 0 < answer["checks"]["broker"]["latency_ms"] < 5_000
