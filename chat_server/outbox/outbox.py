"""The application's side of an outbox: publications are rows of the application's transaction."""

import secrets
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec
from sqlalchemy import MetaData, delete, event, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from ..protocol.commands import Publish
from ..protocol.errors import NotFound, TooLarge
from ..protocol.messages import User
from ..protocol.topics import check_topic
from ..service.publishing import command_of
from ..settings import LimitSettings
from .tables import tables_in

_NOTED: Final = "chat_outbox"
"""Key of a session's `info` for the outboxes that already listen to its commits."""


class ParkedTopic(msgspec.Struct, frozen=True):
    """A parked topic, whose publications wait.

    Args:
        topic: the topic.
        error: the reason why the first publication failed.
        waiting: number of waiting publications.
        parked_at: milliseconds since 1970.
    """

    topic: str
    error: str
    waiting: int
    parked_at: int


class Outbox:
    """Stores publications in an application's transaction; a relay publishes them after the commit.

    `ChatServer.relay` publishes the rows. Of several relays on one database only one works at a
    time.

    Args:
        metadata: gets the tables `chat_outbox`, `chat_outbox_parked` and `chat_leases`. The
            application creates these tables together with its own. None uses the tables in the
            server's database.
        max_bytes: bytes of JSON text that `data` may have, at most `limits.max_message_bytes`.
        lease_seconds: seconds after which another relay replaces a killed relay.

    Attributes:
        tables: the tables.
    """

    def __init__(
        self,
        metadata: MetaData | None = None,
        *,
        max_bytes: int = LimitSettings().max_message_bytes,
        lease_seconds: float = 15.0,
    ) -> None:
        self.tables = tables_in(metadata)
        self.lease_seconds = lease_seconds
        self._max_bytes = max_bytes
        self._listeners: set[Callable[[], None]] = set()

    async def publish(
        self,
        session: AsyncSession | AsyncConnection,
        topic: str,
        data: object,
        *,
        sender: User | str | None = None,
    ) -> None:
        """Publish a message exactly once, if the transaction of `session` commits.

        Args:
            session: a session or connection with the database of the outbox.
            topic: the topic.
            data: any value with a JSON form.
            sender: the user that subscribers see, as a name or a `User`; None for a message without
                a sender.

        Raises:
            BadRequest: the topic is not well-formed, or `data` has no JSON form that all clients
                can read.
            TooLarge: `data` has more than `max_bytes` of JSON.
        """
        check_topic(topic)
        text = bytes(command_of(Publish, topic, data).data)
        if len(text) > self._max_bytes:
            raise TooLarge(
                f"data: may have {self._max_bytes} bytes of JSON, not {len(text)}", topic=topic
            )
        user = User(sender) if isinstance(sender, str) else sender
        values = {
            "topic": topic,
            "data": text.decode(),
            "sender": None if user is None else msgspec.json.encode(user).decode(),
            # Random, because a recreated database counts from 1 again.
            "key": secrets.token_hex(16),
            "parked": False,
            "created_at": int(time.time() * 1000),
        }
        await session.execute(insert(self.tables.rows).values(values))
        if isinstance(session, AsyncSession):
            self._notice(session)

    def _notice(self, session: AsyncSession) -> None:
        """Wake the relay of this process after the commit of the session."""
        noted: set[int] = session.sync_session.info.setdefault(_NOTED, set())
        if id(self) not in noted:
            noted.add(id(self))
            event.listen(session.sync_session, "after_commit", self._committed)

    def _committed(self, _: Any) -> None:
        for listener in self._listeners:
            listener()

    def listen(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call a function after each commit of this process; return a function that ends this."""
        self._listeners.add(listener)
        return lambda: self._listeners.discard(listener)

    async def parked(self, session: AsyncSession | AsyncConnection) -> list[ParkedTopic]:
        """Return the parked topics, at most 1,000, ordered by name."""
        rows, parked = self.tables.rows.c, self.tables.parked.c
        waiting = (
            select(func.count()).where(rows.topic == parked.topic, rows.parked).scalar_subquery()
        )
        query = select(parked.topic, parked.error, waiting, parked.parked_at)
        found = await session.execute(query.order_by(parked.topic).limit(1_000))
        return [ParkedTopic(*row) for row in found]

    async def unpark(
        self, session: AsyncSession | AsyncConnection, topic: str, *, drop_first: bool = False
    ) -> None:
        """Publish the waiting messages of a parked topic, in their order.

        Args:
            session: as of `publish`.
            topic: the topic.
            drop_first: True drops the message that could not be published.

        Raises:
            NotFound: the topic is not parked.
        """
        rows, parked = self.tables.rows.c, self.tables.parked.c
        found = await session.execute(select(parked.row_id).where(parked.topic == topic))
        row_id = found.scalar_one_or_none()
        if row_id is None:
            raise NotFound("topic: is not parked", topic=topic)
        if drop_first:
            await session.execute(delete(self.tables.rows).where(rows.id == row_id))
        await session.execute(delete(self.tables.parked).where(parked.topic == topic))
        unparked = update(self.tables.rows).where(rows.topic == topic, rows.parked)
        await session.execute(unparked.values(parked=False))
        if isinstance(session, AsyncSession):
            self._notice(session)
