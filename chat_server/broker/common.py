"""The parts that all brokers share: the guarded listener, payloads, epochs, failures."""

import asyncio
import itertools
import logging
import secrets
from asyncio import Future
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ..events import Event
from ..protocol.errors import ChatError, Rejected, Unavailable
from ..realtime.ports import Listener

log = logging.getLogger(__name__)

UNAVAILABLE_RETRY_MS = 1_000
"""`retry_in_ms` while the store cannot be reached: about as long as a reconnect takes."""

BUSY_RETRY_MS = 250
"""`retry_in_ms` while the store is reachable, but overloaded."""


class GuardedListener:
    """Keeps the faults of a listener away from the broker that calls the listener."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    def events(self, events: Sequence[Event]) -> None:
        """Pass on events of subscribed topics."""
        try:
            self._listener.on_events(events)
        except Exception:
            log.exception("a listener failed on %d events", len(events))

    def lost(self, topics: Iterable[str] | None = None) -> None:
        """Report that events of these topics, or of all, may be missed."""
        try:
            self._listener.on_lost(topics)
        except Exception:
            log.exception("a listener failed on the loss of the store")

    def restored(self, topics: Iterable[str] | None = None) -> None:
        """Report that the subscriptions to these topics, or to all, are restored."""
        try:
            self._listener.on_restored(topics)
        except Exception:
            log.exception("a listener failed on the return of the store")


def assemble(head: bytes, seq: int, at: int, tail: bytes) -> bytes:
    """Assemble the payload of an event (`events.Draft`); publish.lua does the same."""
    return b'%s%d,"at":%d%s' % (head, seq, at, tail)


def epochs() -> Iterator[str]:
    """Return unique names for epochs: a random prefix and a counter."""
    # Cheap enough to offer a name with every publication; the script uses it only if the topic has
    # no epoch.
    mine = secrets.token_hex(6)
    return map((mine + ".{:x}").format, itertools.count())


class Busy(Unavailable):
    """The queue for the store is full; the call was not sent."""


def unavailable() -> Unavailable:
    """Return the error for a store that cannot be reached."""
    return Unavailable("the message store cannot be reached", retry_in_ms=UNAVAILABLE_RETRY_MS)


def busy() -> Unavailable:
    """Return the error for a full queue."""
    return Busy("too much is waiting for the message store", retry_in_ms=BUSY_RETRY_MS)


def rejected() -> Rejected:
    """Return the error for a store that refuses; the log has the reason."""
    return Rejected("the message store refuses", retry_in_ms=UNAVAILABLE_RETRY_MS)


def fail(future: Future[Any], error: ChatError) -> None:
    """Fail `future` unless it is done; the caller may drop the future."""
    if not future.done():
        future.set_exception(error)
        # asyncio reports an exception that nobody retrieves.
        future.exception()


def failed(error: ChatError) -> Future[Any]:
    """Return a failed future."""
    future: Future[Any] = asyncio.get_running_loop().create_future()
    fail(future, error)
    return future
