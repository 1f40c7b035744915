"""Decides where a new subscriber starts and what it is told (docs/protocol.md, section 4.4)."""

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from ..events import HistoryPage, Position


class Recovery(Struct, frozen=True):
    """What a new subscriber is told, and where its events start.

    Args:
        position: the topic's position, as the subscriber is told.
        start: the subscriber is sent everything behind this.
        page: stored events that follow `start`, as far as they have been read.
        recovered: whether the subscriber gets all that it asked for.
        reason: why not, if it asked.
    """

    position: Position
    start: Position
    page: HistoryPage
    recovered: bool = False
    reason: str | None = None

    @property
    def replayed(self) -> int:
        """Events between `start` and `position`."""
        return self.position.seq - self.start.seq


def start_here(position: Position, reason: str | None = None) -> Recovery:
    """Start with the next event."""
    nothing = HistoryPage(position.epoch, position.seq, [])
    return Recovery(position, position, nothing, reason=reason)


def following(page: HistoryPage, seq: int) -> HistoryPage | None:
    """Return a page without its events up to `seq`, or None if no event that follows is left."""
    events = [event for event in page.events if event.seq > seq]
    return None if page.more and not events else replace(page, events=events)


class _Dated(Struct):
    at: int = 0


_date = msgspec.json.Decoder(_Dated).decode


def recover_since(
    since: Position, page: HistoryPage, max_replay: int, not_before: float = 0.0
) -> Recovery:
    """Start behind the last position a subscriber saw, if all that follows is there.

    Args:
        since: that position.
        page: read with `after=since.seq`.
        max_replay: events that are replayed at most.
        not_before: seconds since 1970; events older than this are not replayed.
    """
    now = Position(page.epoch, page.seq)
    # A seq from the future means the store lost its newest events (an asynchronous failover):
    # the same numbers will be given out again, so the old order is gone just as with a new epoch.
    if since.epoch != page.epoch or since.seq > page.seq:
        return start_here(now, "epoch_changed")
    first = page.events[0].seq if page.events else page.seq + 1
    if first != since.seq + 1 or (not_before and _older(page, not_before)):
        return start_here(now, "expired")
    if page.seq - since.seq > max_replay:
        return start_here(now, "too_far_behind")
    return Recovery(now, since, page, recovered=True)


def _older(page: HistoryPage, seconds: float) -> bool:
    """Return whether what was read begins before a time; what cannot be dated does."""
    try:
        return bool(page.events) and _date(page.events[0].payload).at < seconds * 1000
    except (msgspec.DecodeError, UnicodeDecodeError):
        return True


def recover_last(page: HistoryPage) -> Recovery:
    """Start with the newest stored events; `page` was read with `newest`."""
    now = Position(page.epoch, page.seq)
    first = page.events[0].seq if page.events else page.seq + 1
    return Recovery(now, Position(page.epoch, first - 1), page, recovered=True)
