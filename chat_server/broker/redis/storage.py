"""A topic in Redis: names of keys, scripts, and the decoding of replies."""

import math
from asyncio import Future
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from typing import Any, Final, NamedTuple

from ...changes import (
    MAX_EMOJI,
    MAX_REACTING,
    Append,
    Change,
    ChangeResult,
    Edit,
    Outcome,
    Piece,
    Reaction,
)
from ...events import (
    READ_BYTES,
    Draft,
    Event,
    HistoryPage,
    Kind,
    Position,
    PublishResult,
    Retention,
)
from ...protocol.errors import RateLimited
from ...rates import Charge, Exceeded
from ...settings import BrokerSettings
from ..common import epochs
from .members import decode_message
from .pipeline import Argument, Pipeline, Script, bulk

PUBLISH: Final = Script("topic", "publish")
CHANGE: Final = Script("topic", "change")
RATED_PUBLISH: Final = Script("rates", "topic", "publish")
RATED_CHANGE: Final = Script("rates", "topic", "change")
STORING: Final = (PUBLISH, CHANGE, RATED_PUBLISH, RATED_CHANGE)
HISTORY: Final = Script("topic", "history")
BEGIN_EPOCH: Final = Script("begin_epoch")

REMEMBERED: Final = 1_024
"""Topics whose keys a worker caches: 2 MiB with the longest names."""

PASSING_MS: Final = 90_000
"""Lifetime in milliseconds of a position without events; bounds the cost of reading random topics.
A subscription prolongs the position."""


class Keys(NamedTuple):
    """A topic's keys and its channel.

    Attributes:
        meta: key of the topic's position.
        messages: key of the stored messages.
        changes: key of the events that change messages.
        state: key of the changed messages' states.
        authors: key of the messages' authors.
        channel: the channel of the topic's events.
        once: the beginning of the keys for idempotency keys.
        rate: the beginning of the keys for rates.
        readers: key of the visible read cursors.
        read_at: key of the times of these cursors' last moves.
    """

    meta: str
    messages: str
    changes: str
    state: str
    authors: str
    channel: str
    once: str
    rate: str
    readers: str
    read_at: str

    def of_key(self, key: str) -> str:
        """Return the key of the place of a publication with this idempotency key."""
        return f"{self.once}:{key}"

    def of_rates(self, charges: Sequence[Charge]) -> list[str]:
        """Return the keys of the used parts of these rates."""
        return [f"{self.rate}:{charge.name}" for charge in charges]


class Keyspace:
    """The names of keys and channels.

    Args:
        prefix: beginning of all names.
        database: number of the database; part of channels, because databases share one pub/sub.

    Attributes:
        keys: returns the keys and the channel of a topic.
    """

    def __init__(self, prefix: str, database: int) -> None:
        self.prefix = prefix
        # No prefix has an `@`. Names without a number are those of earlier versions.
        self._channels = f"{prefix}:@{database}" if database else prefix
        # Most publications go to topics with other recent publications.
        self.keys = lru_cache(REMEMBERED)(self._keys)

    def channel(self, topic: str) -> str:
        """Return a topic's channel."""
        # Braces make the topic the hash tag: one topic's keys and channel share a cluster's slot.
        return f"{self._channels}:{{{topic}}}"

    def _keys(self, topic: str) -> Keys:
        """Return the keys and the channel of a topic."""
        # Braces make the topic the hash tag: one topic's keys and channel share a cluster's slot.
        base = f"{self.prefix}:{{{topic}}}"
        return Keys(
            f"{base}:meta",
            f"{base}:messages",
            f"{base}:changes",
            f"{base}:state",
            f"{base}:authors",
            f"{self._channels}:{{{topic}}}",
            f"{base}:key",
            f"{base}:rate",
            f"{base}:readers",
            f"{base}:read_at",
        )

    def cursor_key(self, topic: str, user: str) -> str:
        """Return the key of a user's read cursor."""
        return f"{self.prefix}:{{{topic}}}:read:{user}"

    def own(self, home: str, name: str) -> Keys:
        """Return keys for the probe, with the hash tag `home` if it is not empty."""
        rest = f"{{{home}}}:{name}" if home else f"{{{name}}}"
        base = f"{self.prefix}:{rest}"
        return Keys(
            f"{base}:meta",
            f"{base}:messages",
            f"{base}:changes",
            f"{base}:state",
            f"{base}:authors",
            f"{self._channels}:{rest}",
            f"{base}:key",
            f"{base}:rate",
            f"{base}:readers",
            f"{base}:read_at",
        )


