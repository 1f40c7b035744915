"""The subscribers of a topic that get presence pushes (docs/design/presence.md)."""

import asyncio
import logging
from asyncio import TimerHandle
from collections.abc import Iterable

import msgspec
from msgspec import Raw, Struct

from ..events import Event, Kind
from ..logs import LogThrottle
from ..presence import PresenceChange
from .ports import Encoder, Transport

logger = logging.getLogger(__name__)

BATCH_SECONDS = 1.0
"""Seconds for which a large room's changes are gathered."""

MAX_LISTED = 100
"""Users in each list of a `presence` push. Counts are still exact beyond the list."""

MAX_LISTED_BYTES = 32_768
"""Bytes of the users in both lists of a `presence` push."""

MAX_HELD = 100
"""Pushes held for a watcher until `enter`."""


class _Named(Struct):
    user: str


_change = msgspec.json.Decoder(PresenceChange).decode
_named = msgspec.json.Decoder(_Named).decode


class Watchers:
    """The watchers of one topic on this worker.

    Changes are held back for a watcher from `join` to `enter`, while its page is read. `enter` then
    sends the held changes. A watcher with a full buffer is passed over, and told later to ask
    again.

    Args:
        topic: the topic.
        batch: number of users above which a room's changes are gathered.
        throttle: limits the lines of the log.
    """

    def __init__(self, topic: str, batch: int, throttle: LogThrottle) -> None:
        self.topic = topic
        self._batch = batch
        self._throttle = throttle
        self._count = self._connections = 0
        self._joining: dict[Transport, list[Event]] = {}
        self._watching: dict[Encoder, dict[Transport, None]] = {}
        self._passed_over: set[Transport] = set()
        # Gathered changes: the last state of each user, True for a user who joined.
        self._gathered: dict[str, tuple[bool, Raw]] = {}
        self._more = False
        self._timer: TimerHandle | None = None

    def __contains__(self, transport: Transport) -> bool:
        """Return whether the transport belongs to a watcher."""
        return transport in self._joining or transport in self._watching.get(transport.encoder, ())

    def join(self, transport: Transport) -> None:
        """Hold changes for a watcher until `enter`."""
        self._joining[transport] = []

    def enter(self, transport: Transport) -> None:
        """Send a watcher the held changes, and every change from now on."""
        held = self._joining.pop(transport, None)
        if held is not None:
            self._watching.setdefault(transport.encoder, {})[transport] = None
            if len(held) >= MAX_HELD:
                held = [self._presence((), (), more=True)]
            self._write(transport.encoder, (transport,), held)

    def leave(self, transport: Transport) -> bool:
        """Forget a watcher; return True if no watcher is left."""
        self._joining.pop(transport, None)
        self._passed_over.discard(transport)
        watching = self._watching.get(transport.encoder)
        if watching is not None:
            watching.pop(transport, None)
            if not watching:
                del self._watching[transport.encoder]
        if self._joining or self._watching:
            return False
        if self._timer is not None:
            self._timer.cancel()
        return True

    def count(self, users: int, connections: int) -> None:
        """Note the topic's numbers of users and connections."""
        self._count, self._connections = users, connections

    def offer(self, payload: bytes) -> None:
        """Pass a change on to the watchers; `payload` is a `PresenceChange`."""
        try:
            change = _change(payload)
            changed = [
                (joined, _named(profile).user, profile)
                for joined, profiles in ((True, change.joined), (False, change.left))
                for profile in profiles
            ]
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            if self._throttle.due("presence"):
                logger.error("topic %s: left out a change of presence: %s", self.topic, error)
            return
        self.count(change.count, change.connections)
        few = max(change.count, len(changed)) <= self._batch
        if few and not change.more and self._timer is None:
            self._send([self._single(joined, profile) for joined, _, profile in changed])
            return
        for joined, user, profile in changed:
            # The last change counts, even if it undoes another: some watchers read a page in
            # between.
            self._gathered.pop(user, None)
            self._gathered[user] = joined, profile
        while len(self._gathered) > 2 * MAX_LISTED:
            del self._gathered[next(iter(self._gathered))]
            self._more = True
        self._flush_later(more=change.more)

    def ask_again(self) -> None:
        """Tell every watcher to ask again soon: changes may have been missed."""
        self._flush_later(more=True)

    def recover(self) -> None:
        """Tell watchers that were passed over, and read again, to ask again."""
        for transport in [each for each in self._passed_over if each.writable]:
            self._passed_over.discard(transport)
            self._write(transport.encoder, (transport,), [self._presence((), (), more=True)])

    # Pushes --------------------------------------------------------------------------------

    def _flush_later(self, *, more: bool) -> None:
        self._more = self._more or more
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(BATCH_SECONDS, self._flush)

    def _flush(self) -> None:
        self._timer = None
        lists: dict[bool, list[Raw]] = {True: [], False: []}
        size = 0
        for joined, profile in reversed(self._gathered.values()):
            listed = lists[joined]
            size += len(bytes(profile))
            if len(listed) < MAX_LISTED and size <= MAX_LISTED_BYTES:
                listed.append(profile)
            else:
                self._more = True
        more, self._more, self._gathered = self._more, False, {}
        self._send([self._presence(lists[True][::-1], lists[False][::-1], more=more)])

    def _send(self, pushes: list[Event]) -> None:
        for held in self._joining.values():
            held += pushes[: MAX_HELD - len(held)]
        for encoder, watching in self._watching.items():
            self._write(encoder, watching, pushes)

    def _write(
        self, encoder: Encoder, transports: Iterable[Transport], pushes: list[Event]
    ) -> None:
        packets = [packet for push in pushes if (packet := encoder.encode(push)) is not None]
        reading = []
        for transport in transports:
            if transport.writable:
                reading.append(transport)
            else:
                self._passed_over.add(transport)
        if packets and reading:
            encoder.write(reading, packets)

    def _single(self, joined: bool, profile: Raw) -> Event:
        kind = b"join" if joined else b"leave"
        rest = bytes(profile)[1:]
        return self._event(b'{"type":"%b","topic":"%b",%b' % (kind, self.topic.encode(), rest))

    def _presence(self, joined: Iterable[Raw], left: Iterable[Raw], *, more: bool) -> Event:
        return self._event(
            b'{"type":"presence","topic":"%b","count":%d,"connections":%d,"joined":[%b],"left":[%b]%b}'
            % (
                self.topic.encode(),
                self._count,
                self._connections,
                b",".join(map(bytes, joined)),
                b",".join(map(bytes, left)),
                b',"more":true' if more else b"",
            )
        )

    def _event(self, payload: bytes) -> Event:
        return Event(self.topic, "", 0, Kind.PRESENCE, payload)
