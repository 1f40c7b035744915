"""What the database remembers of each endpoint: how far it is in each topic, and how it is."""

from collections.abc import Collection, Mapping
from typing import Any

from msgspec import Struct
from sqlalchemy import BigInteger, Integer, String, delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from ..consumers.ports import Cursor, Outdated
from ..database.base import Base
from ..database.database import Database

REASON_CHARACTERS = 255


class WebhookRow(Base):
    """An endpoint, by the name that the settings give it."""

    __tablename__ = "chat_webhooks"

    name: Mapped[str] = mapped_column(String(48), primary_key=True)
    created_at: Mapped[int] = mapped_column(BigInteger)
    failing_since: Mapped[int | None] = mapped_column(BigInteger)
    reason: Mapped[str] = mapped_column(String(REASON_CHARACTERS))
    parked_at: Mapped[int | None] = mapped_column(BigInteger)
    replays: Mapped[int] = mapped_column(Integer)


class WebhookCursorRow(Base):
    """How far an endpoint is in a topic; `moved_at` is when it came there."""

    __tablename__ = "chat_webhook_cursors"

    webhook: Mapped[str] = mapped_column(String(48), primary_key=True)
    topic: Mapped[str] = mapped_column(String(255), primary_key=True)
    epoch: Mapped[str] = mapped_column(String(64))
    seq: Mapped[int] = mapped_column(BigInteger)
    at: Mapped[int] = mapped_column(BigInteger)
    moved_at: Mapped[int] = mapped_column(BigInteger)


class State(Struct, frozen=True):
    """How an endpoint is; times in milliseconds since 1970.

    Args:
        name: its name.
        created_at: since when it is told of events.
        failing_since: the first failure after the last success, if that is so.
        reason: why it failed, or was parked.
        parked_at: since when nothing is sent, if that is so.
        replays: how often somebody asked to go on.
    """

    name: str
    created_at: int
    failing_since: int | None = None
    reason: str = ""
    parked_at: int | None = None
    replays: int = 0


_state = WebhookRow.__table__.c
_cursor = WebhookCursorRow.__table__.c
_STATE_COLUMNS = [_state[name] for name in State.__struct_fields__]