class Storage:
    """Calls the scripts.

    Args:
        settings: lifetimes of positions and idempotency keys.
        command: the command that sends to a channel.

    Attributes:
        touched: topics with new events, as far as consumers follow them.
    """

    def __init__(self, settings: BrokerSettings, command: str) -> None:
        self._position_ms = _milliseconds(settings.position_seconds)
        self._once_ms = _milliseconds(settings.idempotency_seconds)
        self._command = command
        self._epochs = epochs()
        self.touched: set[str] = set()
        # Packed arguments that many calls of publish.lua share.
        self._names = lru_cache(REMEMBERED)(_packed_names)
        self._limits = lru_cache(REMEMBERED)(self._packed_limits)

    def publish(
        self, pipeline: Pipeline, keys: Keys, draft: Draft, *, once_ms: int | None = None
    ) -> "Future[PublishResult]":
        """Store `draft` and send the event to every worker.

        Args:
            pipeline: the connection to publish on.
            keys: the topic's keys in Redis.
            draft: the message.
            once_ms: lifetime of the idempotency key; None for the usual one.
        """
        count, limits = self._limits(draft.retention, once_ms or self._once_ms)
        if draft.retention.held_size:
            self.touched.add(draft.topic)
        names, call = self._names(keys), _CALL
        decode: Callable[[Any], PublishResult] = _published
        more = 0
        if draft.key is not None:
            names += bulk(keys.of_key(draft.key).encode())
            more = 1
        if draft.charges:
            call, decode = _RATED_CALL, partial(_published_at_a_rate, draft)
            rates = keys.of_rates(draft.charges)
            names += b"".join(bulk(name.encode()) for name in rates)
            more += len(rates)
            added = _rate_arguments(draft.charges, 1)
            count += len(added)
            limits += b"".join(bulk(str(each).encode()) for each in added)
        begin = b"*%d\r\n%b%b%b" % (ARGUMENTS + more + count, call, bulk(b"%d" % (6 + more)), names)
        # Packed here, because hiredis takes five times as long for so many arguments.
        epoch, kind, content = next(self._epochs).encode(), draft.kind.encode(), draft.content
        command = b"%b%b%b$%d\r\n%b\r\n$%d\r\n%b\r\n%b%b" % (
            begin,
            bulk(epoch),
            bulk(kind),
            len(draft.head),
            draft.head,
            len(draft.tail),
            draft.tail,
            bulk(b"%d" % content),
            limits,
        )
        return pipeline.call_packed(command, keys.meta, decode)

    def _packed_limits(self, retention: Retention, once_ms: int) -> tuple[int, bytes]:
        """Return the number of the last arguments of publish.lua, and the packed arguments."""
        history_ms, position_ms = self._lifetimes(retention)
        limits: list[Argument] = [retention.size, history_ms, position_ms, once_ms]
        limits += [self._command, retention.bytes]
        if retention.held_size:
            limits += [retention.held_size, retention.held_bytes]
        return len(limits), b"".join(bulk(str(each).encode()) for each in limits)

    def change(self, pipeline: Pipeline, keys: Keys, change: Change) -> "Future[ChangeResult]":
        """Change a message and send the event to every worker."""
        names = list(keys[:6])
        if isinstance(change, Append):
            names += [keys.of_key(piece.key) for piece in change.pieces if piece.key is not None]
        elif change.key is not None:
            names.append(keys.of_key(change.key))
        history_ms, position_ms = self._lifetimes(change.retention)
        arguments = (
            change.kind,
            change.target,
            change.author or b"",
            change.head,
            change.tail,
            change.content,
            change.retention.changes,
            change.retention.bytes,
            history_ms,
            position_ms,
            self._once_ms,
            self._command,
            change.epoch or "",
            *_particulars(change),
        )
        if change.retention.held_size:
            self.touched.add(change.topic)
        if not change.charges:
            return pipeline.call(CHANGE, names, arguments, _changed)
        names += keys.of_rates(change.charges)
        events = len(change.pieces) if isinstance(change, Append) else 1
        arguments += _rate_arguments(change.charges, events)
        return pipeline.call(RATED_CHANGE, names, arguments, partial(_changed_at_a_rate, change))

    def _lifetimes(self, retention: Retention) -> tuple[int, int]:
        history_ms = _milliseconds(retention.seconds)
        # Stored events need a position at least as long.
        return history_ms, max(self._position_ms, history_ms)

    def publish_probe(
        self, pipeline: Pipeline, keys: Keys, retention: Retention
    ) -> "Future[PublishResult]":
        """Publish a probe."""
        draft = Draft(
            topic="",
            kind=Kind.MESSAGE,
            head=b"",
            tail=b" ",
            content=1,
            retention=retention,
            key=next(self._epochs),
        )
        return self.publish(pipeline, keys, draft, once_ms=1_000)

    def history(
        self,
        pipeline: Pipeline,
        topic: str,
        keys: Keys,
        *,
        after: int = 0,
        before: int | None = None,
        limit: int,
        newest: bool = False,
        max_bytes: int = READ_BYTES,
        lasting: bool = False,
        folded: bool = False,
    ) -> "Future[HistoryPage]":
        """Read stored events or messages; see `realtime.ports.EventLog`.

        Args:
            pipeline: the connection to read on.
            topic: the topic.
            keys: the topic's keys in Redis.
            after: only events after this seq.
            before: only events before this seq; None for no bound.
            limit: maximum number of events.
            newest: True to take the newest events, False to take the oldest.
            max_bytes: maximum sum of the events' bytes.
            lasting: True to prolong a position without events.
            folded: True to read messages in their present state, False to read the stored events.
        """
        last = None if before is None else before - 1
        if last is not None and last <= after:
            limit = 0
        arguments = (
            next(self._epochs),
            min(PASSING_MS, self._position_ms),
            after,
            "+inf" if last is None else last,
            limit,
            int(newest),
            int(lasting),
            max_bytes,
            int(folded),
        )
        decode = partial(_page, topic, newest, folded)
        return pipeline.call(HISTORY, keys[:5], arguments, decode)

    def begin_epoch(self, pipeline: Pipeline, keys: Keys, lost: str) -> "Future[Position]":
        """Begin another epoch at the topic's position, if the topic is in the epoch `lost`."""
        return self._begin_epoch(pipeline, keys, lost)

    def purge(self, pipeline: Pipeline, keys: Keys) -> "Future[Position]":
        """Delete all stored events of the topic, and begin another epoch at its position."""
        return self._begin_epoch(pipeline, keys, "")

    def _begin_epoch(self, pipeline: Pipeline, keys: Keys, lost: str) -> "Future[Position]":
        arguments = (lost, next(self._epochs), min(PASSING_MS, self._position_ms))
        names = (*keys[:5], keys.readers, keys.read_at)
        return pipeline.call(BEGIN_EPOCH, names, arguments, _position)


