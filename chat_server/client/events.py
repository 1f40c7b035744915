"""The events of a subscription, and the results of commands."""

from typing import Any

from msgspec import Struct

from ..events import Position, Seq
from ..protocol.messages import (
    Appended,
    Deleted,
    Edited,
    Gap,
    Join,
    Leave,
    Message,
    PresentUser,
    Reaction,
    Reactions,
    Reader,
    User,
)
from ..protocol.messages import PresenceOk as Present
from ..protocol.messages import PresencePush as Presence
from ..protocol.messages import ReadOk as Cursor
from ..protocol.messages import ReadPush as Read
from ..protocol.messages import SignalPush as Signal
from ..protocol.messages import UnreadIn as Unread

__all__ = [
    "Appended",
    "Change",
    "Changed",
    "Cursor",
    "Deleted",
    "Edited",
    "Event",
    "Gap",
    "Join",
    "Leave",
    "Message",
    "Other",
    "Page",
    "Position",
    "Presence",
    "Present",
    "PresentUser",
    "Published",
    "Reaction",
    "Reactions",
    "Read",
    "Reader",
    "Signal",
    "Unread",
    "User",
]


class Other(Struct, frozen=True):
    """An event of a type that this version of the client does not know.

    Args:
        type: the `type` of the message, for example `poll`.
        topic: the topic of the event.
        seq: the number of the event in its topic; None for an event without a number.
        fields: all fields of the message.
    """

    type: str
    topic: str
    seq: int | None
    fields: dict[str, Any]


Change = Edited | Appended | Deleted | Reaction
"""The events that change the message `target`; `Messages` applies them."""

Event = Message | Change | Signal | Read | Join | Leave | Presence | Gap | Other
"""The events that a subscription yields. A `Gap` names the seqs of lost events."""


class Published(Struct, frozen=True):
    """The place of a stored publication in its topic.

    Args:
        at: milliseconds since 1970.
        duplicate: True if the server had stored an earlier publication with the same key instead.
    """

    topic: str
    seq: Seq
    epoch: str
    at: int
    duplicate: bool


class Changed(Struct, frozen=True):
    """The place of a stored change in its topic.

    Args:
        seq: the seq of the change.
        target: the seq of the changed message.
        at: milliseconds since 1970.
        duplicate: True if the server had stored an earlier change with the same key instead.
        length: after an append, the length of the message's text in Unicode code points.
    """

    topic: str
    seq: Seq
    target: Seq
    epoch: str
    at: int
    duplicate: bool
    length: int | None = None


class Page(Struct, frozen=True):
    """A part of a topic's stored messages, in ascending order.

    Args:
        more: True if the read ended before the last message in its direction.
    """

    topic: str
    epoch: str
    messages: list[Message]
    more: bool