class WebhookStore:
    """Reads and writes what is remembered of endpoints.

    Every method raises `Unavailable` while the database cannot be used.

    Args:
        database: where.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    # How endpoints are ---------------------------------------------------------------------

    async def begin(self, name: str, now: int) -> State:
        """Return how an endpoint is, and begin with it if it is new."""
        values = {"name": name, "created_at": now, "reason": "", "replays": 0}
        async with self._database.session() as session:
            await session.execute(self._insert(WebhookRow, values, ()))
            query = select(*_STATE_COLUMNS).where(_state.name == name)
            return State(*(await session.execute(query)).one())

    async def states(self) -> list[State]:
        """Return how all endpoints are, by name."""
        async with self._database.session(read_only=True) as session:
            found = await session.execute(select(*_STATE_COLUMNS).order_by(_state.name))
            return [State(*row) for row in found]

    async def state(self, name: str) -> State | None:
        """Return how an endpoint is."""
        query = select(*_STATE_COLUMNS).where(_state.name == name)
        async with self._database.session(read_only=True) as session:
            row = (await session.execute(query)).one_or_none()
            return None if row is None else State(*row)

    async def write_failing(self, name: str, since: int | None, reason: str) -> None:
        """Note since when an endpoint fails, and why; None that it does not."""
        await self._change(name, failing_since=since, reason=reason[:REASON_CHARACTERS])

    async def park(self, name: str, now: int, reason: str) -> None:
        """Note that nothing is sent any more."""
        await self._change(name, parked_at=now, reason=reason[:REASON_CHARACTERS])

    async def replay(self, name: str) -> bool:
        """Let an endpoint go on, at once if it waits; return False if there is none."""
        changes = {"parked_at": None, "failing_since": None, "reason": ""}
        return await self._change(name, **changes, replays=_state.replays + 1)

    async def _change(self, name: str, **values: Any) -> bool:
        async with self._database.session() as session:
            statement = update(WebhookRow).where(_state.name == name).values(**values)
            return bool((await session.execute(statement)).rowcount)  # type: ignore[attr-defined]

    async def forget(self, name: str, now: int) -> bool:
        """Begin anew with an endpoint: events from before now are not sent.

        Returns:
            False if there is none of this name.
        """
        anew: dict[str, Any] = {"created_at": now, "failing_since": None, "reason": ""}
        found = await self._change(name, **anew, parked_at=None, replays=_state.replays + 1)
        async with self._database.session() as session:
            await session.execute(delete(WebhookCursorRow).where(_cursor.webhook == name))
        return found

    # How far they are ----------------------------------------------------------------------

    async def cursors(self, name: str, topics: Collection[str]) -> dict[str, Cursor]:
        """Return how far an endpoint is in these topics, as far as it has begun with them."""
        if not topics:
            return {}
        async with self._database.session(read_only=True) as session:
            return await self._read(session, name, topics)

    async def count_cursors(self) -> dict[str, int]:
        """Return in how many topics each endpoint has begun."""
        query = select(_cursor.webhook, func.count()).group_by(_cursor.webhook)
        async with self._database.session(read_only=True) as session:
            return {row[0]: row[1] for row in await session.execute(query)}

    async def move(
        self,
        name: str,
        before: Mapping[str, Cursor | None],
        after: Mapping[str, Cursor],
        now: int,
    ) -> None:
        """Move cursors, all or none.

        Args:
            name: the endpoint's.
            before: where each of the topics must stand.
            after: where they stand from now on.
            now: milliseconds since 1970.

        Raises:
            Outdated: a topic stands elsewhere.
        """
        if not after:
            return
        rows = [
            {
                "webhook": name,
                "topic": topic,
                "epoch": cursor.epoch,
                "seq": cursor.seq,
                "at": cursor.at,
                "moved_at": now,
            }
            for topic, cursor in after.items()
        ]
        changed = ("epoch", "seq", "at", "moved_at")
        async with self._database.session() as session:
            found = await self._read(session, name, list(after), for_update=True)
            if any(found.get(topic) != before[topic] for topic in after):
                raise Outdated
            await session.execute(self._insert(WebhookCursorRow, rows, changed))

    async def rewind(self, name: str, topic: str, seq: int, now: int) -> bool:
        """Go back in a topic; return False if the endpoint was never as far."""
        values = {"seq": seq, "at": 0, "moved_at": now}
        here = (_cursor.webhook == name, _cursor.topic == topic, _cursor.seq >= seq)
        async with self._database.session() as session:
            done = await session.execute(update(WebhookCursorRow).where(*here).values(values))
            return bool(done.rowcount)  # type: ignore[attr-defined]

    async def purge(self, name: str, moved_before: int) -> None:
        """Forget the cursors of topics in which nothing was sent since a time."""
        old = (_cursor.webhook == name, _cursor.moved_at < moved_before)
        async with self._database.session() as session:
            await session.execute(delete(WebhookCursorRow).where(*old))

    async def _read(
        self,
        session: AsyncSession,
        name: str,
        topics: Collection[str],
        *,
        for_update: bool = False,
    ) -> dict[str, Cursor]:
        columns = (_cursor.topic, _cursor.epoch, _cursor.seq, _cursor.at)
        query = select(*columns).where(_cursor.webhook == name, _cursor.topic.in_(topics))
        if for_update:
            query = query.with_for_update()
        found = await session.execute(query)
        return {topic: Cursor(epoch, seq, at) for topic, epoch, seq, at in found}

    def _insert(self, table: type[Base], values: Any, changed: Collection[str]) -> Any:
        """Return a statement that inserts rows, or changes these columns of those that exist."""
        module = sqlite if self._database.dialect == "sqlite" else postgresql
        statement = module.insert(table).values(values)
        keys = table.__table__.primary_key.columns  # type: ignore[attr-defined]
        if not changed:
            return statement.on_conflict_do_nothing(index_elements=keys)
        updates = {name: statement.excluded[name] for name in changed}
        return statement.on_conflict_do_update(index_elements=keys, set_=updates)
