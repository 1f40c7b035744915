"""One topic's events, in order and each once, over any number of connections."""

from asyncio import Event as Signalled
from collections import deque
from enum import Enum, auto
from types import TracebackType
from typing import Protocol

from msgspec import Struct

from ..events import MAX_SEQ, Position, Seq
from ..protocol.messages import Gap, Subscribe
from .errors import ClientError
from .events import Event, Message, Other
from .flow import Flow


class State(Enum):
    """How a subscription stands with the server."""

    JOINING = auto()
    """Asked for, for the first time."""
    LIVE = auto()
    """Receiving."""
    BEHIND = auto()
    """What the server sends is dropped, to be asked for again once there is room."""
    DETACHED = auto()
    """The server knows nothing of it; it is to be asked to resume."""
    ENDED = auto()


class Accepted(Struct, frozen=True):
    """The server's answer to `subscribe`."""

    epoch: str
    seq: Seq
    recovered: bool
    replayed: Seq
    reason: str | None = None


class Owner(Protocol):
    """What a subscription needs of its client."""

    async def attach(self, subscription: "Subscription") -> None:
        """Subscribe for the first time."""
        ...

    def detach(self, subscription: "Subscription") -> None:
        """Unsubscribe, whatever has become of it."""
        ...

    def resume_soon(self) -> None:
        """Note that a subscription is `BEHIND` or `DETACHED`."""
        ...


class Subscription:
    """A subscription to one topic: an async context manager, and an async iterator of its events.

    Got from `Client.subscribe`. It outlives connections: after each reconnection it goes on behind
    the last event it received, without a hole or a repeat; where the server no longer has what was
    missed, the iterator yields a `Gap`.

    The iterator ends when the client is closed. It raises `CommandFailed` if the server refuses to
    go on, and `Disconnected`, `TokenRejected` or `BadServer` if the client had to give up.
    """

    def __init__(
        self, owner: Owner, flow: Flow, topic: str, *, since: Position | None, last: int | None
    ) -> None:
        self.topic = topic
        self.state = State.JOINING
        self._owner = owner
        self._flow = flow
        self._last = last
        self._received = since
        self._yielded = since
        self._events: deque[tuple[Event, int]] = deque()  # with the sizes of their frames
        self._arrived = Signalled()
        self._error: ClientError | None = None
        self._entered = False

    @property
    def received(self) -> Position | None:
        """Where the last event stands that came from the server, whether it was yielded or not."""
        return self._received

    @property
    def position(self) -> Position | None:
        """Where the last event that was yielded stands; give it to `subscribe` as `since`.

        None until the subscription has been entered.
        """
        return self._yielded

    async def __aenter__(self) -> "Subscription":
        """Subscribe.

        Raises:
            CommandFailed: the server refused, or this client is subscribed to the topic already.
            NotConnected: there is no connection at the moment.
            ConnectionLost: it broke before the answer came.
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
            if self.state is State.ENDED:
                if self._error is not None:
                    raise self._error
                raise StopAsyncIteration
            self._arrived.clear()
            await self._arrived.wait()
        event, size = self._events.popleft()
        self._flow.remove(size)
        self._yielded = _after(event, self._yielded)
        return event

    @property
    def needed(self) -> bool:
        """Whether the server is to be asked for it again."""
        return self.state in (State.BEHIND, State.DETACHED)

    # What the client tells it --------------------------------------------------------------

    def request(self) -> Subscribe:
        """Return the command that begins this subscription, or takes it up where it stood."""
        if self._received is None:
            return Subscribe(topic=self.topic, last=self._last)
        return Subscribe(topic=self.topic, since=self._received)

    def accepted(self, answer: Accepted) -> None:
        """Take the server's answer: events from here on count."""
        if self.state is State.ENDED:
            return
        start = Position(answer.epoch, max(0, answer.seq - answer.replayed))
        asked = self._received
        self.state = State.LIVE
        if asked is None:
            self._yielded = start
        elif not answer.recovered:
            # Of an order that is lost nothing can be said but where the new one stands.
            same_order = asked.epoch == start.epoch and asked.seq <= start.seq
            after = asked.seq if same_order else 0
            reason = answer.reason or "expired"
            self._put(self._gap(start.epoch, after, start.seq + 1, reason))
        self._received = start

    def offer(self, event: Event, size: int) -> None:
        """Take an event, whose frame has `size` bytes, from the connection."""
        here = self._received
        if self.state is not State.LIVE or here is None:
            return
        place = _after(event, here)
        if place is not here:
            if place is None or (place.epoch == here.epoch and place.seq <= here.seq):
                return
            if self._flow.full:
                self.state = State.BEHIND
                self._owner.resume_soon()
                return
            if place.seq > here.seq + 1 and not isinstance(event, Gap):
                self._put(self._gap(place.epoch, here.seq, place.seq, "skipped"))
            self._received = place
        elif self._flow.full:
            return
        self._put(event, size)

    def lost(self) -> None:
        """Note that the server knows nothing of this subscription any more."""
        if self.state in (State.LIVE, State.BEHIND):
            self.state = State.DETACHED
            self._owner.resume_soon()

    def end(self, error: ClientError | None = None) -> None:
        """Let the iterator end, or raise `error`, behind the events that wait."""
        if self.state is not State.ENDED:
            self.state = State.ENDED
            self._error = error
            self._arrived.set()

    def clear(self) -> None:
        """Forget the events that wait."""
        self._flow.remove(sum(size for _, size in self._events), len(self._events))
        self._events.clear()

    def _gap(self, epoch: str, after: int, before: int, reason: str) -> Gap:
        return Gap(topic=self.topic, epoch=epoch, after=after, before=before, reason=reason)

    def _put(self, event: Event, size: int = 0) -> None:
        self._events.append((event, size))
        self._flow.add(size)
        self._arrived.set()


def _after(event: Event, here: Position | None) -> Position | None:
    """Return the position behind `event`; `here` itself if it has no place in the order."""
    if isinstance(event, Gap):
        # Clamped: with a seq that no server takes the subscription could not be resumed.
        return Position(event.epoch, min(max(0, event.before - 1), MAX_SEQ))
    if here is not None and isinstance(event, Message | Other) and event.seq is not None:
        return Position(here.epoch, event.seq)
    return here
