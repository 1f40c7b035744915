"""The vocabulary of the message store: drafts, events, and pages of a topic's log.

The *payload* of an event is the JSON text of the push that subscribers receive. The publisher's
worker and the broker assemble the payload once (only the broker knows `seq` and `at`). From then on
every worker copies the payload: JSON subscribers receive these very bytes.
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
"""Payload bytes on one page of the log at most, unless the first event alone is larger."""

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
    """A place in a topic's log: the `seq` of an event, and the epoch that counts it."""

    epoch: Annotated[str, Meta(max_length=64)]
    seq: Seq


class Retention(Struct, frozen=True):
    """The part of a topic's log that the store keeps (docs/design/messages.md).

    Args:
        size: maximum number of messages; 0 keeps none (`seq` still counts).
        seconds: lifetime of the log after its last event.
        bytes: maximum sum of payload bytes, of messages and of changes each; the oldest go first,
            the last one never. 0 is no bound.
        changes: a change is kept while fewer events than this follow it.
        held_size: maximum number of messages while consumers have not taken the oldest; 0 if nobody
            consumes the topic.
        held_bytes: maximum sum of payload bytes likewise.
    """

    size: int
    seconds: float
    bytes: int = 0
    changes: int = 1_000
    held_size: int = 0
    held_bytes: int = 0


HELD: Final = 4
"""By how many times its bounds a log may exceed them for consumers that are behind."""

HELD_MESSAGES: Final = 4_000
"""Messages of a topic that are held back at least, however short its history is."""

HELD_BYTES: Final = 67_108_864
"""Payload bytes of a topic that are held back at least."""

HELD_SECONDS: Final = 86_400.0
"""Lifetime at least of a log that is consumed."""


def held(retention: Retention) -> Retention:
    """Return a retention with which consumers that are behind hold the log back."""
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
        head: JSON text in front of the seq.
        tail: JSON text behind the time.
        content: bytes at the end of `tail` that a deletion takes away: what the user wrote, and the
            closing brace.
        retention: how much of the topic is kept.
        key: idempotency key; a repetition within the idempotency window is a duplicate. Scoped to
            the topic, and to the publisher by the author of the draft.
        charges: what the event counts against rates of the topic.
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
        payload: the push that subscribers receive, as JSON text.
        first: the seq of the first event that this one stands for, if appends were merged.
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
        """Milliseconds since 1970 at which the event was stored, as its payload says."""
        start = self.payload.find(_AT) + len(_AT)
        if start < len(_AT) or not self.stored:
            return None
        return int(self.payload[start : self.payload.index(b",", start)])


class HistoryPage(Struct, frozen=True):
    """Stored events in ascending order, read atomically with the topic's position.

    Args:
        epoch: the topic's epoch.
        seq: the last seq of the topic, whether or not that event is still stored.
        events: the stored events of this page, or messages as they were at `seq`.
        more: True if a limit of the read left stored events out.
        epoch_start: the seq after which the epoch began; events up to it are of an earlier epoch.
        missing: number of events behind the page's beginning that are not stored any more.
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
        """Whether the topic's last event is on this page, or there is none."""
        return self.seq == (self.events[-1].seq if self.events else 0)

    @property
    def size(self) -> int:
        """Sum of the payload bytes on this page."""
        return sum(map(len, map(_payload, self.events)))
