"""An endpoint that did not get everything, or not in order, is found out."""

from typing import Any

from .history import Ack
from .hooked import compare
from .payloads import payload_of

ACKS = [
    Ack("one", "room:0", "e", 1, "first"),
    Ack("one", "room:0", "e", 2, "edited 1 one", target=1),
    Ack("one", "room:0", "e", 3, "third"),
]


def message(seq: int, name: str) -> dict[str, Any]:
    return {"type": "message", "topic": "room:0", "seq": seq, "data": payload_of(name)}


EDIT = {"type": "edited", "topic": "room:0", "seq": 2, "target": 1}
WHOLE = [message(1, "first"), EDIT, message(3, "third")]


def kinds(events: list[dict[str, Any]]) -> list[str]:
    return [violation.kind for violation in compare(events, ACKS)]


def test_what_came_whole_or_twice_passes() -> None:
    assert kinds(WHOLE) == []
    assert kinds([*WHOLE[:2], *WHOLE]) == []
    assert kinds([{**message(1, "first"), "data": None, "deleted": True}, *WHOLE[1:]]) == []


def test_what_is_wrong_is_told() -> None:
    assert kinds(WHOLE[:2]) == ["not sent"]
    assert kinds([WHOLE[0], WHOLE[2], EDIT]) == ["sent out of order"]
    assert kinds([message(1, "another"), *WHOLE[1:]]) == ["sent as another"]
    gap = {"type": "gap", "topic": "room:0", "after": 0, "before": 2, "reason": "expired"}
    assert kinds([gap, *WHOLE]) == ["gap sent"]
