"""The slots of the chaos cluster: topics lie apart, and no slot is left half moved."""

import asyncio
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.crc import key_slot

from tests.chaos.config import Config
from tests.chaos.slots import Slots

from ..rig.redis_cluster import RedisCluster
from ..rig.redis_sentinel import wait_for
from ..rig.redis_server import RedisServer, running

pytestmark = pytest.mark.skipif(shutil.which("redis-server") is None, reason="needs redis-server")

KEYS = 300


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RedisCluster]:
    with running(RedisCluster(tmp_path, durable=True)) as started:
        yield started


def _keys(server: RedisServer, topic: str) -> int:
    count: int = server.run("CLUSTER", "COUNTKEYSINSLOT", key_slot(topic.encode()))
    return count


def test_the_topics_lie_on_all_servers(cluster: RedisCluster) -> None:
    assert Slots(cluster, Config(broker="cluster", seed=1).topics).spread() == [2, 2, 2]
    spooling = Config(broker="cluster", seed=1, spool=True)
    assert min(Slots(cluster, spooling.topics).spread()) >= 2


async def test_a_move_is_carried_on_after_the_death_of_a_server(cluster: RedisCluster) -> None:
    topic = "room:0"
    servers, slots = cluster.nodes, Slots(cluster, [topic])
    source = slots.server_of(topic)
    for number in range(KEYS):
        source.run("SET", f"{{{topic}}}:{number}", number)
    moving = asyncio.create_task(slots.move(1.0, random.Random(1)))

    def reached() -> list[RedisServer]:
        return [server for server in servers if server is not source and _keys(server, topic)]

    await asyncio.to_thread(wait_for, lambda: bool(reached()))
    (target,) = reached()
    target.kill()
    await asyncio.to_thread(target.start)
    await moving
    assert slots.server_of(topic) is target
    assert _keys(target, topic) == KEYS
    assert _keys(source, topic) == 0
    for server in servers:
        nodes = server.run("CLUSTER", "NODES")
        assert b"->-" not in nodes
        assert b"-<-" not in nodes
