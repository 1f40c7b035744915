"""Decides the start and the answer of a new subscriber (docs/protocol.md, section 4.4)."""

import msgspec
from msgspec import Struct

from ..events import HistoryPage, Position


class Recovery(Struct, frozen=True):
    """The start of a new subscriber, and its answer.

    Args:
        position: the topic's position in the answer.
        start: the subscriber gets the events after this position.
        page: stored events after `start`, as far as they have been read.
        recovered: whether the subscriber gets all requested events.
        reason: why the subscriber does not get all events; None if it requested none.
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
    """Return a start at the next event."""
    nothing = HistoryPage(position.epoch, position.seq, [])
    return Recovery(position, position, nothing, reason=reason)


class _Dated(Struct):
    at: int = 0


_date = msgspec.json.Decoder(_Dated).decode


def recover_since(
    since: Position, page: HistoryPage, max_replay: int, not_before: float = 0.0
) -> Recovery:
    """Return a start after the subscriber's last position, if every later event is stored.

    Args:
        since: the last position that the subscriber has seen.
        page: read with `after=since.seq`.
        max_replay: maximum number of replayed events.
        not_before: seconds since 1970; older events are not replayed.
    """
    now = Position(page.epoch, page.seq)
    # A seq from the future shows that the store has lost its newest events (an asynchronous
    # failover), and will give their seqs to other events. The subscriber's log is lost, as with a
    # new epoch.
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
    """Return a start with the newest messages; `page` was read with `newest`."""
    now = Position(page.epoch, page.seq)
    first = page.events[0].seq if page.events else page.seq + 1
    return Recovery(now, Position(page.epoch, first - 1), page, recovered=True)
