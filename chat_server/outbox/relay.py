"""The server's side of an outbox: publishes committed rows, in order and once.

The relay reads, publishes and then deletes a batch of rows. A relay that ends before the deletion
leaves published rows behind. The next relay publishes these rows again with the same idempotency
keys. The broker therefore stores each row once, as long as the broker remembers the keys
(`broker.idempotency_seconds`).
"""

import asyncio
import logging
import time
from asyncio import Event, Task
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, Protocol

import msgspec
from sqlalchemy import Row, delete, insert, select, update
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from ..database.leases import Lease, Sessions
from ..database.schema import describe
from ..logs import LogThrottle
from ..protocol.errors import ChatError, Internal, RateLimited, Unavailable
from ..protocol.messages import User
from .outbox import Outbox

logger = logging.getLogger(__name__)

BATCH: Final = 100
"""Rows read at once."""

POLL_SECONDS: Final = 0.5
"""Seconds between two looks for commits of other processes."""

PAUSE_SECONDS: Final = (0.5, 30.0)
"""Seconds: first and longest pause of a topic or the relay after a failure; doubled each time."""

MAX_RESTING: Final = 500
"""Topics that may pause. Beyond this bound the store counts as down, and every topic waits."""

STOP_SECONDS: Final = 5.0
"""Seconds that a stopping relay may take to end its batch."""

MAX_ERROR: Final = 255

LEASE: Final = "outbox"

_TRANSIENT = (Unavailable, RateLimited, Internal)


class Publish(Protocol):
    """Publishes on behalf of the application, as `ChatServer.publish` does."""

    async def __call__(self, topic: str, data: object, *, sender: User | None, key: str) -> object:
        """Publish a message once for each key."""
        ...


class EngineSessions:
    """Sessions with an application's own engine."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._make = async_sessionmaker(engine, expire_on_commit=False)

    @asynccontextmanager
    async def session(self, *, read_only: bool = False) -> AsyncIterator[AsyncSession]:
        """Return a session for one unit of work: a transaction that is committed at the end."""
        async with self._make() as session, session.begin():
            yield session


class _Rest:
    """The end of a topic's pause, and the length of its next pause."""

    __slots__ = ("pause", "until")

    def __init__(self) -> None:
        self.pause = PAUSE_SECONDS[0]
        self.until = 0.0


