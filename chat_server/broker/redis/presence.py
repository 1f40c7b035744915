"""Presence in Redis: the names of keys, calls of the scripts, and the decoding of replies."""

import math
from asyncio import Future
from collections.abc import Callable
from typing import Any, Final

from ...presence import (
    MAX_MEMBERS,
    PAGE_BYTES,
    Attendance,
    Attended,
    Member,
    PresencePage,
)
from ...settings import BrokerSettings
from ..common import failed, unavailable
from .pipeline import Argument, Pipeline, Script
from .storage import Keyspace

WRITE: Final = Script("presence")
PAGE: Final = Script("presence_page")

_FAMILY: Final = ("users", "who", "leaving", "leases")


class RedisPresence:
    """Keeps `realtime.ports.PresenceStore` over one Redis server.

    Args:
        pipeline: used for presence alone, so that a page includes all earlier writes.
        names: names of keys and channels.
        settings: the duration of a lease.
        command: the command that sends to a channel.
        available: returns whether Redis is believed to be reachable.

    Attributes:
        pipeline: the same pipeline, for the broker to start and stop.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        names: Keyspace,
        settings: BrokerSettings,
        command: str,
        available: Callable[[], bool],
    ) -> None:
        self.pipeline = pipeline
        self._names = names
        self._lease_ms = math.ceil(settings.presence_lease_seconds * 1_000)
        self._command = command
        self._available = available

    def write(self, attendance: Attendance) -> "Future[Attended]":
        """Write a worker's users, and renew its lease, in one script."""
        if not self._available():
            return failed(unavailable())
        grace_ms = math.ceil(attendance.grace_seconds * 1_000)
        members: list[Argument] = []
        for member in attendance.members:
            members += (member.user, member.connections, member.profile)
        arguments = (
            *("write", attendance.lease, MAX_MEMBERS, self._command),
            self._lease_ms,
            # A dead lease must stay until other workers end it.
            5 * self._lease_ms + grace_ms,
            grace_ms,
            attendance.number,
            attendance.confirmed,
            int(attendance.again),
            *members,
        )
        keys = self._keys(attendance.topic, attendance.lease)
        return self.pipeline.call(WRITE, keys, arguments, _attended)

    def settle(self, topic: str) -> "Future[Attended]":
        """Remove the users whose time to leave has come, in one script."""
        if not self._available():
            return failed(unavailable())
        return self.pipeline.call(
            WRITE, self._keys(topic, ""), self._arguments("settle", ""), _attended
        )

    def end(self, topic: str, lease: str, *, dead: bool) -> "Future[bool]":
        """Remove users of a lease, in one script."""
        if not self._available():
            return failed(unavailable())
        verb = "bury" if dead else "end"
        return self.pipeline.call(
            WRITE, self._keys(topic, lease), self._arguments(verb, lease), _is_unfinished
        )

    async def page(
        self, topic: str, *, after: str = "", limit: int, max_bytes: int = PAGE_BYTES
    ) -> PresencePage:
        """Read the users in a topic, in one script."""
        if not self._available():
            raise unavailable()
        keys = self._keys(topic, "")[: len(_FAMILY)]
        return await self.pipeline.call(PAGE, keys, (after, limit, max_bytes), _page)

    def _keys(self, topic: str, lease: str) -> tuple[str, ...]:
        base = f"{self._names.prefix}:{{{topic}}}:presence"
        family = (f"{base}:{name}" for name in _FAMILY)
        return (*family, f"{base}:lease:{lease}", self._names.channel(topic))

    def _arguments(self, verb: str, lease: str) -> tuple[Argument, ...]:
        """Return the arguments of a call without users."""
        return (verb, lease, MAX_MEMBERS, self._command, self._lease_ms, 0, 0, 0, 0, 0)


def _attended(reply: Any) -> Attended:
    known, released, count, connections, due, dead = reply
    return Attended(
        known=known == 1,
        released=released == 1,
        count=count,
        connections=connections,
        due_seconds=None if due < 0 else due / 1_000,
        dead=dead.decode() or None,
    )


def _is_unfinished(reply: Any) -> bool:
    return bool(reply[1] == 0)


def _page(reply: Any) -> PresencePage:
    count, connections, more, *entries = reply
    members = []
    for user, entry in zip(entries[::2], entries[1::2], strict=True):
        number, _, profile = entry.partition(b" ")
        members.append(Member(user.decode(), int(number), profile))
    return PresencePage(count, connections, members, more == 1)
