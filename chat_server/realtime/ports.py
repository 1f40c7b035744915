"""What a worker asks of its broker and of its clients' transports.

`realtime/` imports neither `broker/` nor `transports/`. `app.py` hands the broker to the node, the
route of `/ws` hands each transport to a connection, and both are held to these contracts.
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
        latency_seconds: seconds of a round trip to the store; None if there was no answer, or none
            was asked for.
        reason: what an operator can do if nothing is stored, in one line; may be empty.
        clock_ahead_seconds: how far this machine's clock is ahead of the store's; None if the store
            has none, or did not answer.
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
        missing or come again: the node checks each and repairs with `EventLog.history`.
        """
        ...

    def on_lost(self, topics: Iterable[str] | None = None) -> None:
        """Events of these topics, or of all, may be missed from now on.

        The next events are not known to follow: the store may have lost some and given their seqs
        out again. `on_restored` follows, for each topic that is still subscribed.
        """
        ...

    def on_restored(self, topics: Iterable[str] | None = None) -> None:
        """The subscriptions to these topics, or to all, stand again; events may be missing."""
        ...


class Publisher(Protocol):
    """Stores publications: an `EventLog`, or an outbox in front of one."""

    def publish(self, draft: Draft) -> "Future[PublishResult]":
        """Store `draft` as its topic's next event and send it to subscribed workers, atomically.

        Of drafts with the same topic and key within the idempotency window only the first is
        stored; the others resolve to its place with `duplicate=True`. Calls of one worker to one
        topic are stored in the order of the calls. Giving up on the future does not undo it.

        A draft that exceeds a rate of its topic fails with `RateLimited`, and counts as no attempt.
        When a publication fails, other than with that or with `Rejected`, every later publication
        of its topic that is under way fails at the same moment, and none of these is stored unless
        the first one is. Only a store that takes no writes for a moment may store those behind.
        """
        ...


class Outbox(Publisher, Protocol):
    """Keeps publications while the log does not accept them; created in front of an `EventLog`."""

    @property
    def spooled(self) -> int:
        """Publications that wait for the log."""
        ...

    def start(self) -> None:
        """Begin to take publications."""
        ...

    def stop(self) -> None:
        """Fail what waits, and every later publication, with `Unavailable`."""
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
            before: the seq behind the page; None reads to the end of the log.
            limit: maximum number of events; 0 reads the position alone.
            newest: take the newest events rather than the oldest; ascending either way.
            max_bytes: maximum sum of payload bytes; the first event comes in any case.
            folded: read messages as they now are, instead of events as they were.

        Returns:
            A page; `HistoryPage.more` is True if `limit` or `max_bytes` left events out. A topic
            without a position is given one, so that every worker names the same epoch for it. Only
            a subscription keeps such a position for long.
        """
        ...


class EventLog(Publisher, LogReader, Protocol):
    """Stores topics' events in order, and returns them.

    Every method that talks to the store raises `protocol.errors.Unavailable`, at once while the
    store is known to be away, and never anything else but `CancelledError`; `publish` also raises
    `RateLimited`.
    """

    def reaches(self, topic: str) -> bool:
        """Return whether the part of the store that has `topic` is believed to be reachable."""
        ...

    def accepts(self, topic: str) -> bool:
        """Return whether publications to `topic` are stored: the store may be there, but full."""
        ...

    def change(self, change: Change) -> "Future[ChangeResult]":
        """Store a change of a message as the topic's next event, and send it, atomically.

        Idempotency keys and the order of calls are as those of `publish`. The future fails with
        `Unavailable` alone: what else stands against a change is an outcome.
        """
        ...

    async def begin_epoch(self, topic: str, lost: str) -> Position:
        """Let another epoch begin where the topic stands, if it is still in the epoch `lost`.

        Stored events stay: under either epoch their seqs name them. Returns the start of the epoch
        that the topic is in now.
        """
        ...

    async def purge(self, topic: str) -> Position:
        """Forget every event of the topic, and let another epoch begin where it stands.

        Seqs go on. Subscribers learn of it from their workers (`Hub.doubt`), idempotency keys hold.
        Returns the start of the epoch.
        """
        ...


class Subscriptions(Protocol):
    """Carries events to this worker; raises as `EventLog` does."""

    def subscribe(self, topic: str) -> "Future[None]":
        """Receive the topic's events; resolved once no event published from now on can be missed.

        The subscription is remembered until `unsubscribe` and restored after a lost connection.
        """
        ...

    def unsubscribe(self, topic: str) -> None:
        """Forget the subscription; an event already on its way may still arrive."""
        ...

    def signal(self, topic: str, payload: bytes, kind: Kind = Kind.SIGNAL) -> "Future[None]":
        """Send `payload` to every worker subscribed to `topic`, without storing it."""
        ...


class Broker(EventLog, Subscriptions, Protocol):
    """A log of events and the subscriptions to it, with one life and one health.

    A further capability (presence, cursors, a channel to all workers) is a `runtime_checkable`
    Protocol of its own beside these: `isinstance(broker, Capability)` is True if a broker has it.
    """

    async def start(self, listener: Listener) -> None:
        """Begin to deliver to `listener`; a store that is away is no error, it is awaited."""
        ...

    async def stop(self) -> None:
        """End every task and connection; pending futures fail with `Unavailable`."""
        ...

    async def health(self, *, ping: bool = True) -> BrokerHealth:
        """Return the state of the broker; never raises `Unavailable`.

        Args:
            ping: ask the store for a sign of life; False tells what is known, at once.
        """
        ...


class CursorStore(Protocol):
    """Keeps how far users have read; futures fail as those of `EventLog` do."""

    def move(
        self, topic: str, user: str, seq: int, epoch: str | None = None, *, shown: bool = False
    ) -> "Future[Unread]":
        """Move a user's cursor to `seq`, unless it is further or the topic is not so far.

        Nor is it moved if `epoch` does not count `seq` any more, as with `Change.epoch`. With
        `shown` the user is one of the topic's readers from then on.
        """
        ...

    async def unread(
        self, topics: Sequence[str], user: str, shown: Collection[str] = ()
    ) -> list[Unread]:
        """Read what a user has not read in each of some topics, in one round trip.

        Args:
            topics: the topics.
            user: the user.
            shown: those of the topics of which also the readers are read.

        Raises:
            Unavailable: the store cannot be reached.
        """
        ...

    async def forget(self, user: str) -> None:
        """Forget all cursors of a user.

        Raises:
            Unavailable: the store cannot be reached; to do it again does the rest.
        """
        ...


@runtime_checkable
class Cursors(Protocol):
    """The capability of a broker to keep how far users have read."""

    @property
    def cursors(self) -> CursorStore:
        """The store of cursors, which lives as long as the broker."""
        ...


class PresenceStore(Protocol):
    """Keeps who is in a topic, and tells its subscribed workers who came and went.

    Workers hear of it by events of the kind `presence`, whose payload is a `PresenceChange`.
    Methods raise as those of `EventLog` do, and futures fail likewise.
    """

    def write(self, attendance: Attendance) -> "Future[Attended]":
        """Write the connections of a worker's users in a topic, and renew the worker's lease.

        A write whose answer is lost may be made again, with a new number. A user has come with the
        first connection on any worker, and has gone `grace_seconds` after the last one.
        """
        ...

    def settle(self, topic: str) -> "Future[Attended]":
        """Let those leave who are due to."""
        ...

    def end(self, topic: str, lease: str, *, dead: bool) -> "Future[bool]":
        """Take the users of a lease out, `MAX_MEMBERS` at a time.

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
        """Read who is in a topic.

        Args:
            topic: the topic.
            after: the user before the page; empty for the first page.
            limit: maximum number of users.
            max_bytes: maximum sum of the bytes of profiles; the first user comes in any case.
        """
        ...


