"""Publications that are stored once, over any number of connections.

The server remembers the key of a publication for a while (`welcome.limits.idempotency_seconds`).
Within that time a publication whose answer was lost can simply be sent again. After it, the client
reads in history what the topic got since, and sends it again only if it is not there.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from msgspec import Raw

from ..events import MAX_SEQ, Position
from ..protocol import messages
from ..protocol.errors import RateLimited
from ..protocol.messages import MAX_HISTORY, Message
from .connection import Connection
from .ending import retry_delay
from .errors import CommandFailed, ConnectionLost, OutcomeUnknown
from .events import Page, Published
from .link import Link
from .registry import Registry
from .wire import Wire

SAFE_PART = 0.5
"""The part of the server's memory of keys within which a publication is sent again. The rest is for
what is under way: a server may keep a publication for a minute while its store is away."""

MAX_REMEMBERED = 1_000
"""Topics of which a position is remembered, and publications whose outcome is unknown."""

MAX_PLACES = 10_000
"""Places of publications that are remembered, so that none is taken for another."""

MAX_PAGES = 20
"""Of history, read at most in search of one publication."""


class Outbox:
    """What a client has published: how far it knows each topic, and what may have been stored."""

    def __init__(self, link: Link, wire: Wire, registry: Registry) -> None:
        self._link = link
        self._wire = wire
        self._registry = registry
        self._positions: OrderedDict[str, Position] = OrderedDict()
        self._unsettled: OrderedDict[tuple[str, str], Publication] = OrderedDict()
        self._places: OrderedDict[tuple[str, str, int], None] = OrderedDict()

    def publication(self, topic: str, data: Raw, key: str | None) -> "Publication":
        """Return a publication to be sent; the earlier one if that may have been stored already."""
        earlier = self._unsettled.get((topic, key)) if key is not None else None
        if earlier is not None:
            return earlier
        return Publication(self, topic, data, key)

    async def learn_position(self, topic: str, on_refusal: Callable[[CommandFailed], None]) -> None:
        """Ask where the order of a topic stands, unless that is known or may not be asked."""
        refusals = 0
        while self.position(topic) is None:
            connection = await self._link.wait()
            try:
                page = await connection.command(messages.History(topic=topic, limit=1), Page)
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
        """Return what was encoded to `data`."""
        return self._wire.decode(bytes(data), object)

    async def connection(self, *, wait: bool) -> Connection:
        """Return the connection; with `wait`, as soon as there is one."""
        return await self._link.wait() if wait else self._link.connection()

    def position(self, topic: str) -> Position | None:
        """Return how far the order of a topic is known here."""
        published = self._positions.get(topic)
        received = self._registry.position(topic)
        if published is None or received is None:
            return published or received
        if published.epoch != received.epoch:
            return received
        return max(published, received, key=lambda position: position.seq)

    def note_position(self, topic: str, position: Position) -> None:
        """Remember a place in a topic's order, unless a later one is known."""
        known = self._positions.get(topic)
        if position.seq > MAX_SEQ:
            return  # a server may say anything, and takes no such position back
        if known is None or known.epoch != position.epoch or known.seq < position.seq:
            _remember(self._positions, topic, position, MAX_REMEMBERED)

    def unsettled(self, publication: "Publication") -> None:
        """Remember that a publication may have been stored."""
        if publication.key is not None:
            name = publication.topic, publication.key
            _remember(self._unsettled, name, publication, MAX_REMEMBERED)

    def settled(self, publication: "Publication") -> None:
        """Forget a publication: it is known whether it was stored."""
        if publication.key is not None:
            self._unsettled.pop((publication.topic, publication.key), None)

    def stored(self, published: Published) -> None:
        """Remember where a publication stands, so that no other is taken for it."""
        self.note_position(published.topic, Position(published.epoch, published.seq))
        place = published.topic, published.epoch, published.seq
        _remember(self._places, place, None, MAX_PLACES)

    def is_other(self, topic: str, epoch: str, seq: int) -> bool:
        """Return whether a stored message is known to be another publication."""
        return (topic, epoch, seq) in self._places


