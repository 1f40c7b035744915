"""The database of a process: sessions, and the wait for a database that is down."""

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
"""Milliseconds in `retry_in_ms` while the database cannot be used."""

RETRY_SECONDS = (1.0, 15.0)
"""Seconds between two attempts to reach a database that was down at the start: first and most."""


class Database:
    """Sessions with one database, for the lifetime of a process.

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
        """The engine of `run`."""
        return self._engine.sync_engine if self._threads is None else self._threads.engine

    @property
    def is_ready(self) -> bool:
        """True once the database was reached and has the schema of this version."""
        return self._ready.is_set()

    async def wait_until_ready(self) -> None:
        """Wait until the database was reached and has the schema of this version."""
        await self._ready.wait()

    async def start(self) -> None:
        """Check the schema, or migrate it with `database.migrate`; a second call does nothing.

        If the database is down, a task waits in the background; until then sessions are refused.

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

        An exception rolls the transaction back. Await only the database inside.

        Args:
            read_only: True for work without writes. In SQLite writers wait for each other; readers
                never wait.

        Raises:
            Unavailable: the database cannot be used now; the log has the reason.
        """
        if not self.is_ready:
            raise _unavailable()
        make = self._reading if read_only else self._writing
        async with self._translated(), make() as session, session.begin():
            yield session

    async def run(self, work: Callable[[Connection], T], *, read_only: bool = False) -> T:
        """Run a unit of work as `session` does, but cheaper.

        The steps of the work may not wait for anything but the database.

        In SQLite the work is one hand-over to a thread. A session needs some ten to twenty: to
        begin, to open and close each cursor, to end. On a busy machine each hand-over waits for its
        turn.

        Args:
            work: executes statements on the given connection, and awaits nothing. An exception, or
                the cancellation of the caller, rolls the transaction back.
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
            raise  # A constraint that the caller handles.
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
