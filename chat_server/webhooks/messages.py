"""The bodies of webhook messages: events of several topics, in the format for subscribers."""

from collections import deque
from collections.abc import Collection, Iterable, Iterator
from typing import Final

import msgspec
from msgspec import Struct

from ..clock import iso_time
from ..consumers.ports import Batch, Cursor
from ..consumers.reading import at_of

MAX_BODY_BYTES: Final = 1_048_576
"""Bytes of events in one message at most, unless the first event alone is larger."""


class Message(Struct):
    """The events of one request.

    Args:
        body: JSON text.
        count: number of events.
        cursors: by topic, the endpoint's cursor after this message.
    """

    body: bytes
    count: int
    cursors: dict[str, Cursor]


def messages(
    batches: Iterable[Batch], kinds: Collection[str], size: int, since: int = 0
) -> Iterator[Message]:
    """Yield the messages for batches of different topics, in order for each topic.

    Args:
        batches: the events behind the topics' cursors.
        kinds: kinds of events to send; gaps are always sent.
        size: events in one message at most.
        since: milliseconds since 1970; earlier events are left out.
    """
    texts: list[bytes] = []
    cursors: dict[str, Cursor] = {}
    length = newest = 0
    for batch in batches:
        last: Cursor | None = None
        for text, cursor in _entries(batch, kinds, since):
            if len(texts) == size or (texts and length + len(text) > MAX_BODY_BYTES):
                if last is not None:
                    cursors[batch.topic] = last
                yield _message(texts, newest, cursors)
                texts, cursors, length, last = [], {}, 0, None
            texts.append(text)
            length += len(text)
            if cursor is not None:
                last, newest = cursor, cursor.at
        cursors[batch.topic] = batch.after
    if texts:
        yield _message(texts, newest, cursors)


def _message(texts: list[bytes], newest: int, cursors: dict[str, Cursor]) -> Message:
    """Return a message of these texts; `newest` is the time of its last event."""
    frame = b'{"type":"events","timestamp":"%b","data":{"events":[%b]}}'
    return Message(frame % (iso_time(newest).encode(), b",".join(texts)), len(texts), cursors)


def _entries(
    batch: Batch, kinds: Collection[str], since: int
) -> Iterator[tuple[bytes, Cursor | None]]:
    """Yield the text of each event with the cursor behind the event, and of each gap."""
    epoch = batch.after.epoch
    end = b',"epoch":%b}' % msgspec.json.encode(epoch)
    if batch.before is not None and batch.before.epoch != epoch:
        start = batch.epoch_start if batch.goes_back else batch.before.seq
        yield _gap(batch, 0, start + 1, "epoch_changed"), None
    gaps = deque(batch.gaps)
    for event in batch.events:
        while gaps and gaps[0][0] < event.seq:
            first, last = gaps.popleft()
            yield _gap(batch, first - 1, last + 1, "expired"), None
        if event.kind in kinds:
            at = at_of(event)
            if not at:
                # Another program wrote this event. Its payload would break the JSON of the message.
                yield _gap(batch, event.seq - 1, event.seq + 1, "expired"), None
            elif at >= since:
                yield event.payload[:-1] + end, Cursor(epoch, event.seq, at)
    for first, last in gaps:
        yield _gap(batch, first - 1, last + 1, "expired"), None


class _Gap(Struct, tag_field="type", tag="gap"):
    topic: str
    after: int
    before: int
    reason: str
    epoch: str


def _gap(batch: Batch, after: int, before: int, reason: str) -> bytes:
    """Return a gap in the format of the push to subscribers (docs/protocol.md, section 4)."""
    return msgspec.json.encode(_Gap(batch.topic, after, before, reason, batch.after.epoch))