def _remember(store: OrderedDict[Any, Any], key: Any, value: Any, most: int) -> None:
    """Put a value into a store that forgets the oldest."""
    store[key] = value
    store.move_to_end(key)
    while len(store) > most:
        store.popitem(last=False)


class Publication:
    """A message that is to be stored once, however often it has to be sent.

    Attributes:
        maybe_stored: whether an attempt was made whose outcome is not known.
    """

    def __init__(self, outbox: Outbox, topic: str, data: Raw, key: str | None) -> None:
        self.topic = topic
        self.key = key
        self.maybe_stored = False
        self._outbox = outbox
        self._data = data
        self._first_sent = _Moment()
        self._user = ""
        self._behind: Position | None = None

    async def attempt(self, *, wait: bool = False) -> Published:
        """Send it if that is safe, and return its place once it is stored.

        Args:
            wait: wait for a connection instead of raising `NotConnected`.

        Raises:
            CommandFailed: the server refused it, or could not store it now.
            NotConnected: there is no connection; nothing was sent.
            ConnectionLost: the connection broke before the answer came.
            OutcomeUnknown: it may have been stored, and sending it again is not safe.
        """
        connection = await self._outbox.connection(wait=wait)
        if self.maybe_stored and not self._is_remembered(connection):
            published = await self._look(connection)
            if published is not None:
                return self._settle(published)
        if not self.maybe_stored:
            self._first_sent = _Moment()
            self._user = connection.welcome.user
            self._behind = self._outbox.position(self.topic)
        command = messages.Publish(topic=self.topic, data=self._data, key=self.key)
        try:
            return self._settle(await connection.attempt(command, Published))
        except (ConnectionLost, asyncio.CancelledError):
            self._doubt()
            raise
        except CommandFailed as error:
            if not error.definite:
                self._doubt()
            elif not self.maybe_stored:
                self._outbox.settled(self)
            raise

    def _doubt(self) -> None:
        self.maybe_stored = True
        self._outbox.unsettled(self)

    def _settle(self, published: Published) -> Published:
        self._outbox.stored(published)
        self._outbox.settled(self)
        return published

    def _is_remembered(self, connection: Connection) -> bool:
        """Return whether the server is sure to know the key of the first attempt still."""
        welcome = connection.welcome
        if self.key is None or welcome.user != self._user:
            return False
        return self._first_sent.age() < welcome.limits.idempotency_seconds * SAFE_PART

    async def _look(self, connection: Connection) -> Published | None:
        """Look for it in history, behind what was known of the topic when it was first sent.

        Returns:
            where it stands, or None if it was not stored.

        Raises:
            OutcomeUnknown: history does not tell.
        """
        now = _Moment()
        behind = self._behind
        if behind is None:
            raise self._unknown("it is not known how far the topic was when it was sent")
        data = self._outbox.value(self._data)
        # From the last one known on: as long as history has that, it has all behind it.
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
        command = messages.History(topic=self.topic, after=after, limit=MAX_HISTORY)
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
        """Return whether `message` must be this publication: by the same user, and no other's."""
        if self._outbox.is_other(self.topic, epoch, message.seq):
            return False
        sender = message.sender
        return sender is not None and sender.user == self._user and bool(message.data == data)

    def _unknown(self, reason: str) -> OutcomeUnknown:
        return OutcomeUnknown(
            f"a message to {self.topic} may have been stored, and to send it again could store it"
            f" twice: {reason}"
        )


class _Moment:
    """A moment from which time is counted on a clock that goes on while the machine sleeps."""

    def __init__(self) -> None:
        self._uptime = _uptime()
        self._wall = time.time()

    def age(self) -> float:
        """Return the seconds since, rather too many than too few."""
        return max(_uptime() - self._uptime, time.time() - self._wall)


def _uptime() -> float:
    """Return the seconds since the machine started, those asleep counted where that is known."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)
