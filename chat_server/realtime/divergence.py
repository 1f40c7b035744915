"""Finds out whether a topic's log has diverged from the events that subscribers have seen.

A failover of the store may lose the newest events. The store then gives their seqs to other events.
See docs/design/failover.md.
"""

import re

from msgspec import Struct

from ..events import Event, HistoryPage, Position

Place = tuple[int, int | None]
"""A seq, and the fingerprint of its event if the fingerprint is known."""

_NOWHERE: Place = (0, None)

_ERASED = re.compile(rb'"data":null(,"deleted":true,"version":\d+)?}$|,"text":""}$')
"""The end of an event without content, because a deletion has removed it (`broker.folding`)."""


class Snapshot(Struct, frozen=True):
    """The evidence that a page must agree with, if the page's read began at this moment.

    Args:
        position: the topic's position.
        fingerprints: fingerprints of the events that subscribers have seen, by seq. The fingerprint
            is None if subscribers have seen the seq and nothing else is known.
    """

    position: Position
    fingerprints: dict[int, int | None]

    def diverged_from(self, page: HistoryPage) -> bool:
        """Return whether the log on `page` has lost events that subscribers have seen.

        The log's seq is behind the subscribers' seq, or the log has another event at a seq of
        theirs. A log of another epoch declares its loss itself, and is no divergence.
        """
        return page.epoch == self.position.epoch and (
            page.seq < max(self.fingerprints) or any(self._differs(event) for event in page.events)
        )

    def _differs(self, event: Event) -> bool:
        if self.fingerprints.get(event.seq) in (None, hash(event.payload)):
            return False
        # If the event has been deleted since, subscribers have seen another text at this seq.
        return _ERASED.search(event.payload) is None


class Delivered:
    """The newest events of the current epoch that the subscribers of a topic have seen."""

    __slots__ = ("last", "max_delivered")

    def __init__(self) -> None:
        self.last: Place = _NOWHERE
        """The last event that this worker has delivered to all live subscribers."""
        self.max_delivered: Place = _NOWHERE
        """The furthest event that a replay has delivered, or that a client has seen."""

    def snapshot(self, position: Position) -> Snapshot:
        """Return the evidence at `position`."""
        places = dict([self.max_delivered, self.last])
        return Snapshot(position, {0: None, position.seq: None, **places})
