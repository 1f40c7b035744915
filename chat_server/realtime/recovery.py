"""Decides where a new subscriber starts and what it is told (docs/protocol.md, section 4.4)."""

import msgspec
from msgspec import Struct

from ..events import HistoryPage, Position


class Recovery(Struct, frozen=True):
    """The start of a new subscriber, and its answer.

    Args:
        position: the topic's position in the answer.
        start: the subscriber is sent the events that follow this position.
        page: stored events that follow `start`, as far as they have been read.
        recovered: whether the subscriber gets everything that it asked for.
        reason: if not, why; None if it asked for nothing.
    """

    position: Position
    start: Position
    page: HistoryPage
    recovered: bool = False
    reason: str | None = None

    @property
    def replayed(self) -> int:
        """Number of seqs between `start` and `position`."""
        return self.position.seq - self.start.seq


def start_here(position: Position, reason: str | None = None) -> Recovery:
    """Start with the next event."""
    nothing = HistoryPage(position.epoch, position.seq, [])
    return Recovery(position, position, nothing, reason=reason)


class _Dated(Struct):
    at: int = 0


_date = msgspec.json.Decoder(_Dated).decode


def recover_since(
    since: Position, page: HistoryPage, max_replay: int, not_before: float = 0.0
) -> Recovery:
    """Start after the last position that a subscriber has seen, if every later event is there.

    Args:
        since: that position.
        page: read with `after=since.seq`.
        max_replay: the greatest number of events that are replayed.
        not_before: seconds since 1970; events older than this are not replayed.
    """
    now = Position(page.epoch, page.seq)
    # With a seq from the future, the store has lost its newest events (an asynchronous failover)
    # and will give their seqs to others. Their log is gone, as with a new epoch.
    if since.epoch != page.epoch or since.seq > page.seq:
        return start_here(now, "epoch_changed")
    first = page.events[0].seq if page.events else page.seq + 1
    if first != since.seq + 1 or page.missing or (not_before and _older(page, not_before)):
        return start_here(now, "expired")
    if page.seq - since.seq > max_replay:
        return start_here(now, "too_far_behind")
    return Recovery(now, since, page, recovered=True)


def _older(page: HistoryPage, seconds: float) -> bool:
    """Return whether the first event is older than a time, or has no date."""
    try:
        return bool(page.events) and _date(page.events[0].payload).at < seconds * 1000
    except (msgspec.DecodeError, UnicodeDecodeError):
        return True


def recover_last(page: HistoryPage) -> Recovery:
    """Start with the newest messages; `page` was read with `newest`."""
    now = Position(page.epoch, page.seq)
    first = page.events[0].seq if page.events else page.seq + 1
    return Recovery(now, Position(page.epoch, first - 1), page, recovered=True)
