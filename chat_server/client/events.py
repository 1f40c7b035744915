"""The events of a subscription, and the results of commands."""

from typing import Any

from msgspec import Struct

from ..events import Position, Seq
from ..protocol.messages import Gap, Message, User
from ..protocol.messages import SignalPush as Signal

__all__ = ["Event", "Gap", "Message", "Other", "Page", "Position", "Published", "Signal", "User"]


class Other(Struct, frozen=True):
    """An event of a type that this version of the client does not know.

    Args:
        type: the `type` of the message, for example `reaction`.
        topic: the topic of the event.
        seq: the number of the event in its topic, or None if it has none.
        fields: all fields of the message.
    """

    type: str
    topic: str
    seq: int | None
    fields: dict[str, Any]


Event = Message | Signal | Gap | Other
"""The events that a subscription yields. A `Gap` says which events will not come."""


class Published(Struct, frozen=True):
    """The place of a stored publication in its topic.

    Args:
        at: milliseconds since 1970.
        duplicate: whether an earlier publication with the same key is the one that was stored.
    """

    topic: str
    seq: Seq
    epoch: str
    at: int
    duplicate: bool


class Page(Struct, frozen=True):
    """A part of a topic's stored messages, in ascending order.

    Args:
        more: whether the read ended before the last message in its direction.
    """

    topic: str
    epoch: str
    messages: list[Message]
    more: bool
