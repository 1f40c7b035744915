"""The database of a process: sessions, and the wait for a database that is away."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from ..logs import LogThrottle
from ..protocol.errors import Unavailable
from ..settings import DatabaseSettings, SettingsError
from . import schema
from .engine import READING, make_engine, make_thread_engine
from .threads import SqliteThreads
from .urls import parse_database_url

logger = logging.getLogger(__name__)

T = TypeVar("T")

RETRY_MS = 1_000
"""`retry_in_ms` while the database cannot be used."""

RETRY_SECONDS = (1.0, 15.0)
"""Seconds between two attempts to reach a database that was away at the start: first and most."""


class Database:
    """Sessions with one database, for as long as a process runs.

    Args:
        settings: `settings.database` of a server, with a `url`.

    Raises:
        SettingsError: the address is wrong, or its driver is not installed.

    Attributes:
        dialect: `sqlite` or `postgresql`.
    """

    def __init__(self, settings: DatabaseSettings) -> None:
        self._settings = settings
        self.dialect = parse_database_url(settings.url).dialect
        self._engine = make_engine(settings)
        self._reading_engine = self._engine.execution_options(**READING)
        self._writing = async_sessionmaker(self._engine, expire_on_commit=False)
        self._reading = async_sessionmaker(self._reading_engine, expire_on_commit=False)
        self._threads = _make_threads(settings) if self.dialect == "sqlite" else None
        self._ready = asyncio.Event()
        self._waiting: asyncio.Task[None] | None = None
        self._throttle = LogThrottle()

    @property
    def engine(self) -> Engine:
        """The engine by which `run` executes."""
        return self._engine.sync_engine if self._threads is None else self._threads.engine

    @property
    def is_ready(self) -> bool:
        """Whether the database was reached, and has the schema of this version."""
        return self._ready.is_set()

    async def wait_until_ready(self) -> None:
        """Wait until the database was reached, and has the schema of this version."""
        await self._ready.wait()

    async def start(self) -> None:
        """Check the schema, or migrate it where `database.migrate` is set; again, do nothing.

        A database that is away is awaited in the background; until then sessions are refused.

        Raises:
            SchemaError: this version cannot work with the schema.
        """
        if self.is_ready or self._waiting is not None:
            return
        try:
            await self._prepare()
        except Unavailable:
            self._waiting = asyncio.create_task(self._wait(), name="database")
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Close every connection; the driver of SQLite has a thread for each."""
        self._ready.clear()
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.cancel()
            await asyncio.wait([waiting])
        if self._threads is not None:
            await self._threads.stop()
        await self._engine.dispose()

    @asynccontextmanager
    async def session(self, *, read_only: bool = False) -> AsyncIterator[AsyncSession]:
        """Return a session for one unit of work: a transaction that is committed at the end.

        An exception rolls it back. Nothing but the database should be awaited inside.

        Args:
            read_only: nothing is written; in SQLite those who write wait for each other, and those
                who read for nobody.

        Raises:
            Unavailable: the database cannot be used now; the log has the reason.
        """
        if not self.is_ready:
            raise _unavailable()
        make = self._reading if read_only else self._writing
        async with self._translated(), make() as session, session.begin():
            yield session

    async def run(self, work: Callable[[Connection], T], *, read_only: bool = False) -> T:
        """Do a unit of work as `session` does, at less cost: its steps need no wait in between.

        In SQLite it is one step of a thread. A session takes some ten to twenty, to begin, to open
        and close each cursor, to end; each waits for its turn on a busy machine.

        Args:
            work: executes statements by the connection that it is given, and awaits nothing. What
                it raises rolls it back, as does the cancellation of the caller.
            read_only: as for `session`.

        Raises:
            Unavailable: as `session`.
        """
        if not self.is_ready:
            raise _unavailable()
        async with self._translated():
            if self._threads is not None:
                return await self._threads.run(work, read_only=read_only)
            engine = self._reading_engine if read_only else self._engine
            async with engine.begin() as connection:
                return await connection.run_sync(work)

    @asynccontextmanager
    async def _translated(self) -> AsyncIterator[None]:
        try:
            yield
        except IntegrityError:
            raise  # A rule of a table that the caller knows.
        except (DBAPIError, PoolTimeoutError, OSError, TimeoutError) as error:
            if self._throttle.due(type(error).__name__):
                logger.error("the database fails: %s", schema.describe(error))
            raise _unavailable() from error

    async def _prepare(self) -> None:
        async with self._translated():
            revision = await schema.read_revision(self._engine)
            if self._settings.migrate and schema.is_older(revision):
                await schema.upgrade_in_thread(self._settings)
            else:
                schema.check(revision)
        self._ready.set()

    async def _wait(self) -> None:
        pause, longest = RETRY_SECONDS
        while not self.is_ready:
            await asyncio.sleep(pause)
            pause = min(2 * pause, longest)
            try:
                await self._prepare()
                logger.info("the database is there")
            except Unavailable:
                pass
            except SettingsError as error:
                if self._throttle.due("schema"):
                    logger.error("%s", error)


def _make_threads(settings: DatabaseSettings) -> SqliteThreads:
    engine = make_thread_engine(settings)
    return SqliteThreads(engine, settings.pool_size, settings.timeout_seconds)


def _unavailable() -> Unavailable:
    return Unavailable("the database cannot be used now", retry_in_ms=RETRY_MS)
