"""The vocabulary of presence: what a worker tells the store of its users, and what it is told.

docs/design/presence.md says how the store keeps it. The *profile* of a user is what others see, as
JSON text: `{"user": …, "name": …, "info": …}`.
"""

from typing import Final

from msgspec import Raw, Struct

MAX_MEMBERS: Final = 200
"""Members of one write, and users that one call takes out: bounds the time of a script."""

PAGE_BYTES: Final = 262_144
"""Bytes of profiles on one page at most, unless the first alone has more."""


class Member(Struct, frozen=True):
    """A user in a topic, as one worker has them; with no connections, they are not there.

    Args:
        user: the user.
        connections: number of connections.
        profile: what others see; of no use without connections.
    """

    user: str
    connections: int
    profile: bytes = b""


class Attendance(Struct, frozen=True, kw_only=True):
    """What one worker writes of its users in a topic.

    Args:
        topic: the topic.
        lease: names the worker in this topic.
        members: the users whose connections changed, at most `MAX_MEMBERS`; none renews the lease.
        number: of this write, above those of all earlier ones of the lease, also failed ones.
        confirmed: the number of the last write that was answered, or 0. Whatever writes since then
            have failed, this one repeats.
        grace_seconds: how long users without a connection still count.
        again: True if this begins to write again what the store has lost.
    """

    topic: str
    lease: str
    members: tuple[Member, ...] = ()
    number: int
    confirmed: int = 0
    grace_seconds: float = 0.0
    again: bool = False


class Attended(Struct, frozen=True):
    """The answer to a write.

    Args:
        known: False if the store does not have all that the lease has written; nothing was done.
        released: True if the lease has no users, and has therefore ended.
        count: number of users in the topic.
        connections: number of their connections.
        due_seconds: when the next user will have left whose last connection has ended, if any.
        dead: a lease that was not renewed in time, if any.
    """

    known: bool
    released: bool
    count: int
    connections: int
    due_seconds: float | None = None
    dead: str | None = None


class PresencePage(Struct, frozen=True):
    """Users of a topic in the order of their names, as UTF-8.

    Args:
        count: number of users in the topic.
        connections: number of their connections.
        members: the users of this page.
        more: True if others follow.
    """

    count: int
    connections: int
    members: list[Member]
    more: bool = False

    @property
    def size(self) -> int:
        """Sum of the bytes of the profiles on this page."""
        return sum(len(member.profile) for member in self.members)


class PresenceChange(Struct, frozen=True):
    """Who came and who went; the payload of an event of the kind `presence`, as JSON.

    Args:
        count: number of users in the topic.
        connections: number of their connections.
        joined: profiles.
        left: profiles.
        more: True if the store has lost data, so that others may have come and gone.
    """

    count: int
    connections: int
    joined: list[Raw] = []
    left: list[Raw] = []
    more: bool = False
