"""The vocabulary of presence: a worker's messages to the store about its users, and the answers.

docs/design/presence.md describes the storage. The *profile* of a user is the public part, as JSON
text: `{"user": …, "name": …, "info": …}`.
"""

from typing import Final

from msgspec import Raw, Struct

MAX_MEMBERS: Final = 200
"""Maximum number of members of one write, and of users removed by one call: bounds the time of a
script."""

PAGE_BYTES: Final = 262_144
"""Maximum bytes of profiles on one page, unless the first profile alone is larger."""


class Member(Struct, frozen=True):
    """A user in a topic, as one worker sees the user; absent without connections.

    Args:
        user: the user.
        connections: number of the user's connections.
        profile: the profile; of no use without connections.
    """

    user: str
    connections: int
    profile: bytes = b""


class Attendance(Struct, frozen=True, kw_only=True):
    """One worker's write about its users in a topic.

    Args:
        topic: the topic.
        lease: the worker's lease in this topic.
        members: users with changed connections, at most `MAX_MEMBERS`; none renews the lease.
        number: the number of this write, above all earlier ones of the lease, even failed ones.
        confirmed: the number of the last answered write, or 0. This write repeats all failed
            writes since then.
        grace_seconds: seconds for which users without a connection still count.
        again: True for the first write after the store has lost the users.
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
        known: False if the store does not have all writes of the lease; nothing was done.
        released: True if the lease has no users, and has therefore ended.
        count: number of users in the topic.
        connections: number of all users' connections.
        due_seconds: seconds until the next user without a connection leaves, if any.
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
        connections: number of all users' connections.
        members: the users of this page.
        more: True if further users follow.
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
    """Users who joined and left; the payload of an event of the kind `presence`, as JSON.

    Args:
        count: number of users in the topic.
        connections: number of all users' connections.
        joined: profiles.
        left: profiles.
        more: True if the store has lost data, so that further users may have joined or left.
    """

    count: int
    connections: int
    joined: list[Raw] = []
    left: list[Raw] = []
    more: bool = False
