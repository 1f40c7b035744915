"""Engines: how SQLite and PostgreSQL are spoken with."""

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
"""The execution options of connections that only read."""

APPLICATION_NAME: Final = "chat-server"
"""What `pg_stat_activity` calls our connections."""


class _Uncancelled(logging.Filter):
    """Leaves out what the pool says of a connection whose user was cancelled as it came back.

    The pool drops such a connection, and nothing is wrong: a worker that stops cancels its tasks.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is of anything else."""
        return not (record.exc_info and isinstance(record.exc_info[1], CancelledError))


_UNCANCELLED: Final = _Uncancelled()

WAL_TRIES: Final = 200
"""How often a connection asks for the journal that others change at the same moment."""
WAL_SECONDS: Final = 0.05
"""Seconds between two of these tries."""


def make_engine(settings: DatabaseSettings) -> AsyncEngine:
    """Return the engine of a server; it connects when it is first used.

    Raises:
        SettingsError: the driver of the database is not installed.
    """
    url = _parse(settings)
    seconds = settings.timeout_seconds
    options: dict[str, Any] = {"pool_size": settings.pool_size, "max_overflow": 0}
    if url.dialect == "postgresql":
        # A restarted database costs nobody an error: a connection is tried before it is used.
        options |= {"pool_pre_ping": True, "connect_args": _postgresql(url, seconds, seconds)}
        return _create(url, pool_timeout=seconds, **options)
    engine = _create(url, pool_timeout=seconds, connect_args=_SQLITE, **options)
    _prepare_sqlite(engine.sync_engine, _busy_timeout(seconds), *_PRAGMAS)
    return engine


def make_thread_engine(settings: DatabaseSettings) -> Engine:
    """Return an engine for threads that work with SQLite; it connects when it is first used."""
    address = URL.create("sqlite+pysqlite", database=_parse(settings).name)
    options: dict[str, Any] = {"pool_size": settings.pool_size, "max_overflow": 0}
    engine = create_engine(address, hide_parameters=True, connect_args=_SQLITE, **options)
    _prepare_sqlite(engine, _busy_timeout(settings.timeout_seconds), *_PRAGMAS)
    return engine


def make_migration_engine(settings: DatabaseSettings) -> AsyncEngine:
    """Return an engine for migrations: no statement has a limit of time.

    Raises:
        SettingsError: the driver of the database is not installed.
    """
    url = _parse(settings)
    if url.dialect == "postgresql":
        arguments = _postgresql(url, settings.timeout_seconds, None)
        return _create(url, poolclass=NullPool, connect_args=arguments)
    engine = _create(url, poolclass=NullPool, connect_args=_SQLITE)
    # Without foreign keys: a table that is made anew must not take along what refers to it. WAL,
    # with which nobody who reads waits for a writer, is remembered by the file.
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
            # Of two that change the mode at once SQLite refuses one at once, lest they wait for
            # each other: busy_timeout does not hold here.
            if not left:
                raise
            await_only(asyncio.sleep(WAL_SECONDS))
    cursor.close()


# What is deleted is overwritten.
_PRAGMAS = ("PRAGMA foreign_keys = ON", "PRAGMA secure_delete = ON")
# Transactions begin with the statement of `_begin`, not where the driver of Python thinks fit.
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
    # What people write, and hashes of passwords, stay out of errors and so out of the log.
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
    # One that reads first and then writes would be refused at once if another had written
    # meanwhile; one that says so at its beginning waits for its turn.
    read_only = connection.get_execution_options().get("chat_read_only")
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")
