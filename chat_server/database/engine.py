"""Engines: the options of connections with SQLite and PostgreSQL."""

import asyncio
import importlib.util
import logging
from asyncio import CancelledError
from sqlite3 import OperationalError
from typing import Any, Final

from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.util import await_only

from ..settings import DatabaseSettings, SettingsError
from .urls import DatabaseUrl, parse_database_url

READING: Final = {"chat_read_only": True, "postgresql_readonly": True}
"""Execution options of read-only connections."""

APPLICATION_NAME: Final = "chat-server"
"""Name of our connections in `pg_stat_activity`."""


class _Uncancelled(logging.Filter):
    """Drops the pool's error about a connection whose user was cancelled during the return.

    The pool drops such a connection, and nothing is wrong: a stopping worker cancels its tasks.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Return False for a record about a cancellation."""
        return not (record.exc_info and isinstance(record.exc_info[1], CancelledError))


_UNCANCELLED: Final = _Uncancelled()

WAL_TRIES: Final = 200
"""Attempts to set the journal mode while another connection changes the mode."""
WAL_SECONDS: Final = 0.05
"""Seconds between two of these attempts."""


def make_engine(settings: DatabaseSettings) -> AsyncEngine:
    """Return the engine of a server; the engine connects at its first use.

    Raises:
        SettingsError: the driver of the database is not installed.
    """
    url = _parse(settings)
    seconds = settings.timeout_seconds
    options: dict[str, Any] = {"pool_size": settings.pool_size, "max_overflow": 0}
    if url.dialect == "postgresql":
        # `pool_pre_ping` tests a connection before its use, so a restarted database causes no
        # error.
        options |= {"pool_pre_ping": True, "connect_args": _postgresql(url, seconds, seconds)}
        return _create(url, pool_timeout=seconds, **options)
    engine = _create(url, pool_timeout=seconds, connect_args=_SQLITE, **options)
    _prepare_sqlite(engine.sync_engine, _busy_timeout(seconds), *_PRAGMAS)
    return engine


def make_thread_engine(settings: DatabaseSettings) -> Engine:
    """Return an engine for threads that use SQLite; the engine connects at its first use."""
    address = URL.create("sqlite+pysqlite", database=_parse(settings).name)
    options: dict[str, Any] = {"pool_size": settings.pool_size, "max_overflow": 0}
    engine = create_engine(address, hide_parameters=True, connect_args=_SQLITE, **options)
    _prepare_sqlite(engine, _busy_timeout(settings.timeout_seconds), *_PRAGMAS)
    return engine


def make_migration_engine(settings: DatabaseSettings) -> AsyncEngine:
    """Return an engine for migrations, without a time limit for statements.

    Raises:
        SettingsError: the driver of the database is not installed.
    """
    url = _parse(settings)
    if url.dialect == "postgresql":
        arguments = _postgresql(url, settings.timeout_seconds, None)
        return _create(url, poolclass=NullPool, connect_args=arguments)
    engine = _create(url, poolclass=NullPool, connect_args=_SQLITE)
    # Without foreign keys: replacing a table must not delete the rows that refer to it. With WAL
    # readers never wait for a writer. The file remembers this mode.
    _prepare_sqlite(engine.sync_engine, _busy_timeout(60))
    event.listen(engine.sync_engine, "connect", _write_ahead)
    return engine


def _write_ahead(connection: Any, record: object) -> None:
    cursor = connection.cursor()
    for left in reversed(range(WAL_TRIES)):
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
            break
        except OperationalError:
            # If two connections change the mode at once, SQLite refuses one immediately to avoid a
            # deadlock: busy_timeout has no effect here.
            if not left:
                raise
            await_only(asyncio.sleep(WAL_SECONDS))
    cursor.close()


# `secure_delete` overwrites deleted data.
_PRAGMAS = ("PRAGMA foreign_keys = ON", "PRAGMA secure_delete = ON")
# `_begin` starts transactions explicitly, instead of Python's driver implicitly.
_SQLITE = {"isolation_level": None}


def _parse(settings: DatabaseSettings) -> DatabaseUrl:
    try:
        url = parse_database_url(settings.url)
    except ValueError as error:
        raise SettingsError(f"database.url: {error}") from None
    if url.dialect == "postgresql" and importlib.util.find_spec("asyncpg") is None:
        raise SettingsError(
            "database.url: PostgreSQL needs asyncpg: pip install 'quart-chat[postgresql]'"
        )
    return url


def _postgresql(url: DatabaseUrl, connect: float, command: float | None) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "timeout": connect,
        "command_timeout": command,
        "server_settings": {"application_name": APPLICATION_NAME},
    }
    return arguments if url.ssl is None else {**arguments, "ssl": url.ssl}


def _create(url: DatabaseUrl, **options: Any) -> AsyncEngine:
    driver = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}[url.dialect]
    address = URL.create(
        driver,
        username=url.user,
        password=url.password,
        host=url.host,
        port=url.port,
        database=url.name,
    )
    logging.getLogger("sqlalchemy.pool.impl.AsyncAdaptedQueuePool").addFilter(_UNCANCELLED)
    # Errors, and thus the log, must not contain users' texts or password hashes.
    return create_async_engine(address, hide_parameters=True, **options)


def _busy_timeout(seconds: float) -> str:
    return f"PRAGMA busy_timeout = {seconds * 1_000:.0f}"


def _prepare_sqlite(engine: Engine, *pragmas: str) -> None:
    def prepare(connection: Any, record: object) -> None:
        cursor = connection.cursor()
        for pragma in pragmas:
            cursor.execute(pragma)
        cursor.close()

    event.listen(engine, "connect", prepare)
    event.listen(engine, "begin", _begin)


def _begin(connection: Connection) -> None:
    # A transaction that reads first and then writes would fail if another had written meanwhile.
    # `BEGIN IMMEDIATE` waits for its turn instead.
    read_only = connection.get_execution_options().get("chat_read_only")
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")
