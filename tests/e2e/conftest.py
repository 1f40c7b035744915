"""A real server process, once for each transport and module."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.rig.redis_server import RedisServer, running
from tests.rig.server import ServerProcess

from .differences import DIRECT_ONLY, EVERY_TRANSPORT, TRANSPORTS
from .elsewhere import serve
from .room import Room

FOLDER = f"{Path(__file__).parent}/"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what only holds for the direct transport, and mark what is not about transports."""
    left_out = []
    for item in items:
        transport = _transport(item)
        if transport == "direct":
            continue
        name = getattr(item, "originalname", item.name)
        if transport == "quart":
            item.add_marker("extra")
        elif name in DIRECT_ONLY:
            left_out.append(item)
        elif name not in EVERY_TRANSPORT.get(item.path.stem, ()):
            item.add_marker("extra")
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        gone = set(left_out)
        items[:] = [item for item in items if item not in gone]


def _transport(item: pytest.Item) -> str:
    """Return the transport of a test of this folder; the direct one if it chooses none."""
    here = str(item.path).startswith(FOLDER)
    if not here or not isinstance(item, pytest.Function) or not hasattr(item, "callspec"):
        return "direct"
    return str(item.callspec.params.get("transport", "direct"))


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
