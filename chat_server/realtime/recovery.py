"""Decides whether a resuming subscriber can be given all that it missed (docs/protocol.md, 4.4)."""

from msgspec import Struct

from ..protocol.events import Event, Slice
from ..protocol.messages import Position


class Recovery(Struct, frozen=True):
    """What a new subscriber is told and sent before live events.

    Args:
        position: where the subscription starts; live events follow it.
        recovered: whether `events` are all that the subscriber asked for.
        events: replayed, in order.
        reason: why it is not recovered, if a recovery was asked for.
    """

    position: Position
    recovered: bool = False
    events: list[Event] = []
    reason: str | None = None


def recover(since: Position, found: Slice) -> Recovery:
    """Compare where a subscriber was with what a read of all later events found.

    Args:
        since: the last position the subscriber saw.
        found: read with `after=since.seq`.
    """
    now = Position(found.epoch, found.seq)
    # A seq from the future means the store lost its newest events (an asynchronous failover):
    # the same numbers will be given out again, so the old order is gone just as with a new epoch.
    if since.epoch != found.epoch or since.seq > found.seq:
        return Recovery(now, reason="epoch_changed")
    if found.more:
        return Recovery(now, reason="too_far_behind")
    first = found.events[0].seq if found.events else found.seq + 1
    if first != since.seq + 1:
        return Recovery(now, reason="expired")
    return Recovery(now, recovered=True, events=found.events)
