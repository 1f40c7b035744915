"""What travels between the node and a broker: one topic's ordered events and where they stand.

A stored event's *frame* is the JSON text of the push its subscribers receive. It is put together
once, by the publisher's worker and the broker (which alone knows `seq` and `at`), and from then on
only copied: JSON subscribers of every worker get these very bytes.
"""

from enum import StrEnum
from typing import Final

from msgspec import Struct

READ_BYTES: Final = 1_048_576
"""Frames that one read of a topic returns at most, unless the first alone is larger."""


class Kind(StrEnum):
    """What an event is; only `SIGNAL` is not stored and has no place in the order."""

    MESSAGE = "message"
    EDITED = "edited"
    DELETED = "deleted"
    REACTION = "reaction"
    SIGNAL = "signal"


class Retention(Struct, frozen=True):
    """How much of a topic's history is kept.

    Args:
        size: events kept at most; 0 keeps none (`seq` still counts).
        seconds: how long after its last event a topic's history is kept.
        bytes: frames kept at most, in bytes; the oldest go first, but never the last. 0 is no
            bound.
    """

    size: int
    seconds: float
    bytes: int = 0


class Draft(Struct, frozen=True, kw_only=True):
    """An event that has no place in its topic's order yet.

    The frame is `head + seq + ',"at":' + at + tail`, where the broker supplies `seq` and `at`
    (milliseconds since 1970) as decimal digits.

    Args:
        key: makes a repetition within the idempotency window a duplicate; scoped to the topic and,
            by whoever builds the draft, to the publisher.
    """

    topic: str
    kind: Kind
    head: bytes
    tail: bytes
    retention: Retention
    key: str | None = None


class Published(Struct, frozen=True):
    """Where a publication stands in its topic's order; `at` in milliseconds since 1970."""

    seq: int
    epoch: str
    at: int
    duplicate: bool = False


class Event(Struct, frozen=True, gc=False):
    """One event as a broker delivers it; `seq` is 0 and `epoch` empty for a signal."""

    topic: str
    epoch: str
    seq: int
    kind: Kind
    frame: bytes


class Slice(Struct, frozen=True):
    """A contiguous, ascending piece of a topic's stored events, read atomically with its position.

    Args:
        epoch: the topic's epoch.
        seq: the last seq the topic has given out, whether or not it is still stored.
        events: the stored events asked for.
        more: whether stored events in the direction of the read were left out by its limits.
        base: where the epoch began: what is stored up to this seq is of an earlier one.
    """

    epoch: str
    seq: int
    events: list[Event]
    more: bool = False
    base: int = 0

    @property
    def size(self) -> int:
        """Bytes of frames that were read."""
        return sum(len(event.frame) for event in self.events)
