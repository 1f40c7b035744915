"""A topic in Redis: names of keys, scripts, and the decoding of replies."""

import math
from asyncio import Future
from functools import partial
from typing import Any, Final, NamedTuple

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
from ...settings import BrokerSettings
from ..common import epochs
from .pipeline import Pipeline, Script

PUBLISH: Final = Script("publish")
HISTORY: Final = Script("history")
BEGIN_EPOCH: Final = Script("begin_epoch")

PASSING_MS: Final = 90_000
"""Lifetime of a position without events: bounds what reading random topics stores. A subscription
prolongs the position."""


class Keys(NamedTuple):
    """A topic's keys and its channel."""

    meta: str
    log: str
    channel: str
    once: str

    def of_key(self, key: str) -> str:
        """Return the key that holds the place of a publication with this idempotency key."""
        return f"{self.once}:{key}"


class Keyspace:
    """The names of keys and channels.

    Args:
        prefix: beginning of all names.
        database: number of the database; channels bear it, as databases share one pub/sub.
    """

    def __init__(self, prefix: str, database: int) -> None:
        self.prefix = prefix
        # No prefix has an `@`. Without a number the names are those of earlier versions.
        self._channels = f"{prefix}:@{database}" if database else prefix

    def channel(self, topic: str) -> str:
        """Return a topic's channel."""
        # Braces make the topic the hash tag: one topic's keys and channel share a cluster's slot.
        return f"{self._channels}:{{{topic}}}"

    def keys(self, topic: str) -> Keys:
        """Return the keys and the channel of a topic."""
        base = f"{self.prefix}:{{{topic}}}"
        return Keys(f"{base}:meta", f"{base}:log", self.channel(topic), f"{base}:key")

    def own(self, home: str, name: str) -> Keys:
        """Return keys for the probe, with the hash tag `home` if there is one."""
        rest = f"{{{home}}}:{name}" if home else f"{{{name}}}"
        base = f"{self.prefix}:{rest}"
        return Keys(f"{base}:meta", f"{base}:log", f"{self._channels}:{rest}", f"{base}:key")


class Storage:
    """Calls the scripts.

    Args:
        settings: lifetimes of positions and idempotency keys.
        command: the command that sends to a channel.
    """

    def __init__(self, settings: BrokerSettings, command: str) -> None:
        self._position_ms = _milliseconds(settings.position_seconds)
        self._once_ms = _milliseconds(settings.idempotency_seconds)
        self._command = command
        self._epochs = epochs()

    def publish(self, pipeline: Pipeline, keys: Keys, draft: Draft) -> "Future[PublishResult]":
        """Store `draft` and send it to every worker."""
        names = [keys.meta, keys.log, keys.channel]
        if draft.key is not None:
            names.append(keys.of_key(draft.key))
        history_ms = _milliseconds(draft.retention.seconds)
        arguments = (
            next(self._epochs),
            draft.kind,
            draft.head,
            draft.tail,
            draft.retention.size,
            history_ms,
            # Stored events need a position at least as long.
            max(self._position_ms, history_ms),
            self._once_ms,
            self._command,
            draft.retention.bytes,
        )
        return pipeline.call(PUBLISH, names, arguments, _published)

    def publish_probe(
        self, pipeline: Pipeline, keys: Keys, retention: Retention
    ) -> "Future[PublishResult]":
        """Publish a probe."""
        epoch = next(self._epochs)
        names = [keys.meta, keys.log, keys.channel, keys.of_key(epoch)]
        kept_ms = _milliseconds(retention.seconds)
        fixed = (epoch, Kind.MESSAGE, b"", b"", retention.size, kept_ms, kept_ms, 1_000)
        return pipeline.call(PUBLISH, names, (*fixed, self._command, retention.bytes), _published)

    def history(
        self,
        pipeline: Pipeline,
        topic: str,
        keys: Keys,
        *,
        after: int = 0,
        before: int | None = None,
        limit: int,
        newest: bool,
        max_bytes: int = READ_BYTES,
        lasting: bool = False,
    ) -> "Future[HistoryPage]":
        """Read stored events; see `realtime.ports.Broker.history`.

        Args:
            pipeline: the connection to read on.
            topic: the topic.
            keys: the topic's keys in Redis.
            after: only events behind this seq.
            before: only events in front of this seq, if any.
            limit: events at most.
            newest: count `limit` from the end instead of the start.
            max_bytes: bytes of events at most.
            lasting: True to prolong a position without events.
        """
        last = None if before is None else before - 1
        if last is not None and last <= after:
            limit = 0
        arguments = (
            next(self._epochs),
            min(PASSING_MS, self._position_ms),
            f"({after}-0",
            "+" if last is None else f"{last}-0",
            limit,
            int(newest),
            int(lasting),
            max_bytes,
        )
        decode = partial(_page, topic, newest)
        return pipeline.call(HISTORY, (keys.meta, keys.log), arguments, decode)

    def begin_epoch(self, pipeline: Pipeline, keys: Keys, lost: str) -> "Future[Position]":
        """Let another epoch begin where the topic stands, if it is in the epoch `lost`."""
        return pipeline.call(BEGIN_EPOCH, (keys.meta,), (lost, next(self._epochs)), _position)


def _milliseconds(seconds: float) -> int:
    return math.ceil(seconds * 1_000)


def _published(reply: Any) -> PublishResult:
    epoch, seq, at, duplicate = reply
    return PublishResult(seq, epoch.decode(), at, duplicate == 1)


def _position(reply: Any) -> Position:
    epoch, seq = reply
    return Position(epoch.decode(), seq)


def _page(topic: str, newest: bool, reply: Any) -> HistoryPage:
    raw_epoch, seq, entries, epoch_start, more = reply
    epoch = raw_epoch.decode()
    events = []
    for id, fields in entries:
        if len(fields) == 6:  # entries of other programs have other fields
            kind = Kind(fields[1].decode())
            events.append(Event(topic, epoch, int(id.partition(b"-")[0]), kind, fields[5]))
    if newest:
        events.reverse()
    return HistoryPage(epoch, seq, events, more=more == 1, epoch_start=epoch_start)
