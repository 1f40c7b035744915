"""Complete units of work in SQLite, each in one step of a thread."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from sqlalchemy import Connection, Engine

from .engine import READING

T = TypeVar("T")

_NAME: Final = "chat-database"


class SqliteThreads:
    """Runs units of work in threads; each thread has its own connection.

    The asynchronous driver hands over to its thread for each step of a session: to begin, to open,
    read and close each cursor, to end. Here one hand-over covers the whole unit of work.

    Args:
        engine: makes the connections, one for each thread.
        count: number of threads.
        seconds: seconds that work may wait for a thread.

    Attributes:
        engine: the engine.
    """

    def __init__(self, engine: Engine, count: int, seconds: float) -> None:
        self.engine = engine
        self._reading = engine.execution_options(**READING)
        self._count = count
        self._seconds = seconds
        self._free = asyncio.Semaphore(count)
        self._pool = ThreadPoolExecutor(count, _NAME)

    async def run(self, work: Callable[[Connection], T], *, read_only: bool) -> T:
        """Run a unit of work; roll back after a failure or the cancellation of the caller.

        Args:
            work: the work, called in the thread.
            read_only: True for work without writes, so the work waits for no writer.

        Raises:
            TimeoutError: no thread was free in time.
        """
        async with asyncio.timeout(self._seconds):
            await self._free.acquire()
        cancelled = threading.Event()
        engine = self._reading if read_only else self.engine
        done = asyncio.wrap_future(self._pool.submit(_do, engine, work, cancelled))
        done.add_done_callback(lambda _: self._free.release())
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            # The caller must not continue beside its own unfinished work.
            cancelled.set()
            await asyncio.wait([done])
            raise

    async def stop(self) -> None:
        """Wait for running work, and close the connections."""
        for _ in range(self._count):
            await self._free.acquire()
        await asyncio.wrap_future(self._pool.submit(self.engine.dispose))
        self._pool.shutdown(wait=False)
        # The object may be used again, as an engine may.
        self._pool = ThreadPoolExecutor(self._count, _NAME)
        for _ in range(self._count):
            self._free.release()


def _do(engine: Engine, work: Callable[[Connection], T], cancelled: threading.Event) -> T:
    with engine.connect() as connection:
        done = work(connection)
        if not cancelled.is_set():
            connection.commit()
        return done  # Without a commit the exit rolls back.
