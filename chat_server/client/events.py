"""What a client is given: the events of a subscription, and the results of commands."""

from typing import Any

from msgspec import Struct

from ..events import Position, Seq
from ..protocol.messages import Gap, Message, User
from ..protocol.messages import SignalPush as Signal

__all__ = ["Event", "Gap", "Message", "Other", "Page", "Position", "Published", "Signal", "User"]


class Other(Struct, frozen=True):
    """An event of a type that this version of the client has no struct for.

    Args:
        type: its type on the wire, `reaction` for one.
        seq: its place in the topic's order, or None if it has none.
        fields: all that was sent.
    """

    type: str
    topic: str
    seq: int | None
    fields: dict[str, Any]


Event = Message | Signal | Gap | Other
"""What a subscription yields; a `Gap` says that the events between two places will not come."""


class Published(Struct, frozen=True):
    """Where a publication stands in its topic's order.

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
        more: whether there are more in the direction of the read.
    """

    topic: str
    epoch: str
    messages: list[Message]
    more: bool
