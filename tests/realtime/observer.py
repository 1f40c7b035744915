"""What a client may conclude from the pushes of one topic; fails where the promise is broken."""

from collections.abc import Mapping
from typing import Any

from chat_server.events import Position

Payloads = Mapping[tuple[str, str, int], set[bytes]]
"""Every payload that was ever stored, by topic, epoch and seq."""


class Observer:
    """Follows one subscription from its `ok`: each seq once, in order, or covered by a gap.

    Args:
        position: what the `ok` said, or where the replay begins if it was `recovered`.
        payloads: what messages are compared with.
    """

    def __init__(self, position: Position, payloads: Payloads | None = None) -> None:
        self.position = position
        self._payloads = payloads

    def take(self, push: dict[str, Any], payload: bytes = b"") -> None:
        """Take one push, decoded and as it was received."""
        if push["type"] == "gap":
            self._take_gap(push)
        elif push["type"] == "message":
            seq = self.position.seq + 1
            assert push["seq"] == seq, f"{push} behind {self.position}"
            if self._payloads is not None:
                stored = self._payloads[push["topic"], self.position.epoch, seq]
                assert payload in stored, "an event of another order"
            self.position = Position(self.position.epoch, seq)

    def _take_gap(self, gap: dict[str, Any]) -> None:
        epoch, seq = self.position.epoch, self.position.seq
        if gap["reason"] == "epoch_changed":
            assert gap["after"] == 0
            # The same epoch again means that the store lost its newest events.
            assert gap["epoch"] != epoch or gap["before"] <= seq, f"{gap} behind {self.position}"
        else:
            assert gap["reason"] == "expired"
            assert (gap["epoch"], gap["after"]) == (epoch, seq), f"{gap} behind {self.position}"
            assert gap["before"] > seq + 1, "a gap without anything in it"
        self.position = Position(gap["epoch"], gap["before"] - 1)
