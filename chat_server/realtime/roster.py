"""This worker's users by topic, and their copy in the store (docs/design/presence.md)."""

import asyncio
from asyncio import Future, TimerHandle
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from itertools import count, islice

from ..presence import MAX_MEMBERS, Attendance, Attended, Member
from .ports import PresenceStore, Transport

TICKS = 10
"""Ticks in one renewal interval; all leases are renewed in the first half of the ticks."""

TOGETHER = 100
"""Leases renewed in one turn of the loop, and failed writes repeated in one tick.
A hundred renewals take some ms of CPU; half of the time goes into the writes to the socket."""

SETTLE_SECONDS = 0.2
"""Minimum seconds until users are removed: users who go together then leave together."""


class _Present:
    """A user in a topic, with connections to this worker."""

    __slots__ = ("connections", "profile", "user")

    def __init__(self, user: str) -> None:
        self.user = user
        self.connections = 0
        self.profile = b""


class _Room:
    """This worker's users in one topic, and the changes that the store does not have yet."""

    __slots__ = (
        *("again", "confirmed", "dirty", "here", "lease", "lost", "number", "sending", "topic"),
        *("users", "waiting"),
    )

    def __init__(self, topic: str, lease: str) -> None:
        self.topic = topic
        self.here: dict[Transport, _Present] = {}
        self.users: dict[str, _Present] = {}
        # Users whose connections changed since the last write, and the users of the write under
        # way. There is one write at a time, so that the changes made meanwhile are written
        # together.
        self.dirty: dict[str, None] = {}
        self.sending: list[str] | None = None
        # Futures that wait until a user is written.
        self.waiting: dict[str, list[Future[None]]] = {}
        # Leases that the store has forgotten. They are ended once the next lease has all users.
        self.lost: list[str] = []
        self.begin(lease)

    def begin(self, lease: str) -> None:
        """Take a new lease that the store does not have yet."""
        self.lease = lease
        self.number = self.confirmed = 0
        self.again = False

    def wake(self, users: Iterable[str]) -> None:
        """Resolve the futures that wait for these users, unless the users have changed again."""
        for user in users:
            if user not in self.dirty:
                for future in self.waiting.pop(user, ()):
                    if not future.done():
                        future.set_result(None)


