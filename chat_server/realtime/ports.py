"""The interfaces between a worker, its broker and its clients' transports.

`realtime/` imports neither `broker/` nor `transports/`. `app.py` hands the broker to the node, and
the route of `/ws` hands each transport to a connection. Both must keep these contracts.
"""

from asyncio import Future
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from typing import Protocol, TypeAlias, runtime_checkable

from msgspec import Struct

from ..changes import Change, ChangeResult
from ..cursors import Unread
from ..events import READ_BYTES, Draft, Event, HistoryPage, Kind, Position, PublishResult
from ..presence import PAGE_BYTES, Attendance, Attended, PresencePage
from ..protocol.codecs import Codec
from ..protocol.messages import Gap, Ok, ServerMessage


class BrokerHealth(Struct, frozen=True):
    """The state of a broker, for operators.

    Args:
        status: `ok`; `unavailable`; `deaf` (publications are stored, but this worker does not
            receive them); or `full`, `readonly`, `misconfigured` (the log can be read, but nothing
            is stored).
        deaf_seconds: seconds of deafness since the start, in all.
        latency_seconds: seconds of a round trip to the store; None without an answer, or if no ping
            was asked for.
        reason: one line of advice for an operator if nothing is stored; may be empty.
        clock_ahead_seconds: how far this machine's clock is ahead of the store's; None if the store
            has no clock, or did not answer.
    """

    status: str
    deaf_seconds: float = 0.0
    latency_seconds: float | None = None
    reason: str = ""
    clock_ahead_seconds: float | None = None


class Listener(Protocol):
    """The upcalls of a broker; every method is a plain call that returns at once."""

    def on_events(self, events: Sequence[Event]) -> None:
        """Take events of subscribed topics: stored events and signals.

        Within a topic stored events come in the order of their `seq`. After trouble some may be
        missing or come again. The node checks each event and repairs with `EventLog.history`.
        """
        ...

    def on_lost(self, topics: Iterable[str] | None = None) -> None:
        """Note that events of these topics, or of all topics, may be missed from now on.

        The next event may not follow the last one: the store may have lost events and given their
        seqs to other events. `on_restored` follows, for each topic that is still subscribed.
        """
        ...

    def on_restored(self, topics: Iterable[str] | None = None) -> None:
        """Note that these subscriptions (None: all) are restored; events may be missing."""
        ...


class Publisher(Protocol):
    """Stores publications: an `EventLog`, or an outbox in front of one."""

    def publish(self, draft: Draft) -> "Future[PublishResult]":
        """Store `draft` as its topic's next event and send it to subscribed workers, atomically.

        Of drafts with the same topic and key within the idempotency window only the first is
        stored. The others resolve to its place with `duplicate=True`. The calls of one worker to
        one topic are stored in the order of the calls. To cancel the future does not undo the call.
        A draft that exceeds a rate of its topic fails with `RateLimited`, and counts as no attempt.
        When a publication fails for another reason than `RateLimited` or `Rejected`, every later
        publication of the topic that is under way fails at the same moment. None of these is stored
        unless the first one is. There is one exception: a store that takes no writes for a moment
        may store the later ones.
        """
        ...


class Outbox(Publisher, Protocol):
    """A publisher in front of an `EventLog`; keeps publications while the log accepts none."""

    @property
    def spooled(self) -> int:
        """Number of publications that wait for the log."""
        ...

    def start(self) -> None:
        """Begin to take publications."""
        ...

    def stop(self) -> None:
        """Fail every waiting and every later publication with `Unavailable`."""
        ...


class LogReader(Protocol):
    """Returns stored events."""

    async def history(
        self,
        topic: str,
        *,
        after: int = 0,
        before: int | None = None,
        limit: int,
        newest: bool = False,
        max_bytes: int = READ_BYTES,
        folded: bool = False,
    ) -> HistoryPage:
        """Read stored events with `after < seq < before`, atomically with the topic's position.

        Args:
            topic: the topic.
            after: 0, or the seq before the page.
            before: the seq after the page; None reads to the end of the log.
            limit: maximum number of events; 0 reads the position alone.
            newest: take the newest events rather than the oldest; ascending either way.
            max_bytes: maximum sum of payload bytes; the first event comes in any case.
            folded: read messages in their present state, in place of the stored events.

        Returns:
            A page; `HistoryPage.more` is True if `limit` or `max_bytes` left events out. A topic
            without a position gets one, so that every worker names the same epoch for the topic.
            Only a subscription keeps such a position for long.
        """
        ...


