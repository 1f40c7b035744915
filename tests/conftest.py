"""What holds for every test: nothing left behind, nothing blocking, nothing swallowed."""

import asyncio
import itertools
import os
import resource
import shutil
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from blockbuster import BlockBuster, blockbuster_ctx
from hypothesis import settings

from chat_server.database import schema
from chat_server.database.database import Database
from chat_server.settings import DatabaseSettings

from .realtime.world import World
from .rig.postgres_server import PostgresServer

# The same examples on every machine, and no failure because one of them is busy.
settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("dev", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))

# Whoever starts the tests in the background has them ignore Ctrl-C, which programs inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    # The same with nohup. A handler is not inherited, so programs of tests heed a hang-up.
    signal.signal(signal.SIGHUP, lambda *_: None)

# Servers of tests are on this machine, and no proxy is asked for them.
for _proxy in ("http_proxy", "https_proxy", "all_proxy"):
    os.environ.pop(_proxy, None)
    os.environ.pop(_proxy.upper(), None)

FILES = 8_192
"""What tests and the programs they start may have open, if the system lets them."""
_soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
if _soft != resource.RLIM_INFINITY and _soft < FILES:
    _soft = FILES if _hard == resource.RLIM_INFINITY else min(FILES, _hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (_soft, _hard))

STARTUP = (
    ("chat_server/settings/loading.py", "load_settings"),
    ("chat_server/app.py", "create_app"),
    ("chat_server/database/engine.py", "_create"),
    ("chat_server/database/engine.py", "make_thread_engine"),
    ("chat_server/database/schema.py", "read_revision"),
    # In a thread of its own, or in a command.
    ("chat_server/database/schema.py", "_create_private"),
    ("chat_server/database/schema.py", "_upgrade"),
    # Looks for a password at a new connection whose address has none, as those of tests.
    ("asyncpg/connect_utils.py", "_parse_connect_arguments"),
    # Looks for its own version at a new connection of pydocket's; those of the broker name none.
    ("redis/utils.py", "get_lib_version"),
)
"""What reads files before there is anyone to be kept waiting."""

CLOSING_TURNS = 10
"""Loop turns a transport or a cancelled task may take to be gone; what needs more has no owner."""


@asynccontextmanager
async def clean_loop(seconds: float = 0.0) -> AsyncIterator[None]:
    """Demand that no task is left of those that began inside, and no error that nobody handled.

    Args:
        seconds: for tasks that wait for another process, and then end.
    """
    errors: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: errors.append(context))
    others = asyncio.all_tasks()
    yield
    others.add(cast("asyncio.Task[Any]", asyncio.current_task()))
    for _ in range(CLOSING_TURNS):
        if not asyncio.all_tasks() - others:
            break
        await asyncio.sleep(0)
    if seconds and (late := asyncio.all_tasks() - others):
        await asyncio.wait(late, timeout=seconds)
    leaked = asyncio.all_tasks() - others
    names = [repr(task) for task in leaked]
    for task in leaked:
        task.cancel()
    await asyncio.gather(*leaked, return_exceptions=True)
    assert not names, "tasks without an owner:\n" + "\n".join(names)
    assert not errors, f"errors nobody handled: {errors}"


@pytest.fixture(autouse=True)
async def _clean_loop() -> AsyncIterator[None]:
    """Fail a test that leaves tasks or unhandled errors behind."""
    async with clean_loop():
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_blocking() -> Iterator[BlockBuster]:
    """Raise where code of `chat_server` makes a call that would block the running loop."""
    with blockbuster_ctx("chat_server") as blockbuster:
        for function in blockbuster.functions.values():
            for file, name in STARTUP:
                function.can_block_in(file, name)
        yield blockbuster


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """One worker without sockets, and the check that nothing of it is left."""
    world = World()
    await world.start()
    yield world
    await world.stop()


# Databases --------------------------------------------------------------------------------------

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL for all tests that do not harm it; each has a database of its own."""
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def _migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("migrated") / "chat.db"
    asyncio.run(schema.upgrade(DatabaseSettings(url=f"sqlite+aiosqlite:///{file}")))
    return file


@pytest.fixture(scope="session")
def _migrated_postgres(postgres_server: PostgresServer) -> str:
    url = postgres_server.create("migrated")
    asyncio.run(schema.upgrade(DatabaseSettings(url=url)))
    return "migrated"


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database(request: pytest.FixtureRequest, tmp_path: Path) -> DatabaseSettings:
    """The address of a database without a schema, of each kind in turn."""
    if request.param == "sqlite":
        return DatabaseSettings(url=f"sqlite+aiosqlite:///{tmp_path / 'chat.db'}")
    server: PostgresServer = request.getfixturevalue("postgres_server")
    return DatabaseSettings(url=server.create(f"empty_{next(_numbers)}"))


@pytest.fixture(params=["sqlite", "postgresql"])
def database_settings(request: pytest.FixtureRequest, tmp_path: Path) -> DatabaseSettings:
    """The address of a database with the newest schema, of each kind in turn."""
    if request.param == "sqlite":
        file = shutil.copy(request.getfixturevalue("_migrated_sqlite"), tmp_path / "chat.db")
        return DatabaseSettings(url=f"sqlite+aiosqlite:///{file}")
    server: PostgresServer = request.getfixturevalue("postgres_server")
    template = request.getfixturevalue("_migrated_postgres")
    return DatabaseSettings(url=server.create(f"test_{next(_numbers)}", template))


@pytest.fixture
async def database(database_settings: DatabaseSettings) -> AsyncIterator[Database]:
    """A database that is open, of each kind in turn."""
    database = Database(database_settings)
    await database.start()
    yield database
    await database.stop()
