"""A server that serves who is blocked is found out."""

from typing import Any

import pytest

from .outcasts import Outcast
from .violation import Violation

BARRED_AT = 1_000.0


def look(barred_at: float | None, message: dict[str, Any], began: float) -> list[Violation]:
    violations: list[Violation] = []
    user = Outcast("outcast0", "", "", violations)
    user.barred_at = barred_at
    user.look(message, object(), began)
    return violations


@pytest.mark.parametrize(
    ("barred_at", "at", "began", "kinds"),
    [
        (None, 1_001.0, 1_001.0, []),
        (BARRED_AT, 999.0, 990.0, []),
        (BARRED_AT, 1_000.5, 990.0, ["message"]),
        (BARRED_AT, 1_000.5, 1_000.5, ["message", "welcome"]),
    ],
)
def test_what_is_newer_than_the_block_is_not_to_come(
    barred_at: float | None, at: float, began: float, kinds: list[str]
) -> None:
    found = [
        message["type"]
        for message in ({"type": "message", "at": at * 1_000, "seq": 7}, {"type": "welcome"})
        if look(barred_at, message, began)
    ]
    assert found == kinds


def test_it_is_told_who_was_served_and_how_late() -> None:
    [violation] = look(BARRED_AT, {"type": "message", "at": 1_002_500, "seq": 7}, 0.0)
    assert (violation.kind, violation.seq, violation.subscriber) == ("served", 7, "outcast0")
    assert violation.detail.startswith("a message 2.5 s after")
