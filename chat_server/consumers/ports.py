"""What is asked of a consumer, and what it is given."""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from ..events import Event


class Cursor(Struct, frozen=True):
    """How far a consumer has come in a topic's log.

    Args:
        epoch: the epoch of the last event that was taken.
        seq: its seq.
        at: its time in milliseconds since 1970, 0 if it is not known. With another event at its seq
            the store has lost events, and given their seqs out again.
    """

    epoch: str
    seq: int
    at: int = 0


class Batch(Struct, frozen=True):
    """Events of one topic that follow a cursor.

    Args:
        topic: the topic.
        before: the cursor that they follow; None if nothing was taken of the topic yet.
        after: the cursor behind them.
        events: the events, ascending.
        gaps: the first and the last seq of each run of events that the log has lost.
        epoch_start: the seq after which the epoch of `after` began.
        goes_back: True if the epoch began in front of `before`: seqs behind `epoch_start` name
            other events from now on.
        more: True if the log has more events behind these.
    """

    topic: str
    before: Cursor | None
    after: Cursor
    events: list[Event]
    gaps: list[tuple[int, int]]
    epoch_start: int = 0
    goes_back: bool = False
    more: bool = False

    @property
    def is_news(self) -> bool:
        """Whether the consumer has anything to do."""
        return self.after != self.before

    @property
    def size(self) -> int:
        """Sum of the payload bytes."""
        return sum(len(event.payload) for event in self.events)


class Consumer(Protocol):
    """Takes the events of all topics that it wants.

    One process at a time calls it, as far as leases can tell: `take` must refuse a batch whose
    `before` is not where the topic stands, so that a process which was frozen does no harm.
    """

    @property
    def name(self) -> str:
        """What the log calls it."""
        ...

    def wants(self, topic: str) -> bool:
        """Return whether it takes the events of a topic."""
        ...

    async def cursors(self, topics: Collection[str]) -> Mapping[str, Cursor]:
        """Return how far it has come in each of these topics, as far as it has begun with them.

        Raises:
            Unavailable: this cannot be read now.
        """
        ...

    async def take(self, batches: Sequence[Batch]) -> None:
        """Take batches of different topics, for good and with their cursors, all or nothing.

        A batch may be offered again if the process dies, or an exception was raised.

        Raises:
            Unavailable: not now; they will be offered again.
            Outdated: a topic stands elsewhere; its cursor will be read again.
        """
        ...


class Outdated(Exception):
    """Another process has moved a cursor."""


class Lease(Protocol):
    """Says which process may call the consumers; see `database.leases`."""

    @property
    def held(self) -> bool:
        """Whether this process may do so now."""
        ...

    async def renew(self) -> bool:
        """Renew the lease, or take it if nobody has it.

        Raises:
            Unavailable: this cannot be done now; it may still be held.
        """
        ...

    async def release(self) -> None:
        """Let another process take it at once."""
        ...
