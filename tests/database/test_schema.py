"""Migrations: they make what the models say, once, and nobody works with another schema."""

import asyncio
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from chat_server.accounts import tables as accounts
from chat_server.archive import tables as archive
from chat_server.database import leases, schema
from chat_server.database.base import TABLE_PREFIX, Base
from chat_server.database.database import Database
from chat_server.database.engine import make_engine, make_migration_engine
from chat_server.operators import kept as operators
from chat_server.outbox import tables as outbox
from chat_server.settings import DatabaseSettings, SettingsError
from chat_server.user_data import tables as user_data
from chat_server.webhooks import store as webhooks

MODELS = [accounts, archive, leases, operators, outbox, user_data, webhooks]
"""Every module with tables, imported so that `Base` knows them."""


async def set_revision(settings: DatabaseSettings, revision: str) -> None:
    engine = make_migration_engine(settings)
    async with engine.begin() as connection:
        statement = text(f"UPDATE {schema.VERSION_TABLE} SET version_num = :revision")
        await connection.execute(statement, {"revision": revision})
    await engine.dispose()


async def test_the_migrations_make_what_the_models_say(database_settings: DatabaseSettings) -> None:
    def differences(connection: Connection) -> list[object]:
        # The index of the search is no table of SQLAlchemy's, and belongs to one database each.
        options = {
            "version_table": schema.VERSION_TABLE,
            "compare_type": True,
            "include_object": lambda item, name, *_: "_search" not in name,
        }
        context = MigrationContext.configure(connection, opts=options)
        return list(compare_metadata(context, Base.metadata))

    engine = make_migration_engine(database_settings)
    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []
    await engine.dispose()


def test_every_table_has_our_prefix() -> None:
    assert all(name.startswith(TABLE_PREFIX) for name in Base.metadata.tables)


def test_revisions_are_numbered_one_behind_the_other() -> None:
    scripts = ScriptDirectory(str(schema.MIGRATIONS))
    revisions = [script.revision for script in scripts.walk_revisions()][::-1]
    assert revisions == [f"{number:04d}" for number in range(1, len(revisions) + 1)]
    assert scripts.get_heads() == [schema.NEWEST]


def test_a_migration_leaves_the_locks_of_this_process_alone(tmp_path: Path) -> None:
    """POSIX drops a process's locks on a file when it closes any descriptor of it."""
    file = str(tmp_path / "chat.db")
    begin = f"import sqlite3; sqlite3.connect({file!r}, timeout=0).execute('BEGIN IMMEDIATE')"
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE here (id)")
        connection.execute("BEGIN IMMEDIATE")
        schema._create_private(file)
        other = subprocess.run([sys.executable, "-c", begin], capture_output=True, text=True)
    assert "database is locked" in other.stderr


async def test_several_that_migrate_at_once_wait_for_each_other(
    empty_database: DatabaseSettings,
) -> None:
    done = await asyncio.gather(
        *(asyncio.to_thread(asyncio.run, schema.upgrade(empty_database)) for _ in range(4))
    )
    assert sorted(before or "" for before, _ in done) == ["", *[schema.NEWEST] * 3]
    engine = make_engine(empty_database)
    assert await schema.read_revision(engine) == schema.NEWEST
    await engine.dispose()


async def test_several_may_be_the_first_to_connect(tmp_path: Path) -> None:
    async def connect(file: Path) -> None:
        engine = make_migration_engine(DatabaseSettings(url=f"sqlite+aiosqlite:///{file}"))
        async with engine.connect() as connection:
            assert (await connection.execute(text("PRAGMA journal_mode"))).scalar() == "wal"
        await engine.dispose()

    for number in range(25):  # without a second try one of the four fails in each eighth round
        file = tmp_path / f"{number}.db"
        await asyncio.gather(*(asyncio.to_thread(asyncio.run, connect(file)) for _ in range(4)))


async def test_a_migration_that_fails_leaves_nothing(
    empty_database: DatabaseSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(connection: Connection) -> None:
        connection.execute(text("CREATE TABLE chat_half (id INTEGER)"))
        raise RuntimeError("in the middle")

    with monkeypatch.context() as patched:
        patched.setattr(schema, "_upgrade", fail)
        with pytest.raises(RuntimeError, match="in the middle"):
            await schema.upgrade(empty_database)
    engine = make_migration_engine(empty_database)
    async with engine.connect() as connection:
        dialect = engine.dialect
        assert not await connection.run_sync(dialect.has_table, "chat_half")  # type: ignore[arg-type]
    await engine.dispose()
    assert await schema.upgrade(empty_database) == (None, schema.NEWEST)


async def test_a_newer_schema_is_refused_and_left_alone(
    database_settings: DatabaseSettings,
) -> None:
    await set_revision(database_settings, "9999")
    for migrate in (False, True):
        settings = DatabaseSettings(url=database_settings.url, migrate=migrate)
        with pytest.raises(schema.SchemaError, match=r"revision 9999, .* run the newer version"):
            await Database(settings).start()
    with pytest.raises(schema.SchemaError, match="revision 9999"):
        await schema.upgrade(database_settings)


async def test_an_older_schema_is_refused_unless_it_is_to_be_migrated(
    empty_database: DatabaseSettings,
) -> None:
    with pytest.raises(SettingsError, match="`chat-server database upgrade`"):
        await Database(empty_database).start()
    database = Database(DatabaseSettings(url=empty_database.url, migrate=True))
    await database.start()
    assert database.is_ready
    await database.stop()
    again = Database(empty_database)
    await again.start()
    assert again.is_ready
    await again.stop()


async def test_nobody_else_can_read_the_file_and_a_refusal_makes_none(tmp_path: Path) -> None:
    file = tmp_path / "chat.db"
    settings = DatabaseSettings(url=f"sqlite+aiosqlite:///{file}")
    with pytest.raises(schema.SchemaError):
        await Database(settings).start()
    assert not file.exists()
    await schema.upgrade(settings)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
