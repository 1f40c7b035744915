"""Two workers over a Redis Cluster, and over servers watched by sentinels, when those change."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.rig.chat_client import Chat
from tests.rig.redis_cluster import RedisCluster
from tests.rig.redis_sentinel import SentinelTrio
from tests.rig.redis_server import running
from tests.rig.server import ServerProcess
from tests.rig.waiting import SECONDS, until

from .cluster import one_on_each, until_health

ENVIRON = {
    "CHAT_AUTH__AUDIENCE": "chat",
    "CHAT_LIMITS__MESSAGES_PER_SECOND": "1000000",
    "CHAT_LIMITS__MESSAGE_BURST": "1000000",
    "CHAT_REDIS__TIMEOUT_SECONDS": "3",
}
TOPIC = "room:failover"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RedisCluster]:
    with running(RedisCluster(tmp_path)) as started:
        yield started


@pytest.fixture
def trio(tmp_path: Path) -> Iterator[SentinelTrio]:
    with running(SentinelTrio(tmp_path)) as started:
        yield started


@asynccontextmanager
async def two_clients(url: str) -> AsyncIterator[tuple[ServerProcess, Chat, Chat]]:
    """Run two workers with a subscriber on each."""
    server = ServerProcess("--workers", "2", "--redis-url", url, environ=ENVIRON)
    await asyncio.to_thread(server.__enter__)
    try:
        one, two = await one_on_each(server)
        async with one, two:
            for client in (one, two):
                await client.ok(type="subscribe", topic=TOPIC)
            yield server, one, two
    finally:
        await asyncio.to_thread(server.__exit__, None, None, None)


async def publish(client: Chat, data: object) -> int:
    """Publish once, and again while the store is away; return the seq."""
    async with asyncio.timeout(SECONDS):
        while True:
            answer = await client.call(type="publish", topic=TOPIC, data=data, key=str(data))
            if answer["type"] == "ok":
                return int(answer["seq"])
            assert answer["code"] == "unavailable", answer
            await asyncio.sleep(0.05)


async def receive_until(client: Chat, data: object) -> list[dict[str, Any]]:
    """Return the pushes up to the message with this data."""
    messages: list[dict[str, Any]] = []
    while not messages or messages[-1].get("data") != data:
        messages.append(await client.next())
    return messages


async def test_subscribers_miss_nothing_of_a_slot_that_moves(cluster: RedisCluster) -> None:
    async with two_clients(cluster.url) as (server, one, two):
        number = 0
        for _ in range(2):
            target = next(node for node in cluster.nodes if node is not cluster.owner(TOPIC))
            moving = asyncio.ensure_future(asyncio.to_thread(_move, cluster, target))
            while not moving.done():
                number += 1
                answer = await one.call(type="publish", topic=TOPIC, data=number)
                assert (answer["type"], answer["seq"]) == ("ok", number), "nobody notices"
            await moving
        number += 1
        await one.ok(type="publish", topic=TOPIC, data=number)
        for client in (one, two):
            received = await receive_until(client, number)
            assert [push.get("seq") for push in received] == list(range(1, number + 1))
        await until_health(server, "ok")


def _move(cluster: RedisCluster, target: Any) -> None:
    cluster.begin_move(TOPIC, target)
    cluster.end_move(TOPIC, target)


async def test_subscribers_are_served_by_the_new_master(trio: SentinelTrio) -> None:
    async with two_clients(trio.url) as (server, one, two):
        for number in range(1, 6):
            assert await publish(one, number) == number
        old, replica = trio.servers
        await until(lambda: old.has_replicated_to(replica))
        old.kill()
        assert await publish(two, 6) == 6, "the new master goes on where the old one was"
        assert trio.master() is replica
        await until_health(server, "ok")
        assert await publish(one, 7) == 7
        for client in (one, two):
            received = await receive_until(client, 7)
            assert [push.get("seq") for push in received] == list(range(1, 8))
