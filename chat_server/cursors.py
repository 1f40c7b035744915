"""The vocabulary of read cursors: how far a user has read a topic, and what is left."""

from msgspec import Struct

from .events import Event


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
    """

    cursor: int
    seq: int
    count: int
    more: bool
    moved: bool = False
    begun_anew: bool = False
    last: Event | None = None
