"""The load test `churn`: memory after connections that came and went."""

import asyncio

import pytest

from loadtest.churn import Round, churn


@pytest.mark.parametrize(
    ("transport", "tls"),
    [
        ("direct", False),
        pytest.param("direct", True, marks=pytest.mark.extra),
        pytest.param("asgi", False, marks=pytest.mark.extra),
        pytest.param("asgi", True, marks=pytest.mark.extra),
    ],
)
def test_connections_that_come_and_go_leave_nothing_behind(transport: str, tls: bool) -> None:
    told: list[str] = []
    found = asyncio.run(
        churn(transport, tls=tls, connections=1_000, held=310, first=300, tell=told.append)
    )
    assert found.first_bytes > 2**20
    assert told
    assert found.passed, found


def test_a_tenth_more_is_allowed() -> None:
    grown = [Round("direct", False, 10, 1, 1.0, 100, last) for last in (110, 111)]
    assert [each.passed for each in grown] == [True, False]
