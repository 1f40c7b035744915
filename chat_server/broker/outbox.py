"""Keeps publications while the log does not accept any, and sends them in order later.

A publication that was sent without an answer may have been stored. Each publication of a spooling
namespace has an idempotency key from its first attempt on, so the outbox may send it again.
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
from ..protocol.errors import RateLimited, Rejected, Unavailable
from ..realtime.ports import EventLog
from ..settings import Settings
from .common import UNAVAILABLE_RETRY_MS, fail, failed, unavailable

log = logging.getLogger(__name__)

TICK_SECONDS: Final = 0.25
"""Interval at which the outbox retries and expires publications."""

WINDOW: Final = 256
"""Maximum number of spooled publications in flight: enough to fill a pipeline, but so few that new
publications of other topics do not wait long."""

SHARE: Final = 32
"""Number of publications of one topic that are sent before the next topic's turn."""

ENTRY_BYTES: Final = 1_000
"""Estimated overhead of a spooled publication in bytes."""


class _Quota:
    """Limit and number of a namespace's spooled publications."""

    __slots__ = ("limit", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0


class _Publication:
    """A publication, from the call to its end.

    Attributes:
        number: place in the order of the calls.
        draft: the event to store.
        quota: the quota of the publication's namespace.
        own_key: True if the outbox made the idempotency key.
        future: the caller's result.
        attempt: the log's result of the last attempt.
        spooled: True while the publication counts against the bounds.
        size: bytes that count against `broker.spool_bytes`.
        expires_at: loop time after which a waiting publication fails.
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


class _TopicQueue:
    """The unstored publications of one topic, each list in the order of the calls.

    Attributes:
        in_flight: publications sent to the log; the log answers in this order.
        failed: publications that failed while others, sent together with them, are still in flight.
        waiting: publications to send once all in flight are stored; called after those in flight.
        last_stored: number of the last publication that was stored.
    """

    __slots__ = ("failed", "in_flight", "last_stored", "waiting")

    def __init__(self) -> None:
        self.in_flight: deque[_Publication] = deque()
        self.failed: list[_Publication] = []
        self.waiting: deque[_Publication] = deque()
        self.last_stored = -1

    @property
    def must_wait(self) -> bool:
        """Whether a new publication must wait for earlier ones."""
        return bool(self.waiting) or self.blocked

    @property
    def blocked(self) -> bool:
        """Whether a failed publication must be sent again first."""
        if self.failed:
            return True
        # The last attempt may have failed in this turn of the loop, before its callback runs.
        attempt = self.in_flight[-1].attempt if self.in_flight else None
        return attempt is not None and attempt.done() and attempt.exception() is not None

    @property
    def empty(self) -> bool:
        return not (self.in_flight or self.failed or self.waiting)


class Outbox:
    """Publishes to a log that may be unavailable for a while (`realtime.ports.Outbox`).

    Publications of namespaces with `spool_messages` are kept if they cannot be stored now. Their
    futures resolve once they are stored. Publications of one topic keep their order: while some are
    kept, later ones are queued behind. All other publications go directly to the log.

    Args:
        event_log: the log.
        settings: the bounds of each namespace and of the whole outbox.
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
        # Queues by topic.
        self._queues: dict[str, _TopicQueue] = {}
        # Queues that may send, in the order of their turns.
        self._ready: dict[str, _TopicQueue] = {}
        # Number and bytes of spooled publications; number of spooled publications in flight.
        self._count = 0
        self._bytes = 0
        self._resending = 0
        # Publications that have expired since the spool was last empty.
        self._given_up = 0
        self._running = False
        # True if the log has a line about the spool, so that its end must be logged too.
        self._told = False
        self._throttle = LogThrottle()
        self._timer: TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop

    @property
    def spooled(self) -> int:
        """Number of publications that wait for the log."""
        return self._count

    # Life ----------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to take publications, in the running loop."""
        self._loop = asyncio.get_running_loop()
        self._running = True

    def stop(self) -> None:
        """Fail every waiting and every later publication with `Unavailable`.

        Attempts under way end when the log stops: stop the log next.
        """
        self._running = False
        if self._count:
            log.warning("%d spooled publications were not stored before the stop", self._count)
        for queue in self._queues.values():
            while queue.waiting:
                self._fail(queue.waiting.popleft(), unavailable())
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # Publications --------------------------------------------------------------------------

    def publish(self, draft: Draft) -> "Future[PublishResult]":
        """Publish `draft` now, or once the log accepts publications."""
        topic = draft.topic
        quota = self._quotas.get(topic.partition(":")[0], self._default)
        if not quota.limit:
            return self._event_log.publish(draft)
        if not self._running:
            return failed(unavailable())
        own_key = draft.key is None
        if own_key:
            draft = msgspec.structs.replace(draft, key=next(self._keys))
        publication = _Publication(next(self._numbers), draft, own_key, quota)
        publication.expires_at = self._loop.time() + self._seconds
        queue = self._queues.get(topic)
        if queue is None:
            queue = self._queues[topic] = _TopicQueue()
        if (
            queue.must_wait
            or not self._event_log.accepts(topic)
            or not self._send(queue, publication)
        ):
            if self._reserve(publication):
                queue.waiting.append(publication)
            else:
                self._fail(publication, _full())
                self._drop_if_empty(topic, queue)
        return publication.future

    def _send(self, queue: _TopicQueue, publication: _Publication) -> bool:
        """Send a publication; return False if the log refuses immediately."""
        attempt = self._event_log.publish(publication.draft)
        if attempt.done() and attempt.exception() is not None:
            return False
        publication.attempt = attempt
        queue.in_flight.append(publication)
        attempt.add_done_callback(partial(self._on_result, queue, publication))
        return True

    def _on_result(
        self, queue: _TopicQueue, publication: _Publication, attempt: "Future[PublishResult]"
    ) -> None:
        """Handle the log's answer."""
        queue.in_flight.remove(publication)
        publication.attempt = None
        if publication.spooled:
            self._resending -= 1
        error = _error(attempt)
        if error is None:
            queue.last_stored = max(queue.last_stored, publication.number)
            self._succeed(publication, attempt.result())
        elif isinstance(error, Rejected | RateLimited):
            self._fail(publication, error)
        elif self._reserve(publication):
            queue.failed.append(publication)
        else:
            self._fail(publication, _full())
        if queue.failed and not queue.in_flight:
            self._requeue(queue)
        self._drop_if_empty(publication.draft.topic, queue)
        self._send_ready()

    def _requeue(self, queue: _TopicQueue) -> None:
        """Put failed publications before the waiting ones; the next tick retries."""
        kept = sorted(queue.failed, key=lambda publication: publication.number, reverse=True)
        queue.failed = []
        for publication in kept:
            if publication.number < queue.last_stored or not self._running:
                # A later publication was stored: this one has lost its place.
                self._fail(publication, unavailable())
            else:
                queue.waiting.appendleft(publication)

    def _succeed(self, publication: _Publication, place: PublishResult) -> None:
        if publication.own_key and place.duplicate:
            # The duplicate is our own earlier attempt, whose answer was lost.
            place = PublishResult(place.seq, place.epoch, place.at)
        self._release(publication)
        if not publication.future.done():
            publication.future.set_result(place)

    def _fail(self, publication: _Publication, error: Unavailable | RateLimited) -> None:
        self._release(publication)
        fail(publication.future, error)

    # Bounds --------------------------------------------------------------------------------

    def _reserve(self, publication: _Publication) -> bool:
        """Count a publication as spooled; return False if the spool is full."""
        if publication.spooled:
            return True
        draft = publication.draft
        size = ENTRY_BYTES + len(draft.head) + len(draft.tail)
        if (
            publication.quota.used >= publication.quota.limit
            or self._bytes + size > self._max_bytes
        ):
            return False
        publication.spooled = True
        # While the store is unavailable no rate is counted, and a later attempt must not be
        # refused.
        publication.draft = msgspec.structs.replace(draft, charges=())
        publication.size = size
        publication.quota.used += 1
        self._count += 1
        self._bytes += size
        if self._timer is None:
            self._timer = self._loop.call_later(TICK_SECONDS, self._tick)
        return True

    def _release(self, publication: _Publication) -> None:
        if publication.spooled:
            publication.spooled = False
            publication.quota.used -= 1
            self._count -= 1
            self._bytes -= publication.size
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
        for topic, queue in list(self._queues.items()):
            while queue.waiting and queue.waiting[0].expires_at <= now:
                self._given_up += 1
                self._fail(queue.waiting.popleft(), unavailable())
            self._drop_if_empty(topic, queue)
        self.flush()

    def _drop_if_empty(self, topic: str, queue: _TopicQueue) -> None:
        if queue.empty:
            self._ready.pop(topic, None)
            del self._queues[topic]

    # Sending again -------------------------------------------------------------------------

    def flush(self) -> None:
        """Send spooled publications that the log accepts: some now, the rest after each answer."""
        if self._running:
            self._ready |= {topic: queue for topic, queue in self._queues.items() if queue.waiting}
            self._send_ready()

    def _send_ready(self) -> None:
        while self._ready and self._resending < self._window:
            topic = next(iter(self._ready))
            queue = self._ready.pop(topic)
            if queue.blocked or not self._event_log.accepts(topic):
                continue
            for _ in range(min(SHARE, self._window - self._resending, len(queue.waiting))):
                if not self._send(queue, queue.waiting[0]):
                    # The log is busy; the tick tries again.
                    self._ready.clear()
                    return
                queue.waiting.popleft()
                self._resending += 1
            if queue.waiting:
                self._ready[topic] = queue


def _keys() -> Iterator[str]:
    """Return keys that no client can have: a client's key begins with the length of a name."""
    mine = secrets.token_hex(16)
    return (f"spool:{mine}.{count:x}" for count in itertools.count())


def _error(attempt: "Future[PublishResult]") -> Unavailable | RateLimited | None:
    error = unavailable() if attempt.cancelled() else attempt.exception()
    known = error is None or isinstance(error, Unavailable | RateLimited)
    return error if known else unavailable()  # type: ignore[return-value]


def _full() -> Unavailable:
    return Unavailable(
        "the message store cannot be reached, and the spool is full",
        retry_in_ms=UNAVAILABLE_RETRY_MS,
    )
