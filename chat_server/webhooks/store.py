"""The state of each endpoint in the database, and the endpoint's cursor in each topic."""

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
    """An endpoint, by its name in the settings."""

    __tablename__ = "chat_webhooks"

    name: Mapped[str] = mapped_column(String(48), primary_key=True)
    created_at: Mapped[int] = mapped_column(BigInteger)
    failing_since: Mapped[int | None] = mapped_column(BigInteger)
    reason: Mapped[str] = mapped_column(String(REASON_CHARACTERS))
    parked_at: Mapped[int | None] = mapped_column(BigInteger)
    replays: Mapped[int] = mapped_column(Integer)


class WebhookCursorRow(Base):
    """The cursor of an endpoint in a topic; `moved_at` is the time of its last move."""

    __tablename__ = "chat_webhook_cursors"

    webhook: Mapped[str] = mapped_column(String(48), primary_key=True)
    topic: Mapped[str] = mapped_column(String(255), primary_key=True)
    epoch: Mapped[str] = mapped_column(String(64))
    seq: Mapped[int] = mapped_column(BigInteger)
    at: Mapped[int] = mapped_column(BigInteger)
    moved_at: Mapped[int] = mapped_column(BigInteger)


class State(Struct, frozen=True):
    """The state of an endpoint; times in milliseconds since 1970.

    Args:
        name: the name of the endpoint.
        created_at: start of the events for the endpoint; earlier events are not sent.
        failing_since: the first failure after the last success; None for a healthy endpoint.
        reason: the reason of the last failure or of the parking.
        parked_at: start of the parking; None for an endpoint that is not parked.
        replays: number of replays that operators have asked for.
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
    """Reads and writes the state and the cursors of endpoints.

    Every method raises `Unavailable` while the database cannot be used.

    Args:
        database: the database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    # State of the endpoints ----------------------------------------------------------------

    async def begin(self, name: str, now: int) -> State:
        """Return the state of an endpoint, and create the state of a new endpoint."""
        values = {"name": name, "created_at": now, "reason": "", "replays": 0}
        async with self._database.session() as session:
            await session.execute(self._insert(WebhookRow, values, ()))
            query = select(*_STATE_COLUMNS).where(_state.name == name)
            return State(*(await session.execute(query)).one())

    async def states(self) -> list[State]:
        """Return the state of all endpoints, by name."""
        async with self._database.session(read_only=True) as session:
            found = await session.execute(select(*_STATE_COLUMNS).order_by(_state.name))
            return [State(*row) for row in found]

    async def state(self, name: str) -> State | None:
        """Return the state of an endpoint; None for an unknown name."""
        query = select(*_STATE_COLUMNS).where(_state.name == name)
        async with self._database.session(read_only=True) as session:
            row = (await session.execute(query)).one_or_none()
            return None if row is None else State(*row)

    async def write_failing(self, name: str, since: int | None, reason: str) -> None:
        """Note the start and the reason of failures; `since=None` notes the end of failures."""
        await self._change(name, failing_since=since, reason=reason[:REASON_CHARACTERS])

    async def park(self, name: str, now: int, reason: str) -> None:
        """Note the parking of an endpoint."""
        await self._change(name, parked_at=now, reason=reason[:REASON_CHARACTERS])

    async def replay(self, name: str) -> bool:
        """Unpark an endpoint and end its pause; return False for an unknown name."""
        changes = {"parked_at": None, "failing_since": None, "reason": ""}
        return await self._change(name, **changes, replays=_state.replays + 1)

    async def _change(self, name: str, **values: Any) -> bool:
        async with self._database.session() as session:
            statement = update(WebhookRow).where(_state.name == name).values(**values)
            return bool((await session.execute(statement)).rowcount)  # type: ignore[attr-defined]

    async def forget(self, name: str, now: int) -> bool:
        """Begin anew with an endpoint, without events from before `now`.

        Returns:
            False for an unknown name.
        """
        anew: dict[str, Any] = {"created_at": now, "failing_since": None, "reason": ""}
        found = await self._change(name, **anew, parked_at=None, replays=_state.replays + 1)
        async with self._database.session() as session:
            await session.execute(delete(WebhookCursorRow).where(_cursor.webhook == name))
        return found

    # Cursors of the endpoints --------------------------------------------------------------

    async def cursors(self, name: str, topics: Collection[str]) -> dict[str, Cursor]:
        """Return the cursors of an endpoint in these topics, without topics not begun yet."""
        if not topics:
            return {}
        async with self._database.session(read_only=True) as session:
            return await self._read(session, name, topics)

    async def count_cursors(self) -> dict[str, int]:
        """Return the number of cursors of each endpoint."""
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
            name: the name of the endpoint.
            before: the expected present cursor of each topic.
            after: the new cursor of each topic.
            now: milliseconds since 1970.

        Raises:
            Outdated: a topic has another cursor than in `before`.
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
        """Move a topic's cursor back to `seq`; return False if the cursor is in front of `seq`."""
        values = {"seq": seq, "at": 0, "moved_at": now}
        here = (_cursor.webhook == name, _cursor.topic == topic, _cursor.seq >= seq)
        async with self._database.session() as session:
            done = await session.execute(update(WebhookCursorRow).where(*here).values(values))
            return bool(done.rowcount)  # type: ignore[attr-defined]

    async def purge(self, name: str, moved_before: int) -> None:
        """Delete the cursors that have not moved since a time."""
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
        """Return a statement that inserts rows, or updates the columns `changed` of old rows."""
        module = sqlite if self._database.dialect == "sqlite" else postgresql
        statement = module.insert(table).values(values)
        keys = table.__table__.primary_key.columns  # type: ignore[attr-defined]
        if not changed:
            return statement.on_conflict_do_nothing(index_elements=keys)
        updates = {name: statement.excluded[name] for name in changed}
        return statement.on_conflict_do_update(index_elements=keys, set_=updates)
