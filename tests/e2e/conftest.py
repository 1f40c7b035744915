"""A real server process, once for each transport and module."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.rig.redis_server import RedisServer, running
from tests.rig.server import ServerProcess

from .differences import DIRECT_ONLY, TRANSPORTS
from .elsewhere import serve
from .room import Room


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what `DIRECT_ONLY` lists of the ASGI transport."""
    left_out = [item for item in items if _is_left_out(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def _is_left_out(item: pytest.Item) -> bool:
    if not isinstance(item, pytest.Function) or item.originalname not in DIRECT_ONLY:
        return False
    return item.callspec.params.get("transport") == "asgi"


@pytest.fixture(scope="module", params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> str:
    """The transport under test."""
    value: str = request.param
    return value


@pytest.fixture(scope="module")
def server(transport: str, request: pytest.FixtureRequest) -> Iterator[ServerProcess]:
    """A server with the module's `ENVIRON` and the transport."""
    with serve(transport, request.module.ENVIRON) as started:
        yield started


@pytest.fixture
def quiet(server: ServerProcess) -> Iterator[None]:
    """Whatever the test did was no fault of the server, so nothing is logged as one."""
    before = len(server.stderr)
    yield
    written = server.stderr[before:]
    assert " ERROR " not in written, written
    assert "Traceback" not in written, written


@pytest.fixture
async def room(server: ServerProcess) -> AsyncIterator[Room]:
    """A room with somebody in it who must notice nothing of what the test does to others."""
    async with await Room.open(server) as opened:
        yield opened
        await opened.check_undisturbed()


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A redis-server of the module's own."""
    directory: Path = tmp_path_factory.mktemp("redis")
    with running(RedisServer(directory)) as started:
        yield started
