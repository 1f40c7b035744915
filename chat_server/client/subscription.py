"""The events of one topic, in order and each once, over any number of connections."""

from asyncio import Event as Signalled
from collections import deque
from enum import Enum, auto
from types import TracebackType
from typing import Protocol

from msgspec import Struct

from ..events import MAX_SEQ, Position, Seq
from ..protocol.commands import Subscribe
from ..protocol.messages import Gap
from .errors import ClientError
from .events import Appended, Deleted, Edited, Event, Message, Other, Present, Reaction, Signal
from .flow import Flow
from .folding import Messages


class SubscriptionState(Enum):
    """The state of a subscription at the server."""

    JOINING = auto()
    """Requested for the first time."""
    LIVE = auto()
    """Receiving events."""
    BEHIND = auto()
    """Dropping events; the events are requested again once there is room."""
    DETACHED = auto()
    """Unknown to the server; to be resumed."""
    ENDED = auto()


class Accepted(Struct, frozen=True):
    """The server's answer to `subscribe`."""

    epoch: str
    seq: Seq
    recovered: bool
    replayed: Seq
    reason: str | None = None
    presence: Present | None = None


class Beginning(Struct, frozen=True):
    """The start and the options of a subscription; `client.subscribe` explains each."""

    since: Position | None = None
    last: int | None = None
    strict: bool = False
    presence: bool = False


class Owner(Protocol):
    """The part of the client that a subscription calls."""

    async def attach(self, subscription: "Subscription") -> None:
        """Subscribe for the first time."""
        ...

    def detach(self, subscription: "Subscription") -> None:
        """Unsubscribe, in any state."""
        ...

    def resume_soon(self) -> None:
        """Resume soon every subscription that is `BEHIND` or `DETACHED`."""
        ...


