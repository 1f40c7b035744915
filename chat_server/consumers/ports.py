"""The interfaces of a consumer and of its lease, and the data that a consumer gets."""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from ..events import Event


class Cursor(Struct, frozen=True):
    """The position of a consumer in a topic's log.

    Args:
        epoch: the epoch of the last event taken.
        seq: the seq of the last event taken.
        at: the time of the last event taken, in milliseconds since 1970; 0 if unknown. If the log
            has an event of another time at `seq`, the store has lost events and has reused their
            seqs.
    """

    epoch: str
    seq: int
    at: int = 0


class Batch(Struct, frozen=True):
    """Events of one topic that follow a cursor.

    Args:
        topic: the topic.
        before: the cursor in front of the events; None if the consumer has not begun with the
            topic.
        after: the cursor behind the events.
        events: the events, ascending.
        gaps: the first and the last seq of each run of events that the log has lost.
        epoch_start: the seq after which the epoch of `after` began.
        goes_back: True if the epoch began in front of `before`: from now on seqs behind
            `epoch_start` name other events.
        more: True if the log has further events.
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
        """True if the batch moves the consumer's cursor."""
        return self.after != self.before

    @property
    def size(self) -> int:
        """Sum of the payload bytes."""
        return sum(len(event.payload) for event in self.events)


class Consumer(Protocol):
    """Takes the events of every topic for which `wants` returns True.

    One process at a time calls a consumer, as far as leases can guarantee. A process that was
    frozen may call as well. `take` therefore refuses a batch whose `before` is not the current
    cursor.
    """

    @property
    def name(self) -> str:
        """Name of the consumer in the log."""
        ...

    def wants(self, topic: str) -> bool:
        """Return True if the consumer takes the events of a topic."""
        ...

    async def cursors(self, topics: Collection[str]) -> Mapping[str, Cursor]:
        """Return the cursors of these topics, without topics that the consumer has not begun with.

        Raises:
            Unavailable: the cursors cannot be read now.
        """
        ...

    async def take(self, batches: Sequence[Batch]) -> None:
        """Store batches of different topics together with their cursors, all or nothing.

        A batch may be offered again after an exception or after the death of the process.

        Raises:
            Unavailable: the consumer cannot take the batches now; they are offered again.
            Outdated: the cursor of a topic is not `before`; the cursor is read again.
        """
        ...


class Outdated(Exception):
    """Another process has moved a cursor."""


class Lease(Protocol):
    """Decides which process may call the consumers; see `database.leases`."""

    @property
    def held(self) -> bool:
        """True if this process may call the consumers now."""
        ...

    async def renew(self) -> bool:
        """Renew the lease, or take the lease if no process holds one.

        Raises:
            Unavailable: the database cannot be used now; the lease may still be held.
        """
        ...

    async def release(self) -> None:
        """Let another process take the lease at once."""
        ...
