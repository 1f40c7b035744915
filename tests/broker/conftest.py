"""Redis servers, and the stores that the contract is run against."""

import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from chat_server.realtime.ports import Broker

from ..rig.redis_cluster import RedisCluster
from ..rig.redis_sentinel import SentinelTrio
from ..rig.redis_server import RedisServer, running
from .fakes import fake_connector
from .helpers import Recorder, Run, Store

PATIENCE_MS = 5_000
"""How long a server may stall before the others find it dead, where no test means it to be."""


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server for all tests that do not harm it; each uses its own key prefix."""
    with running(RedisServer(tmp_path_factory.mktemp("redis"))) as server:
        yield server


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A server to be killed, frozen and flushed."""
    with running(RedisServer(tmp_path)) as server:
        yield server


@pytest.fixture(scope="session")
def sentinel_trio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SentinelTrio]:
    """A master watched by sentinels, for all tests that do not harm it."""
    folder = tmp_path_factory.mktemp("sentinel")
    with running(SentinelTrio(folder, down_after_ms=PATIENCE_MS)) as trio:
        yield trio


@pytest.fixture(scope="session")
def redis_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    """A cluster of three nodes, for all tests that do not harm it."""
    folder = tmp_path_factory.mktemp("cluster")
    with running(RedisCluster(folder)) as cluster:
        yield cluster


@pytest.fixture
async def run() -> AsyncIterator[Run]:
    """Starts brokers, and stops them after the test."""
    brokers: list[Broker] = []

    async def _run(broker: Broker) -> tuple[Broker, Recorder]:
        recorder = Recorder()
        brokers.append(broker)
        await broker.start(recorder)
        return broker, recorder

    yield _run
    for broker in brokers:
        await broker.stop()


FAKEREDIS = pytest.param(
    "fakeredis", marks=[pytest.mark.extra] if shutil.which("redis-server") else []
)
"""A Redis for those who have none. Where there is a real one, only `make test-all` uses both."""


SENTINEL = pytest.param("sentinel", marks=pytest.mark.extra)
"""The same broker and the same scripts as with one Redis, found in another way: the contract is
enough."""


@pytest.fixture(params=["memory", FAKEREDIS, "redis", SENTINEL, "cluster"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    """Each kind of store in turn."""
    async for made in made_store(request):
        yield made


@pytest.fixture(params=[FAKEREDIS, "redis", SENTINEL, "cluster"])
async def shared_store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    """Each kind of store that several workers can share."""
    async for made in made_store(request):
        yield made


async def made_store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    """Yield the store that a fixture's parameter names."""
    name: str = request.param
    if name == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        made = Store(name, url=server.url)
    elif name == "sentinel":
        trio: SentinelTrio = request.getfixturevalue("sentinel_trio")
        made = Store(name, url=trio.url)
    elif name == "cluster":
        cluster: RedisCluster = request.getfixturevalue("redis_cluster")
        made = Store(name, url=cluster.url)
    else:
        made = Store(name, connect=fake_connector() if name == "fakeredis" else None)
    yield made
    await made.stop()