_CALL: Final = bulk(b"EVALSHA") + bulk(PUBLISH.digest.encode())
_RATED_CALL: Final = bulk(b"EVALSHA") + bulk(RATED_PUBLISH.digest.encode())

ARGUMENTS: Final = 14
"""Number of arguments of a publication without key and limits: the call, six names, five texts."""


def _packed_names(keys: Keys) -> bytes:
    return b"".join(bulk(name.encode()) for name in keys[:6])


def _milliseconds(seconds: float) -> int:
    return math.ceil(seconds * 1_000)


def _rate_arguments(charges: Sequence[Charge], events: int) -> tuple[Argument, ...]:
    """Return the last arguments of a script that begins with rates.lua."""
    each = (value for c in charges for value in (str(c.interval_ms), str(c.window_ms), c.cost))
    return (*each, len(charges), events)


def _limited(draft: Draft, reply: Any) -> Exceeded | None:
    """Return the exceeded rate for which rates.lua refused a draft, or None."""
    if reply[0] != b"rate_limited":
        return None
    _, number, wait = reply
    charge = draft.charges[number - 1]
    return Exceeded(charge.what, wait, charge.limit)


def _published_at_a_rate(draft: Draft, reply: Any) -> PublishResult:
    if (exceeded := _limited(draft, reply)) is not None:
        raise RateLimited.of_topic(exceeded, draft.topic)
    return _published(reply)


def _changed_at_a_rate(change: Change, reply: Any) -> ChangeResult:
    if (exceeded := _limited(change, reply)) is not None:
        return ChangeResult(Outcome.RATE_LIMITED, limited=exceeded)
    return _changed(reply)


def _published(reply: Any) -> PublishResult:
    epoch, seq, at, duplicate = reply
    return PublishResult(seq, epoch.decode(), at, duplicate == 1)


def _position(reply: Any) -> Position:
    epoch, seq = reply
    return Position(epoch.decode(), seq)


_WHOLE: Final = ("", b"", b"", "")
"""The split arguments of an append without a split."""


def _particulars(change: Change) -> tuple[Argument, ...]:
    """Return the arguments of change.lua for this kind of change alone."""
    match change:
        case Edit(data=data):
            return (data,)
        case Reaction(user=user, emoji=emoji, remove=remove):
            return (user, emoji, int(remove), MAX_EMOJI, MAX_REACTING)
        case Append(state=state, max_bytes=max_bytes, split=split):
            where = (split.version, split.front, split.back, split.length) if split else _WHOLE
            return (state, max_bytes, *where, *_pieces(change.pieces))
    return ()


def _pieces(pieces: Sequence[Piece]) -> Iterator[Argument]:
    number = 0
    for piece in pieces:
        number += piece.key is not None
        yield from (number if piece.key is not None else 0, piece.length, piece.text)


def _changed(reply: Any) -> ChangeResult:
    outcome = Outcome(reply[0].decode())
    if outcome is Outcome.SPLIT:
        return ChangeResult(outcome, data=reply[1], version=reply[2])
    places = (
        PublishResult(seq, epoch.decode(), at, duplicate == 1, length)
        for epoch, seq, at, duplicate, length in reply[1:]
    )
    return ChangeResult(outcome, tuple(places))


def _page(topic: str, newest: bool, folded: bool, reply: Any) -> HistoryPage:
    raw_epoch, seq, entries, epoch_start, more, missing = reply
    epoch = raw_epoch.decode()
    if folded:
        events = [decode_message(topic, epoch, entry) for entry in entries]
    else:
        events = []
        for member in entries:
            place, _, kind, _, payload = member.split(b" ", 4)
            events.append(Event(topic, epoch, int(place), Kind(kind.decode()), payload))
    if newest:
        events.reverse()
    return HistoryPage(epoch, seq, events, more == 1, epoch_start, missing, folded)