class EventLog(Publisher, LogReader, Protocol):
    """Stores topics' events in order, and returns them.

    Every method that talks to the store raises `protocol.errors.Unavailable`. While the store is
    known to be unavailable, the method does so at once. The only other exceptions are
    `CancelledError` and, from `publish`, `RateLimited`.
    """

    def reaches(self, topic: str) -> bool:
        """Return whether the topic's part of the store is believed to be reachable."""
        ...

    def accepts(self, topic: str) -> bool:
        """Return whether publications to `topic` are stored: a reachable store may be full."""
        ...

    def change(self, change: Change) -> "Future[ChangeResult]":
        """Store a change of a message as the topic's next event, and send it, atomically.

        Idempotency keys and the order of calls are as with `publish`. The future fails with
        `Unavailable` alone: every other obstacle to a change is an outcome.
        """
        ...

    async def begin_epoch(self, topic: str, lost: str) -> Position:
        """Begin another epoch at the topic's position, if the topic is still in the epoch `lost`.

        Stored events stay: their seqs name the same events in either epoch. Returns the start of
        the topic's present epoch.
        """
        ...

    async def purge(self, topic: str) -> Position:
        """Delete every event of the topic, and begin another epoch at the topic's position.

        Seqs go on. Subscribers learn of the purge from their workers (`Hub.doubt`). Idempotency
        keys stay valid. Returns the start of the epoch.
        """
        ...


class Subscriptions(Protocol):
    """Carries events to this worker; raises as `EventLog` does."""

    def subscribe(self, topic: str) -> "Future[None]":
        """Receive the topic's events; resolved once no later event can be missed.

        The broker keeps the subscription until `unsubscribe`, and restores it after a lost
        connection.
        """
        ...

    def unsubscribe(self, topic: str) -> None:
        """Forget the subscription; an event already on its way may still arrive."""
        ...

    def signal(self, topic: str, payload: bytes, kind: Kind = Kind.SIGNAL) -> "Future[None]":
        """Send `payload` to every worker subscribed to `topic`, without storing it."""
        ...


class Broker(EventLog, Subscriptions, Protocol):
    """A log of events and the subscriptions to its topics, with one life cycle and one health.

    A further capability (presence, cursors, a channel to all workers) is a `runtime_checkable`
    Protocol of its own. `isinstance(broker, Capability)` is True if a broker has the capability.
    """

    async def start(self, listener: Listener) -> None:
        """Begin to deliver to `listener`; if the store is unavailable, wait for the store."""
        ...

    async def stop(self) -> None:
        """End every task and connection; pending futures fail with `Unavailable`."""
        ...

    async def health(self, *, ping: bool = True) -> BrokerHealth:
        """Return the state of the broker; never raises `Unavailable`.

        Args:
            ping: ask the store for a sign of life; False returns the known state at once.
        """
        ...


class CursorStore(Protocol):
    """Keeps the read cursors of users; futures fail like those of `EventLog`."""

    def move(
        self, topic: str, user: str, seq: int, epoch: str | None = None, *, shown: bool = False
    ) -> "Future[Unread]":
        """Move a user's cursor to `seq`, unless the cursor is further or the topic ends earlier.

        The cursor also stays if `epoch` does not count `seq` any more, as with `Change.epoch`. With
        `shown` the user is one of the topic's readers from then on.
        """
        ...

    async def unread(
        self, topics: Sequence[str], user: str, shown: Collection[str] = ()
    ) -> list[Unread]:
        """Return the unread state of a user in each of some topics, in one round trip.

        Args:
            topics: the topics.
            user: the user.
            shown: the topics whose readers are read too; a part of `topics`.

        Raises:
            Unavailable: the store cannot be reached.
        """
        ...

    async def forget(self, user: str) -> None:
        """Delete all cursors of a user.

        Raises:
            Unavailable: the store cannot be reached; another call deletes the rest.
        """
        ...


@runtime_checkable
class Cursors(Protocol):
    """The capability of a broker to keep read cursors."""

    @property
    def cursors(self) -> CursorStore:
        """The store of cursors, which lives as long as the broker."""
        ...


class PresenceStore(Protocol):
    """Keeps the users in each topic, and tells the topic's subscribed workers about changes.

    Workers get events of the kind `presence`, whose payload is a `PresenceChange`. Methods and
    futures fail like those of `EventLog`.
    """

    def write(self, attendance: Attendance) -> "Future[Attended]":
        """Write the connections of a worker's users in a topic, and renew the worker's lease.

        A write whose answer is lost may be made again, with a new number. A user joins with the
        first connection on any worker, and leaves `grace_seconds` after the last one.
        """
        ...

    def settle(self, topic: str) -> "Future[Attended]":
        """Remove the users whose time to leave has come."""
        ...

    def end(self, topic: str, lease: str, *, dead: bool) -> "Future[bool]":
        """Remove the users of a lease, `MAX_MEMBERS` at a time.

        Args:
            topic: the topic.
            lease: the lease.
            dead: True to do nothing unless the lease was not renewed in time.

        Returns:
            True if another call is needed.
        """
        ...

    async def page(
        self, topic: str, *, after: str = "", limit: int, max_bytes: int = PAGE_BYTES
    ) -> PresencePage:
        """Read the users in a topic.

        Args:
            topic: the topic.
            after: the user before the page; empty for the first page.
            limit: maximum number of users.
            max_bytes: maximum sum of the bytes of profiles; the first user comes in any case.
        """
        ...


