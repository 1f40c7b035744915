"""Notes of this worker's recent deliveries, to explain why a user did not get an event.

A single delivery makes no note. All deliveries of a batch to the live subscribers of a topic make
one note. A subscriber's own history (subscribed, lagging, replayed, gap, left) makes a note each.
The oldest notes go first.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final

from msgspec import Struct

from ..clock import Clock, SystemClock
from ..events import Position
from ..protocol.messages import Gap
from .ports import Push, Transport

SECONDS: Final = 900.0
"""Seconds for which notes are of use. With many notes the oldest are dropped earlier."""


class Note(Struct, frozen=True, gc=False):
    """A note of something that happened in a topic.

    Args:
        at: seconds since 1970.
        topic: the topic.
        what: `heard` (events came, and were sent to all live subscribers), `subscribed`,
            `lagging` (its buffer is full), `replayed`, `gap` or `left`.
        epoch: the topic's epoch, if known.
        after: the seq before the events that came or are missing.
        seq: the last seq of these events; for other notes the subscriber's position.
        client: number of the subscriber; 0 for all live subscribers.
        session: with `subscribed`, the connection's session.
        user: with `subscribed`, the connection's user.
        reason: with `gap`, the gap's reason.
    """

    at: float
    topic: str
    what: str
    epoch: str = ""
    after: int = 0
    seq: int = 0
    client: int = 0
    session: str = ""
    user: str = ""
    reason: str = ""


class Trail:
    """The notes of a worker.

    Args:
        clock: tells the time.
        size: maximum number of notes, some 200 bytes each; 0 keeps none.
    """

    def __init__(self, clock: Clock, size: int) -> None:
        self._time = clock.time
        self._notes: deque[Note] = deque(maxlen=size)
        # A plain attribute, because every batch looks at it first.
        self.enabled = size > 0

    @property
    def since(self) -> float:
        """Seconds since 1970 after which no note is missing; infinite without notes."""
        if len(self._notes) == self._notes.maxlen:
            return self._notes[0].at if self._notes else float("inf")
        return 0.0

    def heard(self, topic: str, before: Position, now: Position) -> None:
        """Note that a topic has moved from one position to another."""
        if self.enabled and before != now:
            after = before.seq if before.epoch == now.epoch else min(before.seq, now.seq)
            self._notes.append(Note(self._time(), topic, "heard", now.epoch, after, now.seq))

    def subscribed(
        self, topic: str, transport: Transport, seen: Position, session: str, user: str
    ) -> None:
        """Note a new subscriber, with the position after which events follow."""
        if self.enabled:
            at, client = self._time(), id(transport)
            self._notes.append(
                Note(at, topic, "subscribed", seen.epoch, 0, seen.seq, client, session, user)
            )

    def moved(self, topic: str, transport: Transport, what: str, seen: Position) -> None:
        """Note that a subscriber lags or has left."""
        if self.enabled:
            at, client = self._time(), id(transport)
            self._notes.append(Note(at, topic, what, seen.epoch, 0, seen.seq, client))

    def replayed(
        self, topic: str, transport: Transport, steps: Sequence[tuple[Push, Position]]
    ) -> None:
        """Note the replay of a page to a subscriber, and the gaps in the page."""
        at, client = self._time(), id(transport)
        for push, here in steps:
            if isinstance(push, Gap):
                self.missed(topic, transport, push.after, here, push.reason)
        seen = steps[-1][1]
        self._notes.append(Note(at, topic, "replayed", seen.epoch, 0, seen.seq, client))

    def missed(
        self, topic: str, transport: Transport | None, after: int, seen: Position, reason: str
    ) -> None:
        """Note a gap up to a position, sent to one subscriber, or with None to all live ones."""
        if self.enabled:
            at, client = self._time(), 0 if transport is None else id(transport)
            self._notes.append(
                Note(at, topic, "gap", seen.epoch, after, seen.seq, client, reason=reason)
            )

    def of_topic(self, topic: str) -> Iterator[Note]:
        """Return the notes about a topic, the oldest first."""
        least = self._time() - SECONDS
        return (note for note in self._notes if note.topic == topic and note.at >= least)


NO_TRAIL: Final = Trail(SystemClock(), 0)
"""Keeps no notes."""
