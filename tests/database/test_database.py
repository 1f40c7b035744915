"""Sessions: one for each unit of work, in either database; and a database that is away."""

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, func, insert, select, text, update
from sqlalchemy.exc import IntegrityError

from chat_server.database.database import Database
from chat_server.database.engine import make_engine
from chat_server.database.leases import LEASES, LeaseRow
from chat_server.protocol.errors import Unavailable
from chat_server.settings import DatabaseSettings

from ..architecture.source import ROOT
from ..rig.postgres_server import PostgresServer
from ..rig.waiting import until, until_async


async def names(database: Database) -> list[str]:
    async with database.session(read_only=True) as session:
        return list(await session.scalars(select(LeaseRow.name).order_by(LeaseRow.name)))


def look(connection: Connection) -> int:
    return connection.scalar(select(func.count()).select_from(LEASES)) or 0


def add(connection: Connection, name: str, beat: int = 1) -> None:
    connection.execute(insert(LEASES).values(name=name, holder="h", beat=beat))


def row(name: str, beat: int = 1) -> LeaseRow:
    return LeaseRow(name=name, holder="h", beat=beat)


async def test_a_unit_of_work_is_stored_whole_or_not_at_all(database: Database) -> None:
    async with database.session() as session:
        session.add_all([row("a"), row("b")])

    async def fail() -> None:
        async with database.session() as session:
            session.add(row("c"))
            await session.flush()
            raise RuntimeError("half")

    with pytest.raises(RuntimeError, match="half"):
        await fail()
    assert await names(database) == ["a", "b"]


async def test_what_is_cancelled_is_not_stored(database: Database) -> None:
    written = asyncio.Event()

    async def work() -> None:
        async with database.session() as session:
            session.add(row("a"))
            await session.flush()
            written.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await written.wait()
    task.cancel()
    await asyncio.wait([task])
    assert await names(database) == []


