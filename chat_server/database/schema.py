"""The revision of a database's schema: read, checked, and upgraded.

Revisions have the numbers `0001`, `0002`, … in `migrations/versions`, one behind the other. There
are no downgrades: restore a back-up instead.
"""

import asyncio
import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from ..settings import DatabaseSettings, SettingsError
from .engine import READING, make_migration_engine
from .urls import parse_database_url

logger = logging.getLogger(__name__)

MIGRATIONS: Final = Path(__file__).resolve().parent / "migrations"

VERSION_TABLE: Final = "chat_schema_version"
"""Alembic's table under our own name: the application may use Alembic for its own tables."""

NEWEST: Final = max(file.name[:4] for file in (MIGRATIONS / "versions").glob("[0-9]*.py"))
"""The revision of this version of the server."""

_LOCK: Final = 0x63686174
"""The key of PostgreSQL's advisory lock: "chat"."""


class SchemaError(SettingsError):
    """This version cannot work with the schema of the database."""


def is_older(revision: str | None) -> bool:
    """Return True if a schema of this revision needs a migration."""
    return revision is None or revision < NEWEST


def check(revision: str | None) -> None:
    """Check that a database has the schema of this version.

    Args:
        revision: the result of `read_revision`.

    Raises:
        SchemaError: the schema is older, or newer.
    """
    if is_older(revision):
        has = f"the schema is of revision {revision}" if revision else "the database has no schema"
        raise SchemaError(
            f"database.url: {has}, and this version of the server needs {NEWEST}: run"
            " `chat-server database upgrade`, or set database.migrate"
        )
    if revision != NEWEST:
        raise SchemaError(
            f"database.url: the schema is of revision {revision}, and this version of the server"
            f" knows none behind {NEWEST}: run the newer version, or restore a back-up"
        )


async def read_revision(engine: AsyncEngine) -> str | None:
    """Return the revision of a database's schema; None for a database without a schema.

    Raises:
        DBAPIError, OSError, TimeoutError: the database fails.
    """
    file = engine.url.database or ""
    if engine.dialect.name == "sqlite" and not os.path.exists(file):  # noqa: ASYNC240  (at starts)
        return None  # Connecting would create a file that every user of the system can read.
    async with engine.execution_options(**READING).connect() as connection:
        return await connection.run_sync(_read_revision)


def _read_revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    found = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608  (our own name)
    return None if found is None else str(found)


async def upgrade(settings: DatabaseSettings) -> tuple[str | None, str]:
    """Upgrade the schema of a database, all or nothing; other processes wait meanwhile.

    Returns:
        The revisions before and after.

    Raises:
        SchemaError: the schema is newer than this version.
        DBAPIError, OSError, TimeoutError: the database fails.
    """
    url = parse_database_url(settings.url)
    if url.dialect == "sqlite":
        _create_private(url.name)
    engine = make_migration_engine(settings)
    try:
        # SQLite locks the file at the start of the transaction.
        async with engine.begin() as connection:
            if url.dialect == "postgresql":
                await connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
            before = await connection.run_sync(_read_revision)
            if is_older(before):
                await connection.run_sync(_upgrade)
            else:
                check(before)
            return before, NEWEST
    finally:
        await engine.dispose()


async def upgrade_in_thread(settings: DatabaseSettings) -> None:
    """Call `upgrade` in a thread with its own event loop: Alembic reads files."""
    before, after = await asyncio.to_thread(lambda: asyncio.run(upgrade(settings)))
    logger.info("the schema of the database is at revision %s, from %s", after, before or "none")


def _upgrade(connection: Connection) -> None:
    # Imported late: usually there is nothing to migrate, and imported modules stay in memory.
    from alembic import command
    from alembic.config import Config

    config = Config()
    # A path may contain a %, a special character of the ini parser.
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _create_private(file: str) -> None:
    """Create SQLite's file readable only by its owner: the file will have users' messages.

    The function never opens an existing file: closing it would drop all locks of this process on
    the file (POSIX), including those of SQLite's connections.
    """
    with suppress(FileExistsError):
        os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))


def describe(error: BaseException) -> str:
    """Return the cause of a database's failure in one line, without statements and their values."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    lines = str(cause).splitlines()
    return lines[0] if lines else type(cause).__name__
