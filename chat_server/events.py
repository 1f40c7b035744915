"""The vocabulary of the message store: drafts, events, and pages of a topic's log.

The *payload* of an event is the JSON text of its push to subscribers. The publisher's worker and
the broker assemble the payload once (only the broker knows `seq` and `at`). From then on every
worker copies the payload: JSON subscribers receive exactly these bytes.
"""

from enum import StrEnum
from operator import attrgetter
from typing import Annotated, Final

from msgspec import Meta, Struct
from msgspec.structs import replace

from .rates import Charge

MAX_SEQ: Final = 2**53 - 1
"""The greatest integer that every JSON parser reads exactly."""

READ_BYTES: Final = 1_048_576
"""Maximum payload bytes of one page of the log, unless the first event alone is larger."""

Seq = Annotated[int, Meta(ge=0, le=MAX_SEQ)]


class Kind(StrEnum):
    """The kind of an event. `SIGNAL` and `PRESENCE` are not stored and have no `seq`."""

    MESSAGE = "message"
    EDITED = "edited"
    APPENDED = "appended"
    DELETED = "deleted"
    REACTION = "reaction"
    READ = "read"
    SIGNAL = "signal"
    PRESENCE = "presence"


_AT: Final = b',"at":'
_UNSTORED: Final = (Kind.SIGNAL, Kind.PRESENCE, Kind.READ)
_payload = attrgetter("payload")


class Position(Struct, frozen=True):
    """A place in a topic's log: the `seq` of an event, and its epoch."""

    epoch: Annotated[str, Meta(max_length=64)]
    seq: Seq


class Retention(Struct, frozen=True):
    """The part of a topic's log that the store keeps (docs/design/messages.md).

    Args:
        size: maximum number of messages; 0 keeps none (`seq` still counts).
        seconds: lifetime of the log after its last event.
        bytes: maximum sum of payload bytes, for messages and for changes each; the oldest go first,
            the last one never. 0 is no bound.
        changes: a change is kept while fewer events than this follow.
        held_size: maximum number of messages while consumers have not taken the oldest; 0 if the
            topic has no consumers.
        held_bytes: maximum sum of payload bytes in the same case.
    """

    size: int
    seconds: float
    bytes: int = 0
    changes: int = 1_000
    held_size: int = 0
    held_bytes: int = 0


HELD: Final = 4
"""Factor by which a log may exceed its bounds for consumers that lag."""

HELD_MESSAGES: Final = 4_000
"""Minimum bound of messages held back for consumers, even with a short history."""

HELD_BYTES: Final = 67_108_864
"""Minimum bound of payload bytes held back for consumers."""

HELD_SECONDS: Final = 86_400.0
"""Minimum lifetime in seconds of a log with consumers."""


def held(retention: Retention) -> Retention:
    """Return a retention with which lagging consumers hold the log back."""
    return replace(
        retention,
        seconds=max(retention.seconds, HELD_SECONDS),
        held_size=max(HELD * retention.size, HELD_MESSAGES),
        held_bytes=max(HELD * retention.bytes, HELD_BYTES),
    )


class Draft(Struct, frozen=True, kw_only=True):
    """An event without a place in its topic's log.

    The payload is `head + seq + ',"at":' + at + tail`. The broker supplies `seq` and `at`
    (milliseconds since 1970) as decimal digits.

    Args:
        topic: the topic's name.
        kind: the kind of the event.
        head: JSON text before the seq.
        tail: JSON text after the time.
        content: bytes at the end of `tail` that a deletion removes: the user's data, and the
            closing brace.
        retention: the bounds of the topic's log.
        key: idempotency key; a repetition within the idempotency window is a duplicate. Scoped to
            the topic, and to the publisher by the author of the draft.
        charges: the costs of the event against rates of the topic.
    """

    topic: str
    kind: Kind
    head: bytes
    tail: bytes
    retention: Retention
    content: int = 0
    key: str | None = None
    charges: tuple[Charge, ...] = ()


class PublishResult(Struct, frozen=True):
    """The place of an event in its topic's log; `at` in milliseconds since 1970.

    Args:
        length: Unicode code points of a message's text after an append.
    """

    seq: int
    epoch: str
    at: int
    duplicate: bool = False
    length: int = 0


class Event(Struct, frozen=True, gc=False):
    """An event as a broker delivers it; `seq` is 0 and `epoch` is empty for a signal.

    Args:
        topic: the topic.
        epoch: the topic's epoch.
        seq: the place of the event in the topic's log.
        kind: the kind of the event.
        payload: the push for subscribers, as JSON text.
        first: the seq of the first event, if this event merges several appends.
    """

    topic: str
    epoch: str
    seq: int
    kind: Kind
    payload: bytes
    first: int | None = None

    @property
    def stored(self) -> bool:
        """Whether the event has a place in the topic's log."""
        return self.kind not in _UNSTORED

    @property
    def at(self) -> int | None:
        """Milliseconds since 1970 when the event was stored, read from the payload."""
        start = self.payload.find(_AT) + len(_AT)
        if start < len(_AT) or not self.stored:
            return None
        return int(self.payload[start : self.payload.index(b",", start)])


class HistoryPage(Struct, frozen=True):
    """Stored events in ascending order, read atomically with the topic's position.

    Args:
        epoch: the topic's epoch.
        seq: the last seq of the topic, even if that event is not stored any more.
        events: the stored events of this page, or messages in their state at `seq`.
        more: True if a limit of the read left stored events out.
        epoch_start: the seq after which the epoch began; earlier events belong to an earlier epoch.
        missing: number of events after the page's beginning that are not stored any more.
        folded: True if the events are messages with their changes, whose seqs are not contiguous.
    """

    epoch: str
    seq: int
    events: list[Event]
    more: bool = False
    epoch_start: int = 0
    missing: int = 0
    folded: bool = False

    @property
    def has_newest(self) -> bool:
        """Whether the topic's last event is on this page, or the topic has no events."""
        return self.seq == (self.events[-1].seq if self.events else 0)

    @property
    def size(self) -> int:
        """Sum of the payload bytes on this page."""
        return sum(map(len, map(_payload, self.events)))
