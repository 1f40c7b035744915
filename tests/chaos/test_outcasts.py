"""A server that serves who is kept out is found out."""

from typing import Any

import jwt
import pytest

from ..rig.tokens import forge
from .outcasts import Outcast, Pass
from .violation import Violation

BARRED_AT = 1_000.0


def outcast(way: str, violations: list[Violation]) -> Outcast:
    return Outcast("outcast0", way, lambda name: forge(sub=name), "", violations)


def look(barred_at: float | None, message: dict[str, Any], began: float) -> list[Violation]:
    violations: list[Violation] = []
    outcast("block", violations).look(message, Pass("outcast0-0", "", barred_at), began)
    return violations


@pytest.mark.parametrize(
    ("barred_at", "at", "began", "kinds"),
    [
        (None, 1_001.0, 1_001.0, []),
        (BARRED_AT, 999.0, 990.0, []),
        (BARRED_AT, 1_000.5, 990.0, ["message", "signal"]),
        (BARRED_AT, 1_000.5, 1_000.5, ["message", "signal", "welcome"]),
    ],
)
def test_what_is_newer_than_the_order_is_not_to_come(
    barred_at: float | None, at: float, began: float, kinds: list[str]
) -> None:
    messages = (
        {"type": "message", "at": at * 1_000, "seq": 7},
        {"type": "signal", "at": at * 1_000},
        {"type": "welcome"},
        {"type": "goodbye"},
    )
    assert [each["type"] for each in messages if look(barred_at, each, began)] == kinds


def test_it_is_told_who_was_served_and_how_late() -> None:
    [violation] = look(BARRED_AT, {"type": "message", "at": 1_002_500, "seq": 7}, 0.0)
    assert (violation.kind, violation.seq, violation.subscriber) == ("served", 7, "outcast0")
    assert violation.detail.startswith("a message 2.5 s after")


@pytest.mark.parametrize(
    ("way", "targets"),
    [
        ("block", [{"user": "outcast0"}] * 2),
        ("user", [{"user": "outcast0"}] * 2),
        ("jti", [{"jti": "outcast0-0"}, {"jti": "outcast0-1"}]),
        ("kid", [{"kid": "outcast0-0"}, {"kid": "outcast0-1"}]),
    ],
)
def test_an_order_names_what_the_token_bears(way: str, targets: list[dict[str, str]]) -> None:
    user = outcast(way, [])
    for number, target in enumerate(targets):
        assert user.target == target
        token = user.passes[-1].token
        claims = jwt.decode(token, options={"verify_signature": False})
        name = f"outcast0-{number}"
        assert (claims["jti"], jwt.get_unverified_header(token)["kid"]) == (name, name)
        user.renew()