class Relay:
    """Publishes the rows of an outbox, if no other relay of the database does.

    Args:
        outbox: the outbox.
        sessions: sessions with the outbox's database.
        publish: publishes a message.
        holder: the name of this process, unique among all processes.
    """

    def __init__(self, outbox: Outbox, sessions: Sessions, publish: Publish, holder: str) -> None:
        self._outbox = outbox
        self._rows, self._parked, leases = outbox.tables
        self._sessions = sessions
        self._publish = publish
        self._lease = Lease(sessions, LEASE, holder, outbox.lease_seconds, leases)
        self._renew_at = 0.0
        self._resting: dict[str, _Rest] = {}
        self._committed = Event()
        self._stopping = False
        self._task: Task[None] | None = None
        self._throttle = LogThrottle()

    def start(self) -> None:
        """Begin to publish."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="outbox relay")

    async def stop(self) -> None:
        """End the present batch, and let another relay continue."""
        task, self._task = self._task, None
        if task is None:
            return
        self._stopping = True
        self._committed.set()
        await asyncio.wait({task}, timeout=STOP_SECONDS)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        with suppress(SQLAlchemyError, ChatError, OSError, TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                await self._lease.release()

    async def _run(self) -> None:
        end = self._outbox.listen(self._committed.set)
        pause = first = PAUSE_SECONDS[0]
        try:
            while not self._stopping:
                self._committed.clear()
                try:
                    more = await self._work()
                    pause, wait = first, 0.0 if more else POLL_SECONDS
                except Exception as error:
                    self._log(error)
                    wait, pause = pause, min(2 * pause, PAUSE_SECONDS[1])
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await self._committed.wait()
        finally:
            end()

    def _log(self, error: Exception) -> None:
        if not self._throttle.due(type(error).__name__):
            return
        if isinstance(error, ChatError | DBAPIError | OSError | TimeoutError):
            logger.error("the outbox cannot be read: %s", describe(error))
        else:
            logger.exception("the outbox cannot be read")

    async def _work(self) -> bool:
        """Publish a batch if this relay holds the lease; return True if more rows wait."""
        now = time.monotonic()
        if now >= self._renew_at:
            await self._lease.renew()
            self._renew_at = now + self._outbox.lease_seconds / 3
        if not self._lease.held or self._all_rest(now):
            return False
        async with self._sessions.session(read_only=True) as session:
            rows, late = await self._read(session, now)
        by_topic: dict[str, list[Row[Any]]] = {}
        for row in rows:
            if row.topic not in late:
                by_topic.setdefault(row.topic, []).append(row)
        outcomes = await asyncio.gather(*map(self._publish_all, by_topic.values()))
        done = [id for ids, _ in outcomes for id in ids]
        dead = {
            row.topic: (row, error) for _, failed in outcomes if failed for row, error in [failed]
        }
        if done or dead or late:
            async with self._sessions.session() as session:
                await self._record(session, done, dead, late)
        return bool(done or dead or late) and len(rows) == BATCH

    def _all_rest(self, now: float) -> bool:
        """Return True if at least `MAX_RESTING` topics pause, so no query can help."""
        resting = [rest for rest in self._resting.values() if rest.until > now]
        return len(resting) >= MAX_RESTING

    async def _read(self, session: AsyncSession, now: float) -> tuple[Sequence[Any], set[str]]:
        """Return the oldest rows, and the names of their topics that are parked already."""
        row, parked = self._rows.c, self._parked.c.topic
        resting = [topic for topic, rest in self._resting.items() if rest.until > now]
        query = select(row.id, row.topic, row.data, row.sender, row.key).where(
            row.parked.is_(False)
        )
        if resting:
            query = query.where(row.topic.not_in(resting))
        rows = (await session.execute(query.order_by(row.id).limit(BATCH))).all()
        topics = {each.topic for each in rows}
        late = await session.scalars(select(parked).where(parked.in_(topics))) if topics else ()
        return rows, set(late)

    async def _publish_all(
        self, rows: list[Row[Any]]
    ) -> tuple[list[int], tuple[Row[Any], ChatError] | None]:
        """Publish rows of one topic one after the other, until a row fails.

        Returns:
            The ids of the published rows, and a row that can never be published, with the reason.
        """
        done: list[int] = []
        topic = rows[0].topic
        for row in rows:
            # A process that was frozen meanwhile has lost the lease.
            if not self._lease.held or self._stopping:
                break
            sender = None if row.sender is None else msgspec.json.decode(row.sender, type=User)
            data = msgspec.Raw(row.data.encode())
            try:
                await self._publish(topic, data, sender=sender, key=row.key)
            except _TRANSIENT as error:
                self._rest(topic, error)
                return done, None
            except ChatError as error:
                logger.error(
                    "the outbox parks %s: message %d cannot be published: %s",
                    *(topic, row.id, error.message),
                )
                return done, (row, error)
            done.append(row.id)
        self._resting.pop(topic, None)
        return done, None

    def _rest(self, topic: str, error: ChatError) -> None:
        rest = self._resting.setdefault(topic, _Rest())
        rest.until = time.monotonic() + rest.pause
        rest.pause = min(2 * rest.pause, PAUSE_SECONDS[1])
        if self._throttle.due("publish"):
            logger.warning("the outbox waits: %s cannot be published to: %s", topic, error.message)

    async def _record(
        self,
        session: AsyncSession,
        done: list[int],
        dead: dict[str, tuple[Row[Any], ChatError]],
        late: set[str],
    ) -> None:
        """Delete published rows; park rows that cannot be published, and the rows behind them."""
        row = self._rows.c
        if done:
            await session.execute(delete(self._rows).where(row.id.in_(done)))
        for topic in (*dead, *late):
            parked = update(self._rows).where(row.topic == topic).values(parked=True)
            await session.execute(parked)
        for topic, (first, error) in dead.items():
            values = {
                "topic": topic,
                "row_id": first.id,
                "error": error.message[:MAX_ERROR],
                "parked_at": int(time.time() * 1000),
            }
            await session.execute(insert(self._parked).values(values))
