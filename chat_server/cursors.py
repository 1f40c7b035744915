"""The vocabulary of read cursors: how far a user has read a topic, and the unread rest."""

from typing import Final, NamedTuple

from msgspec import Struct

from .events import Event

MAX_READERS: Final = 100
"""Maximum number of a topic's readers in an answer: the users who have read furthest."""

KEPT_READERS: Final = 2 * MAX_READERS
"""Maximum number of a topic's stored readers, which replace readers with expired cursors."""


class Reader(NamedTuple):
    """A user, and the seq up to which the user has read."""

    user: str
    seq: int


class KeptCursor(Struct, frozen=True):
    """A cursor that outlives its process.

    Args:
        topic: the topic.
        user: the cursor's user.
        epoch: the epoch of `seq`.
        seq: the seq up to which the user has read.
        shown: True if other users may see the cursor.
        left: seconds until the cursor expires.
    """

    topic: str
    user: str
    epoch: str
    seq: int
    shown: bool
    left: float


class Unread(Struct, frozen=True):
    """The unread state of a user in a topic.

    Args:
        cursor: the seq up to which the user has read; 0 without any.
        seq: the last seq of the topic.
        count: number of stored messages of others after the cursor, without deleted ones.
        more: True if messages after the cursor are not stored any more.
        moved: True if the cursor was moved.
        begun_anew: True if the cursor was not moved because the requested seq belongs to an earlier
            epoch.
        last: the newest message in its present state, if requested and the topic has messages.
        readers: the other users who have read furthest, in descending order, if requested.
    """

    cursor: int
    seq: int
    count: int
    more: bool
    moved: bool = False
    begun_anew: bool = False
    last: Event | None = None
    readers: tuple[Reader, ...] | None = None
