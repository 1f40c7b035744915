"""A server that does not tell everybody what is announced, or twice, is found out."""

import pytest

from .announcements import Listener
from .violation import Violation


@pytest.mark.parametrize(
    ("told", "asked", "kinds"),
    [
        ([1, 2], [2], []),
        ([2], [], []),
        ([1], [2], ["not announced"]),
        ([1, 2, 1], [2], ["announced twice"]),
    ],
)
def test_what_is_confirmed_has_come_once(
    told: list[int], asked: list[int], kinds: list[str]
) -> None:
    violations: list[Violation] = []
    listener = Listener("listener0", "worker-1", violations)
    for number in told:
        assert not listener.look({"type": "signal", "data": number})
    for number in asked:
        assert listener.look({"type": "pong", "id": number})
    assert [each.kind for each in violations] == kinds
    assert all("over a connection to worker-1" in each.detail for each in violations)
