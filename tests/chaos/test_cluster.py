"""The cluster of the chaos: its topics lie apart, and no slot is left half moved."""

import asyncio
import random
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from redis.crc import key_slot

from tests.chaos.cluster import Cluster, options
from tests.chaos.config import Config
from tests.chaos.store import RedisServer

from ..rig.redis_sentinel import wait_for

pytestmark = pytest.mark.skipif(shutil.which("redis-server") is None, reason="needs redis-server")

KEYS = 300


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[list[RedisServer]]:
    with ExitStack() as stack:
        started = [
            stack.enter_context(RedisServer(tmp_path / f"redis-{number}")) for number in range(3)
        ]
        for server in started:
            server.configure(*options(announced=server.port))
            server.start()
        yield started


def _keys(server: RedisServer, topic: str) -> int:
    count: int = server.run("CLUSTER", "COUNTKEYSINSLOT", key_slot(topic.encode()))
    return count


def test_the_topics_lie_on_all_servers(servers: list[RedisServer]) -> None:
    assert Cluster(servers, Config(broker="cluster", seed=1).topics).spread() == [2, 2, 2]
    spooling = Config(broker="cluster", seed=1, spool=True)
    assert min(Cluster(servers, spooling.topics).spread()) >= 2


async def test_a_move_is_carried_on_after_the_death_of_a_server(servers: list[RedisServer]) -> None:
    topic = "room:0"
    cluster = Cluster(servers, [topic])
    cluster.form()
    source = servers[cluster.spread().index(1)]
    for number in range(KEYS):
        source.run("SET", f"{{{topic}}}:{number}", number)
    moving = asyncio.create_task(cluster.move(1.0, random.Random(1)))

    def reached() -> list[RedisServer]:
        return [server for server in servers if server is not source and _keys(server, topic)]

    await asyncio.to_thread(wait_for, lambda: bool(reached()))
    (target,) = reached()
    target.kill()
    await asyncio.to_thread(target.start)
    await moving
    assert servers[cluster.spread().index(1)] is target
    assert _keys(target, topic) == KEYS
    assert _keys(source, topic) == 0
    for server in servers:
        nodes = server.run("CLUSTER", "NODES")
        assert b"->-" not in nodes
        assert b"-<-" not in nodes
