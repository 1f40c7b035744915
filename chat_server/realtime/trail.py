"""What this worker did with recent events, for the question why somebody did not get one.

Nothing is written down for a delivery. What all live subscribers of a topic were sent is one note
for each batch of the topic; what happens to one of them alone (it comes, lags, is replayed to, is
told a gap, goes) is a note of its own. The oldest notes go first.
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
"""How long notes are of use. There may be too many to keep all of them for so long."""


class Note(Struct, frozen=True, gc=False):
    """Something that has happened in a topic.

    Args:
        at: seconds since 1970.
        topic: the topic.
        what: `heard` (events came, and all live subscribers were sent them), `subscribed`,
            `lagging` (its buffer is full), `replayed`, `gap` or `left`.
        epoch: the topic's, if it is known.
        after: the seq after which events came or are missing.
        seq: the last of these; else what the subscriber has seen.
        client: of one subscriber alone: tells its notes from others'; 0 for all live ones.
        session: with `subscribed`, the connection's.
        user: with `subscribed`, whose it is.
        reason: of a gap.
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
        size: notes that are kept, some 200 bytes each; 0 keeps none.
    """

    def __init__(self, clock: Clock, size: int) -> None:
        self._time = clock.time
        self._notes: deque[Note] = deque(maxlen=size)
        # The first thing that is looked at, for each batch.
        self.enabled = size > 0

    @property
    def since(self) -> float:
        """Seconds since 1970 from which on nothing is missing; infinite without notes."""
        if len(self._notes) == self._notes.maxlen:
            return self._notes[0].at if self._notes else float("inf")
        return 0.0

    def heard(self, topic: str, before: Position, now: Position) -> None:
        """Note that a topic has got from one position to another."""
        if self.enabled and before != now:
            after = before.seq if before.epoch == now.epoch else min(before.seq, now.seq)
            self._notes.append(Note(self._time(), topic, "heard", now.epoch, after, now.seq))

    def subscribed(
        self, topic: str, transport: Transport, seen: Position, session: str, user: str
    ) -> None:
        """Note that a subscriber has come, and from where on it gets events."""
        if self.enabled:
            at, client = self._time(), id(transport)
            self._notes.append(
                Note(at, topic, "subscribed", seen.epoch, 0, seen.seq, client, session, user)
            )

    def moved(self, topic: str, transport: Transport, what: str, seen: Position) -> None:
        """Note that a subscriber has fallen behind, or left."""
        if self.enabled:
            at, client = self._time(), id(transport)
            self._notes.append(Note(at, topic, what, seen.epoch, 0, seen.seq, client))

    def replayed(
        self, topic: str, transport: Transport, steps: Sequence[tuple[Push, Position]]
    ) -> None:
        """Note what a subscriber was sent of a page, and the gaps in it."""
        at, client = self._time(), id(transport)
        for push, here in steps:
            if isinstance(push, Gap):
                self.missed(topic, transport, push.after, here, push.reason)
        seen = steps[-1][1]
        self._notes.append(Note(at, topic, "replayed", seen.epoch, 0, seen.seq, client))

    def missed(
        self, topic: str, transport: Transport | None, after: int, seen: Position, reason: str
    ) -> None:
        """Note that a subscriber, or with None all live ones, was told a gap up to a position."""
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