@pytest.mark.parametrize(("error", "told"), [(asyncio.CancelledError(), 0), (OSError(), 1)])
async def test_a_cancellation_as_a_connection_comes_back_is_no_error(
    error: BaseException, told: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine = make_engine(DatabaseSettings(url=f"sqlite+aiosqlite:///{tmp_path}/chat.db"))
    # As `_finalize_fairy` in sqlalchemy/pool/base.py.
    engine.pool.logger.error("Exception during reset or similar", exc_info=error)
    assert len(caplog.records) == told
    await engine.dispose()


async def test_work_in_one_step_is_stored_whole_or_not_at_all(database: Database) -> None:
    await database.run(lambda connection: add(connection, "a"))

    def fail(connection: Connection) -> None:
        add(connection, "b")
        raise RuntimeError("half")

    with pytest.raises(RuntimeError, match="half"):
        await database.run(fail)
    assert await names(database) == ["a"]
    found = await database.run(
        lambda connection: connection.scalars(select(LeaseRow.name)).all(), read_only=True
    )
    assert found == ["a"]


async def test_work_in_one_step_that_is_cancelled_is_over_and_not_stored(tmp_path: Path) -> None:
    database = Database(DatabaseSettings(url=f"sqlite+aiosqlite:///{tmp_path / 'a'}", migrate=True))
    await database.start()
    begun, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def work(connection: Connection) -> None:
        add(connection, "a")
        loop.call_soon_threadsafe(begun.set)
        go_on.wait()

    task = asyncio.create_task(database.run(work))
    await begun.wait()
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done(), "the work still holds the lock of the database"
    go_on.set()
    await asyncio.wait([task])
    assert task.cancelled()
    assert await names(database) == []
    await database.stop()


async def test_steps_that_read_first_and_then_write_wait_for_each_other(database: Database) -> None:
    await database.run(lambda connection: add(connection, "a", 0))
    beat = LEASES.c.beat

    def count(connection: Connection) -> None:
        found = connection.scalar(select(beat).with_for_update())
        connection.execute(update(LEASES).values(beat=(found or 0) + 1))

    await asyncio.gather(*(database.run(count) for _ in range(20)))
    assert await database.run(lambda connection: connection.scalar(select(beat))) == 20


async def test_those_who_read_first_and_then_write_wait_for_each_other(database: Database) -> None:
    async with database.session() as session:
        session.add(row("a", 0))

    async def add() -> None:
        async with database.session() as session:
            query = select(LeaseRow).where(LeaseRow.name == "a").with_for_update()
            (await session.scalars(query)).one().beat += 1

    await asyncio.gather(*(add() for _ in range(20)))
    async with database.session(read_only=True) as session:
        assert await session.scalar(select(LeaseRow.beat)) == 20


async def test_a_rule_of_a_table_is_the_callers_business(database: Database) -> None:
    async with database.session() as session:
        session.add(row("a"))
    with pytest.raises(IntegrityError) as caught:
        async with database.session() as session:
            await session.execute(insert(LeaseRow).values(name="a", holder="secret", beat=1))
    assert "secret" not in str(caught.value)


async def test_what_a_step_breaks_is_told_as_of_a_session(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    await database.run(lambda connection: add(connection, "a"))
    with pytest.raises(IntegrityError):
        await database.run(lambda connection: add(connection, "a"))
    said = text("SELECT :said FROM nowhere")
    with pytest.raises(Unavailable, match="cannot be used"):
        await database.run(lambda connection: connection.execute(said, {"said": "secret"}))
    assert "nowhere" in caplog.text
    assert "secret" not in caplog.text


async def test_a_failure_is_told_without_what_people_wrote(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(Unavailable, match="cannot be used") as caught:
        async with database.session() as session:
            await session.execute(text("SELECT :said FROM nowhere"), {"said": "secret"})
    assert caught.value.retry_in_ms == 1_000
    assert "nowhere" in caplog.text
    assert "secret" not in caplog.text + str(caught.value.__cause__)


async def test_a_database_that_stops_leaves_no_thread(database_settings: DatabaseSettings) -> None:
    before = threading.active_count()
    database = Database(database_settings)
    await database.start()
    await asyncio.gather(*(names(database) for _ in range(10)))
    await asyncio.gather(*(database.run(look, read_only=True) for _ in range(10)))
    await database.stop()
    await until(lambda: threading.active_count() == before)
    with pytest.raises(Unavailable):
        await names(database)


async def test_a_database_that_was_away_at_the_start_is_used_once_it_is_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chat_server.database.database.RETRY_SECONDS", (0.01, 0.1))
    caplog.set_level("INFO")
    folder = tmp_path / "volume"
    url = f"sqlite+aiosqlite:///{folder / 'chat.db'}"
    database = Database(DatabaseSettings(url=url, migrate=True))
    await database.start()
    with pytest.raises(Unavailable):
        await names(database)
    folder.mkdir()
    await asyncio.wait_for(database.wait_until_ready(), 60)
    assert await names(database) == []
    await database.stop()
    assert caplog.messages.count("the database is there") == 1


async def test_one_that_is_never_there_can_be_stopped(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'nowhere' / 'chat.db'}"
    database = Database(DatabaseSettings(url=url, migrate=True))
    await database.start()
    await database.stop()


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.stop()


async def test_a_restart_of_postgresql_is_survived(own_postgres: PostgresServer) -> None:
    url = await asyncio.to_thread(own_postgres.create, "chat")
    database = Database(DatabaseSettings(url=url, migrate=True, timeout_seconds=5))
    await database.start()
    async with database.session() as session:
        session.add(row("a"))

    async def fails() -> bool:
        try:
            return await names(database) != ["a"]
        except Unavailable:
            return True

    async def answers() -> bool:
        return not await fails()

    await asyncio.to_thread(own_postgres.kill)
    await until_async(fails)  # The servers of connections outlive the first process a little.
    await asyncio.to_thread(own_postgres.start)
    await until_async(answers)
    await database.stop()


async def test_a_locked_sqlite_is_refused_after_the_timeout_and_read_meanwhile(
    tmp_path: Path,
) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'chat.db'}"
    holder = Database(DatabaseSettings(url=url, migrate=True))
    other = Database(DatabaseSettings(url=url, timeout_seconds=0.05))
    await holder.start()
    await other.start()
    async with holder.session() as session:
        session.add(row("a"))
        await session.flush()
        with pytest.raises(Unavailable):
            async with other.session() as second:
                second.add(row("b"))
        with pytest.raises(Unavailable):
            await other.run(lambda connection: add(connection, "b"))
        assert await names(other) == []
        assert await other.run(look, read_only=True) == 0
    assert await names(other) == ["a"]
    await other.stop()
    await holder.stop()


async def test_a_read_only_session_cannot_write_in_postgresql(
    postgres_server: PostgresServer,
) -> None:
    url = await asyncio.to_thread(postgres_server.create, "reading")
    database = Database(DatabaseSettings(url=url, migrate=True))
    await database.start()
    with pytest.raises(Unavailable):
        async with database.session(read_only=True) as session:
            session.add(row("a"))
    with pytest.raises(Unavailable):
        await database.run(lambda connection: add(connection, "a"), read_only=True)
    async with database.session() as session:
        assert await session.scalar(select(func.count()).select_from(LeaseRow)) == 0
    await database.stop()


def test_a_server_without_a_database_does_not_import_its_libraries() -> None:
    program = (
        "import sys; from chat_server import create_app, load_settings;"
        "create_app(load_settings(environ={'CHAT_ENVIRONMENT': 'testing'}));"
        "print([name for name in ('sqlalchemy', 'alembic', 'aiosqlite') if name in sys.modules])"
    )
    environ = {n: v for n, v in os.environ.items() if not n.startswith("CHAT_")}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n"
