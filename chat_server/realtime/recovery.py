"""Decides where a new subscriber starts and what it is told (docs/protocol.md, section 4.4)."""

import msgspec
from msgspec import Struct

from ..protocol.events import Slice
from ..protocol.messages import Position


class Recovery(Struct, frozen=True):
    """What a new subscriber is told, and where its events start.

    Args:
        position: the topic's position, as the subscriber is told.
        start: the subscriber is sent everything behind this.
        found: stored events that follow `start`, as far as they have been read.
        recovered: whether the subscriber gets all that it asked for.
        reason: why not, if it asked.
    """

    position: Position
    start: Position
    found: Slice
    recovered: bool = False
    reason: str | None = None

    @property
    def replayed(self) -> int:
        """Events between `start` and `position`."""
        return self.position.seq - self.start.seq


def start_here(position: Position, reason: str | None = None) -> Recovery:
    """Start with the next event."""
    nothing = Slice(position.epoch, position.seq, [])
    return Recovery(position, position, nothing, reason=reason)


class _Dated(Struct):
    at: int = 0


_date = msgspec.json.Decoder(_Dated).decode


def recover_since(
    since: Position, found: Slice, max_replay: int, not_before: float = 0.0
) -> Recovery:
    """Start behind the last position a subscriber saw, if all that follows is there.

    Args:
        since: that position.
        found: read with `after=since.seq`.
        max_replay: events that are replayed at most.
        not_before: seconds since 1970; events older than this are not replayed.
    """
    now = Position(found.epoch, found.seq)
    # A seq from the future means the store lost its newest events (an asynchronous failover):
    # the same numbers will be given out again, so the old order is gone just as with a new epoch.
    if since.epoch != found.epoch or since.seq > found.seq:
        return start_here(now, "epoch_changed")
    first = found.events[0].seq if found.events else found.seq + 1
    if first != since.seq + 1 or (not_before and _older(found, not_before)):
        return start_here(now, "expired")
    if found.seq - since.seq > max_replay:
        return start_here(now, "too_far_behind")
    return Recovery(now, since, found, recovered=True)


def _older(found: Slice, seconds: float) -> bool:
    """Return whether what was read begins before a time; what cannot be dated does."""
    try:
        return bool(found.events) and _date(found.events[0].frame).at < seconds * 1000
    except (msgspec.DecodeError, UnicodeDecodeError):
        return True


def recover_last(found: Slice) -> Recovery:
    """Start with the newest stored events; `found` was read with `newest`."""
    now = Position(found.epoch, found.seq)
    first = found.events[0].seq if found.events else found.seq + 1
    return Recovery(now, Position(found.epoch, first - 1), found, recovered=True)