class Subscription:
    """A subscription to one topic: an async context manager, and an async iterator of its events.

    Made by `Client.subscribe`. A subscription outlives connections: after each reconnection the
    subscription continues behind the last event received, without a missing or repeated event. If
    the server no longer has the missed events, the iterator yields a `Gap`.

    The iterator ends when the client is closed. The iterator raises `CommandFailed` if the server
    ends the subscription, and `Disconnected`, `TokenRejected` or `BadServer` if the client has
    given up.

    Attributes:
        topic: the topic.
        messages: the newest messages, with all yielded events applied.
        presence: the users in the topic at the time of subscribing, if requested.
    """

    def __init__(
        self, owner: Owner, flow: Flow, topic: str, beginning: Beginning, *, keep: int
    ) -> None:
        self.topic = topic
        self.messages = Messages(keep)
        self.presence: Present | None = None
        self.state = SubscriptionState.JOINING
        self._owner = owner
        self._flow = flow
        self._beginning = beginning
        self._received = beginning.since
        self._yielded = beginning.since
        # For messages with their changes applied: the seq of the last applied event, and the number
        # of such messages still to come at most.
        self._folded_until = 0
        self._folded_left = 0
        # Each event with the position behind it, and the size of its payload.
        self._events: deque[tuple[Event, Position | None, int]] = deque()
        self._arrived = Signalled()
        self._error: ClientError | None = None
        self._entered = False

    @property
    def received(self) -> Position | None:
        """The position of the last event received, yielded or not."""
        return self._received

    @property
    def position(self) -> Position | None:
        """The position of the last event yielded, for `since` of a later subscription.

        The position is None until the subscription is entered.
        """
        return self._yielded

    async def __aenter__(self) -> "Subscription":
        """Subscribe.

        Raises:
            CommandFailed: the server refused, or this client is subscribed to the topic already.
            NotConnected: there is no connection at the moment.
            ConnectionLost: the connection broke before the answer.
        """
        if self._entered:
            raise RuntimeError("a subscription can be entered only once")
        self._entered = True
        await self._owner.attach(self)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Unsubscribe, without waiting for the server's answer."""
        self._owner.detach(self)

    def __aiter__(self) -> "Subscription":
        """Iterate over the events."""
        return self

    async def __anext__(self) -> Event:
        """Wait for the next event, and return it."""
        if not self._entered:
            raise RuntimeError(
                "the subscription does not receive: enter it first, as in `async with"
                " chat.subscribe(...) as room`"
            )
        while not self._events:
            if self.state is SubscriptionState.ENDED:
                if self._error is not None:
                    raise self._error
                raise StopAsyncIteration
            self._arrived.clear()
            await self._arrived.wait()
        event, self._yielded, size = self._events.popleft()
        self._flow.remove(size)
        self.messages.apply(event)
        return event

    @property
    def needed(self) -> bool:
        """True if the subscription has to be requested again."""
        return self.state in (SubscriptionState.BEHIND, SubscriptionState.DETACHED)

    # For the client ------------------------------------------------------------------------

    def request(self) -> Subscribe:
        """Return the command that begins or resumes this subscription."""
        asked, since = self._beginning, self._received
        return Subscribe(
            topic=self.topic,
            since=since,
            last=asked.last if since is None else None,
            strict=asked.strict and since is not None,
            presence=asked.presence,
        )

    def accepted(self, answer: Accepted) -> None:
        """Go live with the server's answer, behind a gap if events were missed."""
        if self.state is SubscriptionState.ENDED:
            return
        start = Position(answer.epoch, max(0, answer.seq - answer.replayed))
        asked = self._received
        self.state = SubscriptionState.LIVE
        self.presence = answer.presence
        self._folded_until = self._folded_left = 0
        if asked is None:
            self._yielded = start
            self._folded_until, self._folded_left = answer.seq, self._beginning.last or 0
        elif not answer.recovered:
            # Seqs of another epoch do not tell the number of missed events.
            same_epoch = asked.epoch == start.epoch and asked.seq <= start.seq
            after = asked.seq if same_epoch else 0
            reason = answer.reason or "expired"
            self._put(self._gap(start.epoch, after, start.seq + 1, reason), start)
        self._received = start

    def offer(self, event: Event, size: int) -> None:
        """Handle an event from the connection; `size` is the bytes of its payload."""
        here = self._received
        if self.state is not SubscriptionState.LIVE or here is None:
            return
        place = _after(event, here)
        unstored = place is here
        if not unstored and place.epoch == here.epoch and place.seq <= here.seq:
            return
        if self._flow.full:
            if isinstance(event, Signal):
                return
            self.state = SubscriptionState.BEHIND
            self._owner.resume_soon()
            return
        if unstored:
            self._put(event, here, size)
            return
        if place.seq > self._folded_until:
            self._folded_left = 0
            here = Position(here.epoch, max(here.seq, self._folded_until))
        if not self._folded_left and _first(event, place) > here.seq + 1:
            gap = self._gap(place.epoch, here.seq, _first(event, place), "skipped")
            self._put(gap, Position(place.epoch, _first(event, place) - 1))
        if self._folded_left == 1:  # All messages are here, with changes up to that seq.
            place = Position(place.epoch, self._folded_until)
        self._folded_left = max(0, self._folded_left - 1)
        self._received = place
        self._put(event, place, size)

    def lost(self) -> None:
        """Note that the server has forgotten this subscription."""
        if self.state in (SubscriptionState.LIVE, SubscriptionState.BEHIND):
            self.state = SubscriptionState.DETACHED
            self._owner.resume_soon()

    def end(self, error: ClientError | None = None) -> None:
        """End the iterator, with `error` if given, behind the waiting events."""
        if self.state is not SubscriptionState.ENDED:
            self.state = SubscriptionState.ENDED
            self._error = error
            self._arrived.set()

    def clear(self) -> None:
        """Drop the waiting events."""
        self._flow.remove(sum(size for _, _, size in self._events), len(self._events))
        self._events.clear()

    def _gap(self, epoch: str, after: int, before: int, reason: str) -> Gap:
        return Gap(topic=self.topic, epoch=epoch, after=after, before=before, reason=reason)

    def _put(self, event: Event, place: Position | None, size: int = 0) -> None:
        self._events.append((event, place, size))
        self._flow.add(size)
        self._arrived.set()


def _after(event: Event, here: Position) -> Position:
    """Return the position behind `event`, or `here` for an event without a seq."""
    match event:
        case Gap():
            # Clamped: no server accepts a larger seq, so the subscription could not be resumed.
            return Position(event.epoch, min(max(0, event.before - 1), MAX_SEQ))
        case Message() | Edited() | Appended() | Deleted() | Reaction():
            return Position(here.epoch, event.seq)
        case Other() if event.seq is not None:
            return Position(here.epoch, event.seq)
    return here


def _first(event: Event, place: Position) -> int:
    """Return the first seq that `event` covers; a gap covers all seqs up to its end."""
    match event:
        case Gap():
            return 0
        case Appended() if event.first is not None:
            return min(event.first, place.seq)
    return place.seq
