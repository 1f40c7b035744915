"""Redis is cut off, restarted, frozen and replaced under two workers that publish and receive.

Whatever happens, each subscriber of each worker ends with every acknowledged message in order, or
was told which of them it has to give up.

`Rig.during(topic, fault)` publishes before, during and after a fault, and returns a `Story` for one
subscriber on each worker. A story holds what its subscriber was told; `check` compares that
with all that was acknowledged.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chat_server.broker.redis.broker import RedisBroker
from chat_server.settings import BrokerSettings
from tests.broker.helpers import Recorder, draft
from tests.rig.chat_client import Chat, chat
from tests.rig.ports import free_port
from tests.rig.proxy import RedisProxy
from tests.rig.redis_server import KEPT, RedisServer, patient, running
from tests.rig.server import ServerProcess
from tests.rig.waiting import SECONDS, until

from .cluster import health, one_on_each, until_health
from .differences import way
from .room import token

ENVIRON = {
    "CHAT_AUTH__AUDIENCE": "chat",
    "CHAT_LIMITS__MESSAGES_PER_SECOND": "1000000",
    "CHAT_LIMITS__MESSAGE_BURST": "1000000",
    "CHAT_LOG__LEVEL": "INFO",
    "CHAT_REDIS__TIMEOUT_SECONDS": "2",
}
FROZEN_SECONDS = 10.0
extra = pytest.mark.extra

Place = tuple[str, int]


class Rig:
    """A Redis, two workers behind a proxy to it, and a client that publishes.

    Attributes:
        redis: the server that faults are done to.
        proxy: what stands before it.
        server: the workers.
        acknowledged: the data of each publication that was answered by `ok`, by its place.
    """

    def __init__(self, redis: RedisServer, proxy: RedisProxy, server: ServerProcess) -> None:
        self.redis = redis
        self.proxy = proxy
        self.server = server
        self.acknowledged: dict[Place, object] = {}

    async def publish(self, client: Chat, topic: str, data: object) -> Place:
        """Publish, again and again while the store is away."""
        async with asyncio.timeout(SECONDS):
            while True:
                answer = await client.call(type="publish", topic=topic, data=data, key=str(data))
                if answer["type"] == "ok":
                    place = (answer["epoch"], answer["seq"])
                    self.acknowledged[place] = data
                    return place
                assert answer["code"] == "unavailable", answer
                await asyncio.sleep(0.02)

    async def until_back(self, times: int = 1) -> None:
        """Wait until both workers have lost Redis and found it again, so many times."""
        await until(lambda: self.server.stderr.count("Redis is back") >= 2 * times)

    async def during(self, topic: str, fault: Callable[[], Awaitable[object]]) -> list["Story"]:
        """Publish to two subscribers, one on each worker, before, during and after a fault."""
        one, two = await one_on_each(self.server)
        async with one, two, await chat(self.server.ws_url, token("sender")) as sender:
            stories = [await Story.begin(client, topic) for client in (one, two)]
            over = asyncio.Event()

            async def send() -> Place:
                number = 0
                while not over.is_set():
                    number += 1
                    await self.publish(sender, topic, number)
                return await self.publish(sender, topic, "last")

            async def disturb() -> None:
                await until(lambda: len(self.acknowledged) >= 10)
                await fault()
                await until_health(self.server, "ok")
                over.set()

            async with asyncio.TaskGroup() as group:
                sending = group.create_task(send())
                group.create_task(disturb())
                for story in stories:
                    group.create_task(story.follow("last"))
            for story in stories:
                story.check(self.acknowledged)
                assert story.position == sending.result()
        return stories


class Story:
    """What one subscriber was told of a topic."""

    def __init__(self, client: Chat, topic: str, position: Place) -> None:
        self.client = client
        self.topic = topic
        self.began = self.position = position
        self.seen: dict[Place, object] = {}
        self.gaps: list[dict[str, Any]] = []

    @classmethod
    async def begin(cls, client: Chat, topic: str) -> "Story":
        answer = await client.ok(type="subscribe", topic=topic)
        return cls(client, topic, (answer["epoch"], answer["seq"]))

    async def follow(self, last: object) -> None:
        """Take what comes, up to the message with this data."""
        while True:
            push = await self.client.next()
            epoch, seq = self.position
            if push["type"] == "gap":
                self.gaps.append(push)
                changed = push["reason"] == "epoch_changed"
                assert changed or (push["epoch"], push["after"]) == self.position, push
                self.position = (push["epoch"], push["before"] - 1)
                continue
            assert (push["type"], push["seq"]) == ("message", seq + 1), (push, self.position)
            self.position = (epoch, push["seq"])
            self.seen[self.position] = push["data"]
            if push["data"] == last:
                return

    def check(self, acknowledged: dict[Place, object]) -> None:
        """Fail unless everything acknowledged was seen, or was told to be lost."""
        for (epoch, seq), data in acknowledged.items():
            if (epoch, seq) in self.seen:
                assert self.seen[epoch, seq] == data
                continue
            given_up = any(
                gap["epoch"] != epoch or gap["after"] < seq < gap["before"] for gap in self.gaps
            )
            assert given_up, f"{data} at {epoch} {seq} was neither delivered nor given up"

    async def resume(self, url: str, since: Place) -> dict[str, Any]:
        """Subscribe as somebody who comes back."""
        async with await chat(url, token("late")) as late:
            place = {"epoch": since[0], "seq": since[1]}
            return await late.ok(type="subscribe", topic=self.topic, since=place)


@pytest.fixture
def redis(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RedisServer]:
    with running(RedisServer(tmp_path, *request.param)) as started:
        yield started


durable = pytest.mark.parametrize("redis", [KEPT], ids=["durable"], indirect=True)
forgetful = pytest.mark.parametrize("redis", [()], ids=["forgetful"], indirect=True)


@pytest.fixture
async def rig(redis: RedisServer, transport: str) -> AsyncIterator[Rig]:
    async with RedisProxy(redis.port) as proxy:
        flags = ("--workers", "2", "--redis-url", proxy.url)
        environ = {**ENVIRON, **way(transport)}
        server = ServerProcess(*flags, environ=environ)
        await asyncio.to_thread(server.__enter__)
        try:
            yield Rig(redis, proxy, server)
        finally:
            await asyncio.to_thread(server.__exit__, None, None, None)


class Speaker:
    """Somebody who publishes each message once, whatever the answer."""

    def __init__(self, name: str, client: Chat) -> None:
        self.name = name
        self.refused = 0
        self.acknowledged: dict[Place, object] = {}
        self._client = client
        self._said = 0

    async def speak(self, topic: str, over: asyncio.Event) -> None:
        """Publish until it is over."""
        while not over.is_set():
            self._said += 1
            data = f"{self.name} {self._said:06}"
            answer = await self._client.call(type="publish", topic=topic, data=data)
            if answer["type"] == "ok":
                self.acknowledged[answer["epoch"], answer["seq"]] = data
            else:
                assert answer["code"] == "unavailable", answer
                self.refused += 1
                await asyncio.sleep(0.02)

    async def heard_again(self) -> None:
        """Wait until more was acknowledged."""
        count = len(self.acknowledged)
        await until(lambda: len(self.acknowledged) >= count + 5)


def check_nothing_was_lost(stories: list[Story], acknowledged: dict[Place, object]) -> None:
    for story in stories:
        numbers = [data for data in story.seen.values() if isinstance(data, int)]
        assert numbers == list(range(1, len(numbers) + 1)), "not once each, in order"
        assert story.gaps == []
        assert {epoch for epoch, _ in story.seen} == {story.began[0]}
        assert set(story.seen) >= set(acknowledged)


@durable
async def test_cut_connections_lose_nothing(rig: Rig) -> None:
    async def fault() -> None:
        for times in range(1, 4):
            rig.proxy.cut()
            await rig.until_back(times)

    check_nothing_was_lost(await rig.during("room:cut", fault), rig.acknowledged)


@extra  # test_faults and test_silent_repair kick them, too
@durable
async def test_kicked_subscribers_lose_nothing(rig: Rig) -> None:
    async def fault() -> None:
        for times in range(1, 4):
            kill = ("CLIENT", "KILL", "TYPE", "pubsub")
            assert await asyncio.to_thread(rig.redis.command, *kill) == b":2\r\n"
            await rig.until_back(times)

    check_nothing_was_lost(await rig.during("room:kicked", fault), rig.acknowledged)


@durable
async def test_a_redis_that_is_frozen_for_long_loses_nothing(rig: Rig) -> None:
    topic = "room:frozen"
    speakers: list[Speaker] = []
    nodes: set[str] = set()

    async def fault() -> None:
        nodes.update(await health(rig.server))
        one, two = await one_on_each(rig.server, "speaker")
        over = asyncio.Event()
        async with one, two, asyncio.TaskGroup() as group:
            speakers.extend((Speaker("one", one), Speaker("two", two)))
            for speaker in speakers:
                group.create_task(speaker.speak(topic, over))
                await speaker.heard_again()
            rig.redis.pause()
            thaw = asyncio.create_task(asyncio.sleep(FROZEN_SECONDS))
            await until_health(rig.server, "unavailable")
            await thaw
            rig.redis.resume()
            await rig.until_back()
            for speaker in speakers:
                await speaker.heard_again()
            over.set()

    stories = await rig.during(topic, fault)
    for speaker in speakers:
        assert speaker.refused, "nobody was told that Redis is away"
        rig.acknowledged |= speaker.acknowledged
    check_nothing_was_lost(stories, rig.acknowledged)
    for story in stories:
        story.check(rig.acknowledged)
        for speaker in speakers:
            said = [data for data in story.seen.values() if str(data).startswith(speaker.name)]
            assert said == sorted(set(said), key=str), "something came twice, or out of order"
    assert set(await health(rig.server)) == nodes, "repaired by themselves, not started anew"


@extra  # test_faults kills a Redis that persists, and test_silent_repair restarts one
@durable
async def test_a_restart_with_persistence_keeps_the_order(rig: Rig) -> None:
    async def fault() -> None:
        await asyncio.to_thread(rig.redis.restart)
        await rig.until_back()

    check_nothing_was_lost(await rig.during("room:durable", fault), rig.acknowledged)


@forgetful
@pytest.mark.parametrize("how", ["restarted", pytest.param("wiped", marks=extra)])
async def test_a_store_that_forgets_begins_a_new_epoch(rig: Rig, how: str) -> None:
    """Nothing of the new order is missed, however late the workers learn of it."""
    topic = f"room:{how}"

    async def fault() -> None:
        if how == "wiped":
            await asyncio.to_thread(rig.redis.command, "FLUSHALL")
            return
        rig.redis.kill()
        rig.proxy.target = free_port()
        await asyncio.to_thread(rig.redis.start)
        rig.acknowledged |= await publish_elsewhere(rig.redis.url, topic, 3)
        rig.proxy.target = rig.redis.port
        await rig.until_back()

    stories = await rig.during(topic, fault)
    for story in stories:
        (gap,) = story.gaps
        assert (gap["reason"], gap["after"], gap["before"]) == ("epoch_changed", 0, 1)
        assert gap["epoch"] != story.began[0]
        fresh = {place for place in rig.acknowledged if place[0] == gap["epoch"]}
        assert fresh <= set(story.seen)
        answer = await story.resume(rig.server.ws_url, story.began)
        assert (answer["recovered"], answer["reason"]) == (False, "epoch_changed")


@durable
@pytest.mark.parametrize("others", [2, 7])
async def test_a_failover_that_loses_messages_is_told(
    rig: Rig, tmp_path: Path, others: int
) -> None:
    """The new master lacks the last three, and their seqs are given again before a worker looks."""
    topic = "room:failover"
    replica = RedisServer(tmp_path, "--replicaof", "127.0.0.1", str(rig.redis.port))
    replica.start()
    try:
        one, two = await one_on_each(rig.server)
        async with one, two:
            stories = [await Story.begin(client, topic) for client in (one, two)]
            for number in range(5):
                await rig.publish(one, topic, number)
            await until_replicated(rig.redis, replica)
            replica.command("REPLICAOF", "NO", "ONE")
            for number in range(5, 8):
                await rig.publish(two, topic, number)
            for story in stories:
                await story.follow(7)
            rig.proxy.target = replica.port
            rig.redis.kill()
            rig.proxy.cut()
            await publish_elsewhere(replica.url, topic, others)
            await rig.until_back()
            last = stories[0].began
            async with asyncio.timeout(SECONDS):
                while last[0] == stories[0].began[0]:
                    # Until a worker has looked, the old epoch goes on.
                    last = await rig.publish(one, topic, f"last {last[1]}")
            for story in stories:
                await story.follow(rig.acknowledged[last])
                assert {gap["reason"] for gap in story.gaps} == {"epoch_changed"}
                assert story.position == last
                assert last[0] != story.began[0]
                answer = await story.resume(rig.server.ws_url, (story.began[0], 7))
                assert (answer["recovered"], answer["reason"]) == (False, "epoch_changed")
    finally:
        replica.stop()


async def until_replicated(master: RedisServer, replica: RedisServer) -> None:
    """Wait until the replica has all that the master has."""
    await until(lambda: master.command("WAIT", "1", "100") == b":1\r\n")
    assert b"role:slave" in replica.command("INFO", "replication")


async def publish_elsewhere(url: str, topic: str, count: int) -> dict[Place, object]:
    """Publish as a worker does that has found the store before all others."""
    broker = RedisBroker(patient(url), BrokerSettings())
    await broker.start(Recorder())
    texts = [f"other {number}" for number in range(count)]
    places = [await broker.publish(draft(text, topic=topic)) for text in texts]
    await broker.stop()
    return {(place.epoch, place.seq): text for place, text in zip(places, texts, strict=True)}