class Roster:
    """Counts this worker's connections by topic and user, and writes the counts to the store.

    Args:
        store: adds up the counts of all workers.
        name: the worker's name.
        grace: returns the seconds for which users without a connection still count in a topic.
        lease_seconds: seconds for which the store keeps a lease without a renewal.
        on_attended: called with the topic and the store's answer after each write.
    """

    def __init__(
        self,
        store: PresenceStore,
        name: str,
        *,
        grace: Callable[[str], float],
        lease_seconds: float,
        on_attended: Callable[[str, Attended], None],
    ) -> None:
        self._store = store
        self._names = map((name + ".{:x}").format, count())
        self._grace = grace
        self._tick_seconds = lease_seconds / 3 / TICKS
        self._on_attended = on_attended
        self._rooms: dict[str, _Room] = {}
        # Topics whose lease is due in this interval, the number per tick, and the number left of
        # the present tick.
        self._due_leases: Iterator[str] = iter(())
        self._share = self._left = TOGETHER
        self._ticks = 0
        # Rooms to be written in the next turn of the loop, and rooms whose write has failed.
        self._unsent: dict[_Room, None] = {}
        self._failed: dict[_Room, None] = {}
        # Leases that are being ended, as topic and name.
        self._ending: set[tuple[str, str]] = set()
        # Timers of the next removal of users, by topic.
        self._due: dict[str, TimerHandle] = {}
        self._timer: TimerHandle | None = None
        # Set when a stopping worker has no users left.
        self._emptied: asyncio.Event | None = None

    def start(self) -> None:
        """Begin to renew leases."""
        self._timer = asyncio.get_running_loop().call_later(self._tick_seconds, self._tick)

    async def stop(self, seconds: float) -> None:
        """Write all pending changes within `seconds`.

        The store forgets the users of unwritten changes when their leases end.
        """
        if self._timer is not None:
            self._timer.cancel()
        for timer in self._due.values():
            timer.cancel()
        self._due.clear()
        self._emptied = asyncio.Event()
        self.renew()
        if self._rooms:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._emptied.wait(), seconds)

    def add(self, topic: str, transport: Transport, user: str, profile: bytes) -> None:
        """Count a connection of a user."""
        room = self._rooms.get(topic)
        if room is None:
            room = self._rooms[topic] = _Room(topic, next(self._names))
        if transport in room.here:
            return
        present = room.users.get(user)
        if present is None:
            present = room.users[user] = _Present(user)
        present.connections += 1
        present.profile = profile
        room.here[transport] = present
        self._change(room, user)

    def remove(self, topic: str, transport: Transport) -> None:
        """Stop counting a connection, if it was counted."""
        room = self._rooms.get(topic)
        present = None if room is None else room.here.pop(transport, None)
        if room is None or present is None:
            return
        present.connections -= 1
        if not present.connections:
            del room.users[present.user]
        self._change(room, present.user)

    def rename(self, topic: str, transport: Transport, profile: bytes) -> None:
        """Note that a user has a new profile from now on."""
        room = self._rooms.get(topic)
        present = None if room is None else room.here.get(transport)
        if room is not None and present is not None and present.profile != profile:
            present.profile = profile
            self._change(room, present.user)

    async def written(self, topic: str, user: str) -> None:
        """Wait until the store has a user's connections, or an attempt has failed."""
        room = self._rooms.get(topic)
        if room is not None and (user in room.dirty or user in (room.sending or ())):
            future: Future[None] = asyncio.get_running_loop().create_future()
            room.waiting.setdefault(user, []).append(future)
            await future

    def renew(self, topics: Iterable[str] | None = None) -> None:
        """Write now in these topics, or in all topics with users."""
        for topic in list(self._rooms if topics is None else topics):
            if (room := self._rooms.get(topic)) is not None:
                self._send(room)

    def _tick(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._tick_seconds, self._tick)
        for room in list(islice(self._failed, TOGETHER)):
            self._send(room)
        if self._ticks % TICKS == 0:
            self._due_leases = iter(list(self._rooms))
            self._share = max(TOGETHER, len(self._rooms) * 2 // TICKS + 1)
        self._ticks += 1
        self._left = self._share
        self._renew_some()

    def _renew_some(self) -> None:
        """Renew leases of this tick; the rest follows in later turns of the loop."""
        self.renew(islice(self._due_leases, min(self._left, TOGETHER)))
        self._left -= TOGETHER
        if self._left > 0:
            asyncio.get_running_loop().call_soon(self._renew_some)

    # Writing -------------------------------------------------------------------------------

    def _change(self, room: _Room, user: str) -> None:
        room.dirty[user] = None
        if room.sending is None:
            if not self._unsent:
                asyncio.get_running_loop().call_soon(self._send_all)
            self._unsent[room] = None

    def _send_all(self) -> None:
        rooms, self._unsent = self._unsent, {}
        for room in rooms:
            if room.dirty:
                self._send(room)

    def _send(self, room: _Room) -> None:
        """Write a part of the changes, and renew the lease."""
        if room.sending is not None:
            return
        self._failed.pop(room, None)
        chunk = room.sending = list(islice(room.dirty, MAX_MEMBERS))
        members = []
        for user in chunk:
            del room.dirty[user]
            present = room.users.get(user)
            if present is None:
                members.append(Member(user, 0))
            else:
                members.append(Member(user, present.connections, present.profile))
        room.number += 1
        attendance = Attendance(
            topic=room.topic,
            lease=room.lease,
            members=tuple(members),
            number=room.number,
            confirmed=room.confirmed,
            grace_seconds=self._grace(room.topic),
            again=room.again,
        )
        self._store.write(attendance).add_done_callback(partial(self._written, room, members))

    def _written(self, room: _Room, members: list[Member], future: "Future[Attended]") -> None:
        chunk, room.sending = room.sending or [], None
        if future.cancelled() or future.exception() is not None:
            room.dirty = dict.fromkeys(chunk) | room.dirty
            self._failed[room] = None
            for waiting in room.waiting.values():
                for each in waiting:
                    if not each.done():
                        each.set_result(None)
            room.waiting.clear()
            return
        result = future.result()
        if not result.known:
            room.lost.append(room.lease)
            room.begin(next(self._names))
            room.again = True
            room.dirty = dict.fromkeys(room.users)
            self._send(room)
            return
        if result.released:
            room.begin(next(self._names))
        else:
            room.confirmed = room.number
            room.again = False
        room.wake(chunk)
        if result.due_seconds is not None and any(not each.connections for each in members):
            self._settle_later(room.topic, result.due_seconds)
        if result.dead is not None:
            self._end(room.topic, result.dead, dead=True)
        self._on_attended(room.topic, result)
        self._go_on(room)

    def _go_on(self, room: _Room) -> None:
        """Write the remaining changes, or end lost leases and forget an empty room."""
        if room.dirty:
            self._send(room)
            return
        for lease in room.lost:
            self._end(room.topic, lease, dead=False)
        room.lost = []
        if not room.users:
            del self._rooms[room.topic]
            if self._emptied is not None and not self._rooms:
                self._emptied.set()

    # Leases that end, and users who leave --------------------------------------------------

    def _end(self, topic: str, lease: str, *, dead: bool) -> None:
        """Remove the users of a lease, a part at a time."""
        if (topic, lease) not in self._ending:
            self._ending.add((topic, lease))
            self._end_part(topic, lease, dead)

    def _end_part(self, topic: str, lease: str, dead: bool) -> None:
        ending = self._store.end(topic, lease, dead=dead)
        ending.add_done_callback(partial(self._ended, topic, lease, dead))

    def _ended(self, topic: str, lease: str, dead: bool, future: "Future[bool]") -> None:
        failed = future.cancelled() or future.exception() is not None
        if not failed and future.result():
            self._end_part(topic, lease, dead)
            return
        # After a failure the next renewal of any worker finds the lease dead again.
        self._ending.discard((topic, lease))
        if dead and not failed:
            # Several workers may have died together, but each answer names one lease.
            self.renew((topic,))

    def _settle_later(self, topic: str, seconds: float) -> None:
        if (timer := self._due.pop(topic, None)) is not None:
            timer.cancel()
        if self._emptied is None:
            self._due[topic] = asyncio.get_running_loop().call_later(
                max(seconds, SETTLE_SECONDS), self._settle, topic
            )

    def _settle(self, topic: str) -> None:
        del self._due[topic]
        self._store.settle(topic).add_done_callback(partial(self._settled, topic))

    def _settled(self, topic: str, future: "Future[Attended]") -> None:
        # After a failure the next renewal of a lease in the topic removes these users.
        if not future.cancelled() and future.exception() is None:
            result = future.result()
            if result.due_seconds is not None and topic not in self._due:
                self._settle_later(topic, result.due_seconds)
