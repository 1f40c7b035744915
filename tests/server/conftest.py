"""A Redis for the servers of a module."""

from collections.abc import Iterator

import pytest

from tests.rig.redis_server import RedisServer, running


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running(RedisServer(tmp_path_factory.mktemp("redis"))) as started:
        yield started
