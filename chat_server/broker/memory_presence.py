"""Presence for a single process; keeps its state in dictionaries."""

import asyncio
from asyncio import Future
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable
from itertools import islice
from typing import TypeVar

import msgspec
from msgspec import Raw

from ..clock import Clock
from ..events import Event, Kind
from ..presence import (
    MAX_MEMBERS,
    PAGE_BYTES,
    Attendance,
    Attended,
    Member,
    PresenceChange,
    PresencePage,
)
from ..settings import BrokerSettings
from .common import failed, unavailable

T = TypeVar("T")


class _Lease:
    """The users of one worker in a topic, with their connections."""

    __slots__ = ("connections", "ends_at", "number")

    def __init__(self) -> None:
        self.number = 0
        self.ends_at = 0.0
        self.connections: dict[str, int] = {}


class _Room:
    """The users of a topic."""

    __slots__ = ("connections", "joined", "leases", "leaving", "left", "users", "who")

    def __init__(self) -> None:
        # Strings sort in the same order as their UTF-8.
        self.users: list[str] = []
        self.who: dict[str, Member] = {}
        self.connections = 0
        # Seconds on the monotonic clock when users without a connection leave.
        self.leaving: dict[str, float] = {}
        self.leases: dict[str, _Lease] = {}
        # The profiles of users who joined and left in the present call.
        self.joined: list[Raw] = []
        self.left: list[Raw] = []

    def change(self, lease: _Lease, member: Member, until: float | None) -> None:
        """Set a user's connections of one lease.

        Args:
            lease: the lease.
            member: the user.
            until: the time when a user without any connection leaves; None for now.
        """
        user = member.user
        before, known = lease.connections.pop(user, 0), self.who.get(user)
        if member.connections:
            lease.connections[user] = member.connections
        if known is None:
            if not member.connections:
                return
            self.who[user] = member
            insort(self.users, user)
            self.joined.append(Raw(member.profile))
            self.connections += member.connections
            return
        total = known.connections + member.connections - before
        self.connections += member.connections - before
        profile = member.profile if member.connections else known.profile
        self.who[user] = Member(user, total, profile)
        if total:
            self.leaving.pop(user, None)
        elif until is None:
            self.remove(user)
        elif before:
            self.leaving[user] = until

    def remove(self, user: str) -> None:
        """Remove a user without connections."""
        self.left.append(Raw(self.who.pop(user).profile))
        self.leaving.pop(user, None)
        del self.users[bisect_left(self.users, user)]


class MemoryPresence:
    """Keeps `realtime.ports.PresenceStore` for one process.

    Args:
        settings: the duration of a lease.
        clock: the clock of leases and of users' departures.
        send: sends an event to the broker's listener.
        running: returns whether the broker has been started.
    """

    def __init__(
        self,
        settings: BrokerSettings,
        clock: Clock,
        send: Callable[[Event], None],
        running: Callable[[], bool],
    ) -> None:
        self._lease_seconds = settings.presence_lease_seconds
        self._clock = clock
        self._send = send
        self._running = running
        self._rooms: dict[str, _Room] = {}

    def write(self, attendance: Attendance) -> "Future[Attended]":
        """Write a worker's users, and renew its lease."""
        if not self._running():
            return failed(unavailable())
        now = self._clock.monotonic()
        topic, name = attendance.topic, attendance.lease
        room = self._rooms.setdefault(topic, _Room())
        lease = room.leases.get(name)
        if lease is None and not attendance.confirmed:
            lease = room.leases[name] = _Lease()
        if lease is None or not attendance.confirmed <= lease.number < attendance.number:
            return _resolved(self._attended(topic, room, now, known=False))
        lease.number, lease.ends_at = attendance.number, now + self._lease_seconds
        grace = attendance.grace_seconds
        for member in attendance.members:
            room.change(lease, member, now + grace if grace else None)
        released = not lease.connections
        if released:
            del room.leases[name]
        return _resolved(
            self._attended(topic, room, now, released=released, again=attendance.again)
        )

    def settle(self, topic: str) -> "Future[Attended]":
        """Remove the users whose time to leave has come."""
        if not self._running():
            return failed(unavailable())
        room = self._rooms.get(topic) or _Room()
        return _resolved(self._attended(topic, room, self._clock.monotonic()))

    def end(self, topic: str, lease: str, *, dead: bool) -> "Future[bool]":
        """Remove the users of a lease."""
        if not self._running():
            return failed(unavailable())
        now = self._clock.monotonic()
        room = self._rooms.get(topic) or _Room()
        ended = room.leases.get(lease)
        if ended is None or (dead and ended.ends_at > now):
            return _resolved(False)
        # The lease's worker, if it comes back, learns of the end from its next write.
        ended.number = -1
        for user in list(islice(ended.connections, MAX_MEMBERS)):
            room.change(ended, Member(user, 0), None)
        if not ended.connections:
            del room.leases[lease]
        self._attended(topic, room, now)
        return _resolved(bool(ended.connections))

    async def page(
        self, topic: str, *, after: str = "", limit: int, max_bytes: int = PAGE_BYTES
    ) -> PresencePage:
        """Read the users in a topic."""
        if not self._running():
            raise unavailable()
        room = self._rooms.get(topic)
        if room is None or not self._is_alive(room):
            return PresencePage(0, 0, [])
        start = bisect_right(room.users, after)
        members: list[Member] = []
        size = 0
        for user in room.users[start : start + limit]:
            size += len(room.who[user].profile)
            if members and size > max_bytes:
                break
            members.append(room.who[user])
        more = start + len(members) < len(room.users)
        return PresencePage(len(room.users), room.connections, members, more)

    def _is_alive(self, room: _Room) -> bool:
        """Return whether a lease or a grace period is left that will clean up the room."""
        now = self._clock.monotonic()
        ends = (lease.ends_at for lease in room.leases.values())
        return any(at > now for at in (*ends, *room.leaving.values()))

    def _attended(
        self,
        topic: str,
        room: _Room,
        now: float,
        *,
        known: bool = True,
        released: bool = False,
        again: bool = False,
    ) -> Attended:
        """Remove users who are due to leave, send all changes, and return the answer."""
        for user in [user for user, due in room.leaving.items() if due <= now][:MAX_MEMBERS]:
            room.remove(user)
        count = len(room.users)
        if room.joined or room.left or again:
            change = PresenceChange(count, room.connections, room.joined, room.left, again)
            self._send(Event(topic, "", 0, Kind.PRESENCE, msgspec.json.encode(change)))
            room.joined, room.left = [], []
        if not room.users and not room.leases:
            self._rooms.pop(topic, None)
        due = min(room.leaving.values(), default=None)
        dead = next((name for name, at in room.leases.items() if at.ends_at <= now), None)
        return Attended(
            known=known,
            released=released,
            count=count,
            connections=room.connections,
            due_seconds=None if due is None else max(due - now, 0.0),
            dead=dead,
        )


def _resolved(result: T) -> "Future[T]":
    future: Future[T] = asyncio.get_running_loop().create_future()
    future.set_result(result)
    return future
