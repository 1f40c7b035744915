"""Keeps publications while the store is unavailable, and has them stored in order once it is back.

A publication that was sent and never answered may have been stored. So that it can be sent again,
each one of a spooling namespace bears an idempotency key from its first attempt on.
"""

import asyncio
import itertools
import logging
import secrets
from asyncio import Future, TimerHandle
from collections import deque
from collections.abc import Iterator
from functools import partial
from typing import Final

import msgspec

from ..events import Draft, PublishResult
from ..logs import LogThrottle
from ..protocol.errors import Refused, Unavailable
from ..realtime.ports import EventLog
from ..settings import Settings
from .base import UNAVAILABLE_RETRY_MS, fail, failed, unavailable

log = logging.getLogger(__name__)

TICK_SECONDS: Final = 0.25
"""How often spooled publications are tried again and aged."""

WINDOW: Final = 256
"""Spooled publications under way at most: enough to fill a pipeline, and what is new and of other
topics does not wait long behind them."""

SHARE: Final = 32
"""How many of one topic are sent before it is another's turn."""

ENTRY_BYTES: Final = 1_000
"""What a spooled publication costs besides its own bytes, about."""


class _Quota:
    """How many publications of a namespace may be spooled, and how many are."""

    __slots__ = ("limit", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0


class _Entry:
    """A publication, from the call to its end.

    Attributes:
        future: the caller's.
        attempt: what the store has returned for it last.
        spooled: whether it counts against the bounds, which it then does to its end.
    """

    __slots__ = (
        *("attempt", "draft", "expires_at", "future", "number"),
        *("own_key", "quota", "size", "spooled"),
    )

    def __init__(self, number: int, draft: Draft, own_key: bool, quota: _Quota) -> None:
        loop = asyncio.get_running_loop()
        self.number = number
        self.draft = draft
        self.own_key = own_key
        self.quota = quota
        self.future: Future[PublishResult] = loop.create_future()
        self.attempt: Future[PublishResult] | None = None
        self.spooled = False
        self.size = 0
        self.expires_at = 0.0


class _Line:
    """The publications of one topic that are not stored yet, each list in the order of the calls.

    Attributes:
        flying: sent to the store, which answers in this order.
        failed: have failed while others, sent with them, are still flying.
        waiting: to be sent when all before them is stored; none of them was called before those.
        stored: the number of the last one that was stored.
    """

    __slots__ = ("failed", "flying", "stored", "waiting")

    def __init__(self) -> None:
        self.flying: deque[_Entry] = deque()
        self.failed: list[_Entry] = []
        self.waiting: deque[_Entry] = deque()
        self.stored = -1

    @property
    def held(self) -> bool:
        """Whether something must be stored before a new publication may be sent."""
        return bool(self.waiting) or self.blocked

    @property
    def blocked(self) -> bool:
        """Whether something was sent that has to be sent again."""
        if self.failed:
            return True
        # It may have failed in this very turn of the loop, and we have yet to be called.
        attempt = self.flying[-1].attempt if self.flying else None
        return attempt is not None and attempt.done() and attempt.exception() is not None

    @property
    def empty(self) -> bool:
        return not (self.flying or self.failed or self.waiting)


class Outbox:
    """Publishes to a log that may be away for a while (`realtime.ports.Outbox`).

    Publications of namespaces with `spool_messages` that cannot be stored now are kept, and their
    futures resolve when they are stored. Publications of one topic keep their order: while some are
    kept, later ones go behind them. All others go to the log as if there were no outbox.

    Args:
        event_log: the log.
        settings: the bounds, of each namespace and of the whole.
    """

    def __init__(self, event_log: EventLog, settings: Settings) -> None:
        self._event_log = event_log
        self._seconds = settings.broker.spool_seconds
        self._max_bytes = settings.broker.spool_bytes
        self._window = max(1, min(WINDOW, settings.broker.max_pending // 2))
        self._settings = settings
        self._quotas = {
            name: _Quota(namespace.spool_messages)
            for name, namespace in settings.namespaces.items()
        }
        self._default = self._quotas.get("default", _Quota(0))
        self._numbers = itertools.count()
        self._keys = _keys()
        self._lines: dict[str, _Line] = {}
        # Lines that may be sent from, in the order of their turns.
        self._ready: dict[str, _Line] = {}
        self._count = 0
        self._bytes = 0
        self._under_way = 0
        self._given_up = 0
        self._running = False
        self._told = False
        self._throttle = LogThrottle()
        self._timer: TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop

    @property
    def spooled(self) -> int:
        """How many publications are kept."""
        return self._count

    # Life ----------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to take publications; the running loop is the outbox's from now on."""
        self._loop = asyncio.get_running_loop()
        self._running = True

    def stop(self) -> None:
        """Fail what waits, and every later publication, with `Unavailable`.

        The attempts under way end with the log: stop the log next.
        """
        self._running = False
        if self._count:
            log.warning("%d spooled publications were not stored before the stop", self._count)
        for line in self._lines.values():
            while line.waiting:
                self._fail(line.waiting.popleft(), unavailable())
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # Publications --------------------------------------------------------------------------

    def publish(self, draft: Draft) -> "Future[PublishResult]":
        """Have `draft` stored, now or when the store is back."""
        topic = draft.topic
        quota = self._quotas.get(topic.partition(":")[0], self._default)
        if not quota.limit:
            return self._event_log.publish(draft)
        if not self._running:
            return failed(unavailable())
        own_key = draft.key is None
        if own_key:
            draft = msgspec.structs.replace(draft, key=next(self._keys))
        entry = _Entry(next(self._numbers), draft, own_key, quota)
        entry.expires_at = self._loop.time() + self._seconds
        line = self._lines.get(topic)
        if line is None:
            line = self._lines[topic] = _Line()
        if line.held or not self._event_log.accepts(topic) or not self._send(line, entry):
            if self._admit(entry):
                line.waiting.append(entry)
            else:
                self._fail(entry, _full())
                self._forget_if_empty(topic, line)
        return entry.future

    def _send(self, line: _Line, entry: _Entry) -> bool:
        """Give a publication to the store; return whether it was taken."""
        attempt = self._event_log.publish(entry.draft)
        if attempt.done() and attempt.exception() is not None:
            return False
        entry.attempt = attempt
        line.flying.append(entry)
        attempt.add_done_callback(partial(self._on_result, line, entry))
        return True

    def _on_result(self, line: _Line, entry: _Entry, attempt: "Future[PublishResult]") -> None:
        """Take the store's answer."""
        line.flying.remove(entry)
        entry.attempt = None
        if entry.spooled:
            self._under_way -= 1
        error = _error(attempt)
        if error is None:
            line.stored = max(line.stored, entry.number)
            self._succeed(entry, attempt.result())
        elif isinstance(error, Refused):
            self._fail(entry, error)
        elif self._admit(entry):
            line.failed.append(entry)
        else:
            self._fail(entry, _full())
        if line.failed and not line.flying:
            self._requeue(line)
        self._forget_if_empty(entry.draft.topic, line)
        self._send_ready()

    def _requeue(self, line: _Line) -> None:
        """Let what has failed wait again, in front; the next tick tries it again."""
        kept = sorted(line.failed, key=lambda entry: entry.number, reverse=True)
        line.failed = []
        for entry in kept:
            if entry.number < line.stored or not self._running:
                # Another was stored after it: it cannot keep its place any more.
                self._fail(entry, unavailable())
            else:
                line.waiting.appendleft(entry)

    def _succeed(self, entry: _Entry, place: PublishResult) -> None:
        if entry.own_key and place.duplicate:
            # It repeats nothing but our own attempt, whose answer was lost.
            place = PublishResult(place.seq, place.epoch, place.at)
        self._release(entry)
        if not entry.future.done():
            entry.future.set_result(place)

    def _fail(self, entry: _Entry, error: Unavailable) -> None:
        self._release(entry)
        fail(entry.future, error)

    # What is kept --------------------------------------------------------------------------

    def _admit(self, entry: _Entry) -> bool:
        """Count a publication as spooled; return whether there is room."""
        if entry.spooled:
            return True
        draft = entry.draft
        size = ENTRY_BYTES + len(draft.head) + len(draft.tail)
        if entry.quota.used >= entry.quota.limit or self._bytes + size > self._max_bytes:
            return False
        entry.spooled = True
        entry.size = size
        entry.quota.used += 1
        self._count += 1
        self._bytes += size
        if self._timer is None:
            self._timer = self._loop.call_later(TICK_SECONDS, self._tick)
        return True

    def _release(self, entry: _Entry) -> None:
        if entry.spooled:
            entry.spooled = False
            entry.quota.used -= 1
            self._count -= 1
            self._bytes -= entry.size
            if not self._count:
                self._end()

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._told and self._running:
            log.info("nothing is spooled any more; %d waited too long", self._given_up)
        self._told = False
        self._given_up = 0

    def _tick(self) -> None:
        self._timer = self._loop.call_later(TICK_SECONDS, self._tick)
        if not self._told and self._throttle.due("spool"):
            self._told = True
            log.warning("the store takes no publications: they are spooled")
        now = self._loop.time()
        for topic, line in list(self._lines.items()):
            while line.waiting and line.waiting[0].expires_at <= now:
                self._given_up += 1
                self._fail(line.waiting.popleft(), unavailable())
            self._forget_if_empty(topic, line)
        self.flush()

    def _forget_if_empty(self, topic: str, line: _Line) -> None:
        if line.empty:
            self._ready.pop(topic, None)
            del self._lines[topic]

    # Sending again -------------------------------------------------------------------------

    def flush(self) -> None:
        """Send what is kept where the log accepts it: some now, the rest as it is answered."""
        if self._running:
            self._ready |= {topic: line for topic, line in self._lines.items() if line.waiting}
            self._send_ready()

    def _send_ready(self) -> None:
        while self._ready and self._under_way < self._window:
            topic = next(iter(self._ready))
            line = self._ready.pop(topic)
            if line.blocked or not self._event_log.accepts(topic):
                continue
            for _ in range(min(SHARE, self._window - self._under_way, len(line.waiting))):
                if not self._send(line, line.waiting[0]):
                    # The store has too much to do: the tick comes back to it.
                    self._ready.clear()
                    return
                line.waiting.popleft()
                self._under_way += 1
            if line.waiting:
                self._ready[topic] = line


def _keys() -> Iterator[str]:
    """Return keys that no client's can be: those begin with the length of the user's name."""
    mine = secrets.token_hex(16)
    return (f"spool:{mine}.{count:x}" for count in itertools.count())


def _error(attempt: "Future[PublishResult]") -> Unavailable | None:
    error = unavailable() if attempt.cancelled() else attempt.exception()
    return error if error is None or isinstance(error, Unavailable) else unavailable()


def _full() -> Unavailable:
    return Unavailable(
        "the message store cannot be reached, and as much waits for it as may",
        retry_in_ms=UNAVAILABLE_RETRY_MS,
    )
