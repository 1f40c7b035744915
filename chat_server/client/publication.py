"""Stores each publication once, over any number of connections.

The server remembers the key of a publication for `welcome.limits.idempotency_seconds`. Within that
time a publication whose answer was lost can simply be sent again. After that time the client reads
the topic's later history, and sends the publication again only if history does not have it.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from msgspec import Raw

from ..events import MAX_SEQ, Position
from ..protocol import commands
from ..protocol.commands import MAX_HISTORY
from ..protocol.errors import RateLimited
from ..protocol.messages import Message
from .codec import ClientCodec
from .connection import Connection
from .ending import retry_delay
from .errors import CommandFailed, ConnectionLost, OutcomeUnknown
from .events import Page, Published
from .reconnector import Reconnector
from .subscriptions import Subscriptions

SAFE_SHARE = 0.5
"""The share of the server's memory for keys in which a publication is sent again. The rest is for
publications in flight: a server may spool one for a minute while its store is away."""

MAX_REMEMBERED = 1_000
"""Topics whose position is remembered, and publications whose outcome is unknown, at most each."""

MAX_STORED_PLACES = 10_000
"""Places of stored publications that are remembered, so that none is taken for another."""

MAX_PAGES = 20
"""Pages of history read at most in search of one publication."""


class PublicationLog:
    """Remembers the client's publications: topics' positions, stored places, unknown outcomes."""

    def __init__(
        self, reconnector: Reconnector, codec: ClientCodec, subscriptions: Subscriptions
    ) -> None:
        self._reconnector = reconnector
        self._codec = codec
        self._subscriptions = subscriptions
        self._positions: OrderedDict[str, Position] = OrderedDict()
        self._unknown_outcomes: OrderedDict[tuple[str, str], Publication] = OrderedDict()
        self._places: OrderedDict[tuple[str, str, int], None] = OrderedDict()

    def publication(self, topic: str, data: Raw, key: str | None) -> "Publication":
        """Return a new publication, or the earlier one of this key if its outcome is unknown."""
        earlier = self._unknown_outcomes.get((topic, key)) if key is not None else None
        if earlier is not None:
            return earlier
        return Publication(self, topic, data, key)

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

    async def connection(self, *, wait: bool) -> Connection:
        """Return the connection; with `wait`, wait for one."""
        return await self._reconnector.wait() if wait else self._reconnector.connection()

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
        """Remember a position of a topic, unless a later one is known."""
        known = self._positions.get(topic)
        if position.seq > MAX_SEQ:
            return  # a server may send any integer, but accepts no such position
        if known is None or known.epoch != position.epoch or known.seq < position.seq:
            _remember(self._positions, topic, position, MAX_REMEMBERED)

    def mark_unknown(self, publication: "Publication") -> None:
        """Remember a publication whose outcome is unknown."""
        if publication.key is not None:
            name = publication.topic, publication.key
            _remember(self._unknown_outcomes, name, publication, MAX_REMEMBERED)

    def mark_known(self, publication: "Publication") -> None:
        """Forget a publication whose outcome is known."""
        if publication.key is not None:
            self._unknown_outcomes.pop((publication.topic, publication.key), None)

    def stored(self, published: Published) -> None:
        """Remember the place of a stored publication, so that no other is taken for it."""
        self.note_position(published.topic, Position(published.epoch, published.seq))
        place = published.topic, published.epoch, published.seq
        _remember(self._places, place, None, MAX_STORED_PLACES)

    def is_other(self, topic: str, epoch: str, seq: int) -> bool:
        """Return whether a stored message is known to be another publication of this client."""
        return (topic, epoch, seq) in self._places


def _remember(store: OrderedDict[Any, Any], key: Any, value: Any, most: int) -> None:
    """Add an item to a store that forgets the oldest beyond `most`."""
    store[key] = value
    store.move_to_end(key)
    while len(store) > most:
        store.popitem(last=False)


class Publication:
    """A message that is to be stored once, however often it has to be sent.

    Attributes:
        maybe_stored: whether the outcome of an attempt is unknown.
    """

    def __init__(self, log: PublicationLog, topic: str, data: Raw, key: str | None) -> None:
        self.topic = topic
        self.key = key
        self.maybe_stored = False
        self._log = log
        self._data = data
        self._first_sent = _Stopwatch()
        self._user = ""
        self._behind: Position | None = None

    async def attempt(self, *, wait: bool = False) -> Published:
        """Send the publication if that is safe, and return its place once it is stored.

        Args:
            wait: wait for a connection instead of raising `NotConnected`.

        Raises:
            CommandFailed: the server refused, or could not store the publication now.
            NotConnected: there is no connection; nothing was sent.
            ConnectionLost: the connection broke before the answer.
            OutcomeUnknown: the publication may have been stored, and sending it again is not safe.
        """
        connection = await self._log.connection(wait=wait)
        if self.maybe_stored and not self._is_remembered(connection):
            published = await self._look(connection)
            if published is not None:
                return self._conclude(published)
        if not self.maybe_stored:
            self._first_sent = _Stopwatch()
            self._user = connection.welcome.user
            self._behind = self._log.position(self.topic)
        command = commands.Publish(topic=self.topic, data=self._data, key=self.key)
        try:
            return self._conclude(await connection.attempt(command, Published))
        except (ConnectionLost, asyncio.CancelledError):
            self._mark_unknown()
            raise
        except CommandFailed as error:
            if not error.definite:
                self._mark_unknown()
            elif not self.maybe_stored:
                self._log.mark_known(self)
            raise

    def _mark_unknown(self) -> None:
        self.maybe_stored = True
        self._log.mark_unknown(self)

    def _conclude(self, published: Published) -> Published:
        self._log.stored(published)
        self._log.mark_known(self)
        return published

    def _is_remembered(self, connection: Connection) -> bool:
        """Return whether the server certainly still knows the key of the first attempt."""
        welcome = connection.welcome
        if self.key is None or welcome.user != self._user:
            return False
        return self._first_sent.age() < welcome.limits.idempotency_seconds * SAFE_SHARE

    async def _look(self, connection: Connection) -> Published | None:
        """Search history for the publication, from the topic's position at the first attempt on.

        Returns:
            its place, or None if it was not stored.

        Raises:
            OutcomeUnknown: history does not tell.
        """
        now = _Stopwatch()
        behind = self._behind
        if behind is None:
            raise self._unknown("it is not known how far the topic was when it was sent")
        data = self._log.value(self._data)
        # From the last known event on: as long as history has that event, it has all later ones.
        seq = max(0, behind.seq - 1)
        for _ in range(MAX_PAGES):
            page = await self._read(connection, seq)
            if page.epoch != behind.epoch:
                raise self._unknown("the order of the topic was lost meanwhile")
            if not page.messages:
                break
            for message in page.messages:
                if message.seq != seq + 1:
                    raise self._unknown("history no longer has all of the topic since then")
                seq = message.seq
                if seq > behind.seq and self._is(message, page.epoch, data):
                    return Published(self.topic, seq, page.epoch, message.at, duplicate=True)
            if not page.more:
                self._first_sent, self._behind = now, Position(page.epoch, seq)
                return None
        raise self._unknown("history does not have it all")

    async def _read(self, connection: Connection, after: int) -> Page:
        command = commands.History(topic=self.topic, after=after, limit=MAX_HISTORY)
        refusals = 0
        while True:
            try:
                return await connection.command(command, Page)
            except CommandFailed as error:
                if error.code == RateLimited.code:
                    await asyncio.sleep(retry_delay(error.retry_in_ms, refusals))
                    refusals += 1
                elif error.definite:
                    raise self._unknown(f"history cannot be read ({error})") from error
                else:
                    raise

    def _is(self, message: Message, epoch: str, data: Any) -> bool:
        """Return whether `message` must be this publication: equal data, same user, own place."""
        if self._log.is_other(self.topic, epoch, message.seq):
            return False
        sender = message.sender
        return sender is not None and sender.user == self._user and bool(message.data == data)

    def _unknown(self, reason: str) -> OutcomeUnknown:
        return OutcomeUnknown(
            f"a message to {self.topic} may have been stored, and to send it again could store it"
            f" twice: {reason}"
        )


class _Stopwatch:
    """Counts the time since its creation, also while the machine sleeps."""

    def __init__(self) -> None:
        self._uptime = _uptime()
        self._wall = time.time()

    def age(self) -> float:
        """Return the seconds since creation, too many rather than too few."""
        return max(_uptime() - self._uptime, time.time() - self._wall)


def _uptime() -> float:
    """Return the seconds since the machine started, sleep included where the system counts it."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)
