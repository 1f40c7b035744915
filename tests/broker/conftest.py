"""Redis servers, and the stores that the contract is run against."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from ..support.redis_server import RedisServer
from .fakes import fake_connector
from .helpers import Store


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server for all tests that do not harm it; each uses its own key prefix."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A server to be killed, frozen and flushed."""
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture(params=["memory", "fakeredis", "redis"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    """Each kind of store in turn."""
    async for made in _store(request):
        yield made


@pytest.fixture(params=["fakeredis", "redis"])
async def shared_store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    """Each kind of store that several workers can share."""
    async for made in _store(request):
        yield made


async def _store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    name: str = request.param
    if name == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        made = Store(name, url=server.url)
    else:
        made = Store(name, connect=fake_connector() if name == "fakeredis" else None)
    yield made
    await made.stop()