@runtime_checkable
class Presence(Protocol):
    """The capability of a broker to keep who is in a topic."""

    @property
    def presence(self) -> PresenceStore:
        """The store of presence, which lives as long as the broker."""
        ...


class FeedStore(Protocol):
    """Says in which topics something was stored, to those who consume every event (`consumers`).

    Hints are for speed: one may be lost with its worker. `positions` is the truth. Only topics of
    a `Retention` that holds events back are hinted at. Methods raise as those of `EventLog` do.
    """

    async def share(self) -> None:
        """Let all workers take the hints of this one: what was stored before the call."""
        ...

    async def take(self, limit: int) -> list[str]:
        """Take hints away: topics in which some worker has stored something."""
        ...

    def positions(self) -> AsyncIterator[Mapping[str, Position]]:
        """Iterate over all topics of the store with their positions, some at a time.

        A topic that is there all the while comes at least once.
        """
        ...

    def release(self, topic: str, position: Position) -> "Future[None]":
        """Let the store trim the topic's log up to a position."""
        ...


@runtime_checkable
class Feed(Protocol):
    """The capability of a broker to say in which topics something was stored."""

    @property
    def feed(self) -> FeedStore:
        """The feed, which lives as long as the broker."""
        ...


Push: TypeAlias = Event | Gap
"""What subscribers are sent of a topic: an event, or a gap in place of events that are lost."""


class Encoder(Protocol):
    """Makes the packets of one kind of transport in one encoding.

    All transports that write alike share one encoder: a push is encoded once for all of them, and
    `write` has all of them in its hands. A further format on the wire is a further encoder.
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

        The size of `packets` is bounded by the caller. The buffer of each transport may fill up;
        none of them is looked at in between.
        """
        ...


class Transport(Protocol):
    """One client's connection; every call returns at once.

    Fan-out is a plain loop over transports, and no transport may disturb the others. So no method
    raises, and no method calls the `Receiver` before it has returned.
    """

    @property
    def encoder(self) -> Encoder:
        """Makes the packets that `write` takes; the same object for all that write alike."""
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

        Messages that have been read are still handed over, as far as `pause` allows. Then
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
    """Whoever talks to the client behind a transport; told of events in the order of the wire."""

    @property
    def is_subscribed(self) -> bool:
        """Whether events may follow an answer, so that it is worth a turn of the loop to wait."""
        ...

    def on_message(self, payload: bytes, *, binary: bool) -> None:
        """Handle one whole WebSocket message."""
        ...

    def on_sign_of_life(self) -> None:
        """Note that a frame came that is no message, such as a pong."""
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

        The receiver must call `Transport.close` once the messages that came are dealt with. The
        connection may be gone earlier; then `on_closed` is called.
        """
        ...

    def on_closed(self) -> None:
        """Note that the connection is gone; called exactly once, as the last call."""
        ...
