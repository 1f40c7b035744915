"""Stores each publication once, over any number of connections.

After the server's idempotency window the client reads the later history of the topic, and resends
the publication only if history does not contain it.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Literal

from msgspec import Raw

from ..events import MAX_SEQ, Position
from ..protocol import commands
from ..protocol.commands import MAX_HISTORY
from ..protocol.errors import RateLimited
from ..protocol.messages import Message
from .codec import ClientCodec
from .connection import Connection
from .delivery import MAX_REMEMBERED, Delivery, Outcomes, Stopwatch, remember
from .ending import retry_delay
from .errors import CommandFailed, ConnectionLost, OutcomeUnknown
from .events import Page, Published
from .reconnector import Reconnector
from .subscriptions import Subscriptions

MAX_STORED_PLACES = 10_000
"""Places of stored publications kept in memory, to distinguish equal messages."""

MAX_PAGES = 20
"""Pages of history read at most in search of one publication."""


class PublicationLog(Outcomes):
    """Records the client's publications: topics' positions, stored places, unknown outcomes."""

    def __init__(
        self, reconnector: Reconnector, codec: ClientCodec, subscriptions: Subscriptions
    ) -> None:
        super().__init__(reconnector)
        self._codec = codec
        self._subscriptions = subscriptions
        self._positions: OrderedDict[str, Position] = OrderedDict()
        self._places: OrderedDict[tuple[str, str, int], None] = OrderedDict()

    def publication(
        self, topic: str, data: Raw, key: str | None, state: Literal["streaming"] | None = None
    ) -> "Publication":
        """Return a new publication, or the earlier one of this key if its outcome is unknown."""
        command = commands.Publish(topic=topic, data=data, key=key, state=state)
        earlier: Publication | None = self.earlier(_name(command))
        return earlier or Publication(self, command)

    async def learn_position(self, topic: str, on_refusal: Callable[[CommandFailed], None]) -> None:
        """Ask for a topic's position, unless it is known or the token does not grant history."""
        refusals = 0
        while self.position(topic) is None:
            connection = await self._reconnector.wait()
            try:
                page = await connection.command(commands.History(topic=topic, limit=1), Page)
            except ConnectionLost:
                continue
            except CommandFailed as error:
                if not error.transient:
                    return
                on_refusal(error)
                await asyncio.sleep(retry_delay(error.retry_in_ms, refusals))
                refusals += 1
            else:
                seq = max(0, page.messages[-1].seq) if page.messages else 0
                self.note_position(topic, Position(page.epoch, seq))

    def value(self, data: Raw) -> Any:
        """Return the value encoded in `data`."""
        return self._codec.decode(bytes(data), object)

    def position(self, topic: str) -> Position | None:
        """Return the latest known position of a topic."""
        published = self._positions.get(topic)
        received = self._subscriptions.position(topic)
        if published is None or received is None:
            return published or received
        if published.epoch != received.epoch:
            return received
        return max(published, received, key=lambda position: position.seq)

    def note_position(self, topic: str, position: Position) -> None:
        """Record a position of a topic, unless a later position is known."""
        known = self._positions.get(topic)
        if position.seq > MAX_SEQ:
            return  # A server may send any integer, but accepts no such position.
        if known is None or known.epoch != position.epoch or known.seq < position.seq:
            remember(self._positions, topic, position, MAX_REMEMBERED)

    def stored(self, published: Published) -> None:
        """Record the place of a stored publication, so no other publication is mistaken for it."""
        self.note_position(published.topic, Position(published.epoch, published.seq))
        place = published.topic, published.epoch, published.seq
        remember(self._places, place, None, MAX_STORED_PLACES)

    def is_other(self, topic: str, epoch: str, seq: int) -> bool:
        """Return True if a stored message is known to be another publication of this client."""
        return (topic, epoch, seq) in self._places


def _name(command: commands.Publish) -> tuple[str, str] | None:
    return None if command.key is None else (command.topic, command.key)


class Publication(Delivery[Published]):
    """A message that the server stores once, even if the client sends it repeatedly."""

    def __init__(self, log: PublicationLog, command: commands.Publish) -> None:
        super().__init__(log, _name(command), command, Published)
        self._log = log
        self._topic = command.topic
        self._data = command.data
        self._behind: Position | None = None

    def _begin(self, connection: Connection) -> None:
        super()._begin(connection)
        self._behind = self._log.position(self._topic)

    def conclude(self, published: Published) -> Published:
        """Note the place of the stored message."""
        self._log.stored(published)
        return super().conclude(published)

    async def _look(self, connection: Connection) -> Published | None:
        """Search history for the publication, from the topic's position at the first attempt."""
        now = Stopwatch()
        behind = self._behind
        if behind is None:
            raise self.unknown("it is not known how far the topic was when it was sent")
        data = self._log.value(self._data)
        # While history has a message from before, history has all later messages too. Changes of
        # messages are events of the topic as well, so the seqs of messages have gaps.
        known = await self._last_message(connection, behind)
        for _ in range(MAX_PAGES):
            page = await self._read(connection, behind, after=max(0, known - 1))
            if not page.messages:
                break
            if page.messages[0].seq != max(1, known):
                raise self.unknown("history no longer has all of the topic since then")
            for message in page.messages:
                known = message.seq
                if known > behind.seq and self._is(message, page.epoch, data):
                    return Published(self._topic, known, page.epoch, message.at, duplicate=True)
            if not page.more:
                self._first_sent, self._behind = now, Position(page.epoch, known)
                return None
        raise self.unknown("history does not have it all")

    async def _last_message(self, connection: Connection, behind: Position) -> int:
        """Return the seq of the last message up to a position, 0 if the topic had no message."""
        if behind.seq == 0:
            return 0
        page = await self._read(connection, behind, before=behind.seq + 1, limit=1)
        if not page.messages:
            raise self.unknown("history no longer has all of the topic since then")
        return page.messages[-1].seq

    async def _read(
        self,
        connection: Connection,
        behind: Position,
        *,
        after: int | None = None,
        before: int | None = None,
        limit: int = MAX_HISTORY,
    ) -> Page:
        command = commands.History(topic=self._topic, after=after, before=before, limit=limit)
        refusals = 0
        while True:
            try:
                page = await connection.command(command, Page)
            except CommandFailed as error:
                if error.code == RateLimited.code:
                    await asyncio.sleep(retry_delay(error.retry_in_ms, refusals))
                    refusals += 1
                elif error.definite:
                    raise self.unknown(f"history cannot be read ({error})") from error
                else:
                    raise
            else:
                if page.epoch != behind.epoch:
                    raise self.unknown("the order of the topic was lost meanwhile")
                return page

    def _is(self, message: Message, epoch: str, data: Any) -> bool:
        """Return True if `message` must be this publication: equal data, same user, own place.

        Raises:
            OutcomeUnknown: the message may be this publication, but has been changed since.
        """
        sender = message.sender
        if sender is None or sender.user != self._user:
            return False
        if self._log.is_other(self._topic, epoch, message.seq):
            return False
        if message.deleted or message.edited_at is not None:
            raise self.unknown(f"message {message.seq}, which may be it, has been changed since")
        return bool(message.data == data)

    def unknown(self, reason: str) -> OutcomeUnknown:
        """Return the error for an unknown outcome."""
        return OutcomeUnknown(
            f"a message to {self._topic} may have been stored, and to send it again could store it"
            f" twice: {reason}"
        )
