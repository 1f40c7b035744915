"""The vocabulary of read cursors: how far a user has read a topic, and what is left."""

from typing import Final, NamedTuple

from msgspec import Struct

from .events import Event

MAX_READERS: Final = 100
"""Readers of a topic that are told, those who have read furthest."""

KEPT_READERS: Final = 2 * MAX_READERS
"""Readers of a topic that are kept: the cursors of some end, and others take their places."""


class Reader(NamedTuple):
    """A user, and the seq up to which the user has read."""

    user: str
    seq: int


class KeptCursor(Struct, frozen=True):
    """A cursor that outlives its process.

    Args:
        topic: the topic.
        user: whose it is.
        epoch: the epoch that counts `seq`.
        seq: the seq up to which the user has read.
        shown: whether others may see it.
        left: seconds for which it is kept.
    """

    topic: str
    user: str
    epoch: str
    seq: int
    shown: bool
    left: float


class Unread(Struct, frozen=True):
    """What a user has not read in a topic.

    Args:
        cursor: the seq up to which the user has read; 0 if nothing.
        seq: the last seq of the topic.
        count: messages of others behind the cursor that are stored and not deleted.
        more: True if messages behind the cursor are not stored any more.
        moved: True if the cursor was moved.
        begun_anew: True if the cursor was not moved because the seq to move it to is of an epoch
            that is gone.
        last: the newest message as it now is, if it was asked for and there is one.
        readers: the others who have read furthest, in descending order, if they were asked for.
    """

    cursor: int
    seq: int
    count: int
    more: bool
    moved: bool = False
    begun_anew: bool = False
    last: Event | None = None
    readers: tuple[Reader, ...] | None = None
