"""What a client may conclude from the pushes of one topic; raises where the promise is broken."""

from collections.abc import Mapping
from typing import Any

from chat_server.protocol.messages import Position

Order = Mapping[tuple[str, int], bytes]
"""Every frame that was ever stored, by epoch and seq."""


class Observer:
    """Follows one subscription from its `ok`: each seq once, in order, or covered by a gap.

    Args:
        position: what the `ok` said, or where the replay begins if it was `recovered`.
    """

    def __init__(self, position: Position) -> None:
        self.position = position
        self.seen: list[int] = []
        self.gaps: list[dict[str, Any]] = []

    def take(
        self, push: dict[str, Any], frame: bytes | None = None, order: Order | None = None
    ) -> None:
        """Take one push.

        Args:
            push: as decoded.
            frame: as received, and
            order: what it must be equal to.
        """
        epoch, seq = self.position.epoch, self.position.seq
        if push["type"] == "gap":
            self._take_gap(push)
        elif push["type"] == "message":
            assert push["seq"] == seq + 1, f"{push} after {self.position}"
            if order is not None:
                assert order[epoch, seq + 1] == frame, "another epoch's event"
            self.position = Position(epoch, seq + 1)
            self.seen.append(push["seq"])

    def _take_gap(self, gap: dict[str, Any]) -> None:
        if gap["reason"] == "epoch_changed":
            assert gap["after"] == 0
            assert gap["before"] >= 1
            # The same epoch again means that the store lost its newest events.
            if gap["epoch"] == self.position.epoch:
                assert gap["before"] <= self.position.seq
        else:
            assert gap["reason"] == "expired"
            assert (gap["epoch"], gap["after"]) == (self.position.epoch, self.position.seq)
            assert gap["before"] > gap["after"] + 1, "an empty gap"
        self.position = Position(gap["epoch"], gap["before"] - 1)
        self.gaps.append(gap)
