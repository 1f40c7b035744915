"""How long a client waits: spread, growing, and within bounds whatever a server asks for."""

import pytest

from chat_server.client import Backoff, Ending
from chat_server.client.ending import retry_delay
from chat_server.protocol.close_codes import LONG_BACKOFF, CloseCode


def test_waits_grow_up_to_the_longest() -> None:
    backoff = Backoff(first=0.5, longest=30, rng=lambda: 1.0)
    waits = [backoff.delay(Ending("gone")) for _ in range(9)]
    assert waits == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    backoff.reset()
    assert backoff.delay(Ending("gone")) == 0.5


def test_waits_are_spread_over_their_whole_length() -> None:
    assert Backoff(first=0.5, rng=lambda: 0.0).delay(Ending("gone")) == 0.0
    waits = {Backoff().delay(Ending("gone")) for _ in range(100)}
    assert len(waits) == 100
    assert max(waits) <= 0.5


@pytest.mark.parametrize("code", sorted(LONG_BACKOFF))
def test_an_overloaded_server_is_given_time(code: CloseCode) -> None:
    assert Backoff(patient=10, rng=lambda: 0.0).delay(Ending("busy", code)) == 5
    backoff = Backoff(patient=10, rng=lambda: 1.0)
    assert [backoff.delay(Ending("busy", code)) for _ in range(6)] == [10, 20, 40, 80, 80, 80]


def test_the_servers_own_wish_comes_first() -> None:
    ending = Ending("restart", CloseCode.RESTART, retry_in_ms=2000)
    assert Backoff(rng=lambda: 0.0).delay(ending) == 2.0
    assert Backoff(rng=lambda: 1.0).delay(ending) == pytest.approx(2.2)


@pytest.mark.parametrize("asked", [1, 2**53, -5, 0])
def test_odd_wishes_are_clamped_and_grow(asked: int) -> None:
    backoff = Backoff(first=0.5, longest=30, rng=lambda: 1.0)
    waits = [backoff.delay(Ending("restart", 1012, retry_in_ms=asked)) for _ in range(9)]
    assert waits == sorted(waits)
    assert waits[-1] >= 15
    assert max(waits) <= 330


def test_refusals_are_retried_with_patience() -> None:
    waits = [retry_delay(1, repetition, lambda: 0.0) for repetition in range(12)]
    assert waits[:4] == [0.01, 0.02, 0.04, 0.08]
    assert waits[-1] == 5
    assert retry_delay(None, 0, lambda: 0.0) == 1
    assert retry_delay(20_000, 0, lambda: 1.0) == 30
    assert retry_delay(2**53, 40, lambda: 0.0) == 300
    assert retry_delay(-(2**53), 0, lambda: 0.0) == 0.01
    assert retry_delay(10**400, 0, lambda: 0.0) == 300


def test_an_ending_reads_well() -> None:
    assert str(Ending("restart", 1012)) == "restart (1012)"
    assert str(Ending("", 1011)) == "no reason (1011)"
    assert str(Ending("the connection broke")) == "the connection broke"