@runtime_checkable
class Presence(Protocol):
    """The capability of a broker to keep the users in a topic."""

    @property
    def presence(self) -> PresenceStore:
        """The store of presence, which lives as long as the broker."""
        ...


class FeedStore(Protocol):
    """Names topics with new events, for `consumers`, which read every event.

    Hints are an optimisation: a hint may be lost with its worker. `positions` is always complete.
    Hints name only topics of a `Retention` that holds events back. Methods raise like those of
    `EventLog`.
    """

    async def share(self) -> None:
        """Share the hints that this worker has gathered until now with all workers."""
        ...

    async def take(self, limit: int) -> list[str]:
        """Remove and return hints: topics in which some worker has stored an event."""
        ...

    def positions(self) -> AsyncIterator[Mapping[str, Position]]:
        """Iterate over all topics of the store with their positions, some at a time.

        A topic that exists throughout the iteration comes at least once.
        """
        ...

    def release(self, topic: str, position: Position) -> "Future[None]":
        """Let the store trim the topic's log up to a position."""
        ...


@runtime_checkable
class Feed(Protocol):
    """The capability of a broker to name the topics with new events."""

    @property
    def feed(self) -> FeedStore:
        """The feed, which lives as long as the broker."""
        ...


Push: TypeAlias = Event | Gap
"""A topic's push to its subscribers: an event, or a gap in place of lost events."""


class Encoder(Protocol):
    """Makes the packets of one kind of transport in one encoding.

    All transports with the same packets share one encoder. So a push is encoded once for all of
    them, and `write` gets all of them together. A further wire format is a further encoder.
    """

    @property
    def codec(self) -> Codec:
        """The encoding of the messages."""
        ...

    def encode(self, push: Push) -> bytes | None:
        """Return a push as a packet, or None for an event that this encoding cannot express."""
        ...

    def encode_message(self, message: ServerMessage) -> bytes:
        """Return a message of the session, such as an error or a goodbye, as a packet."""
        ...

    def encode_ok(self, id: int, ok: Ok) -> bytes:
        """Return the `ok` of the command with this id as a packet."""
        ...

    def write(self, transports: Iterable["Transport"], packets: Sequence[bytes]) -> None:
        """Write packets to transports of this encoder, merged where one write can take several.

        The caller bounds the size of `packets`. The buffers of transports may fill up: `write` does
        not look at any buffer between two packets.
        """
        ...


class Transport(Protocol):
    """One client's connection; every call returns at once.

    Fan-out is a plain loop over transports, and no transport may disturb the others. So no method
    raises, and no method calls the `Receiver` before the method has returned.
    """

    @property
    def encoder(self) -> Encoder:
        """Makes the packets for `write`; one object for all transports with the same packets."""
        ...

    @property
    def can_ping(self) -> bool:
        """Whether `ping` reaches the client. If not, the ASGI server deals with silent clients."""
        ...

    @property
    def writable(self) -> bool:
        """Whether the transport's buffer has room; see `Receiver.on_full`."""
        ...

    def write(self, packet: bytes) -> None:
        """Buffer one packet of `encoder`; nothing happens once the transport is closing."""
        ...

    def ping(self) -> None:
        """Send a WebSocket ping; the client's pong is reported as a sign of life."""
        ...

    def pause(self) -> None:
        """Stop reading: `on_message` is not called until `resume`."""
        ...

    def resume(self) -> None:
        """Read from the client again."""
        ...

    def stop_reading(self) -> None:
        """Stop reading for good.

        Messages that have been read are still delivered, as far as `pause` allows. Then
        `Receiver.on_remote_close` is called.
        """
        ...

    def close(self, code: int, reason: str) -> None:
        """Flush the buffer and close with `code`; abort if the client does not answer in time."""
        ...

    def abort(self) -> None:
        """Drop the connection with its buffer."""
        ...


class Receiver(Protocol):
    """The server's side of a transport; gets the transport's events in the order of the wire."""

    @property
    def is_subscribed(self) -> bool:
        """Whether events may follow an answer; a turn of the loop can then merge their writes."""
        ...

    def on_message(self, payload: bytes, *, binary: bool) -> None:
        """Handle one whole WebSocket message."""
        ...

    def on_sign_of_life(self) -> None:
        """Note that a frame other than a message came, such as a pong."""
        ...

    def on_full(self) -> None:
        """Stop the pushes: the client reads too slowly, and the transport's buffer is full.

        The transport does not read from the client either, so that no answers are added. The call
        may be repeated, and is skipped if the buffer drains in the same moment.
        """
        ...

    def on_drained(self) -> None:
        """Resume the pushes: the client has read most of the buffer.

        Called every time `writable` becomes True again, even if `on_full` was skipped.
        """
        ...

    def on_remote_close(self) -> None:
        """Note that no more messages come: the client closed, or `stop_reading` was called.

        The receiver must call `Transport.close` once the earlier messages are handled. The
        connection may be gone before; then `on_closed` is called.
        """
        ...

    def on_closed(self) -> None:
        """Note that the connection is gone; called exactly once, as the last call."""
        ...
