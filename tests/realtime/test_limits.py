"""Token buckets."""

import asyncio
import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_server.logs import TextFormatter
from chat_server.protocol.errors import RateLimited
from chat_server.realtime.limits import (
    BURST_PACE,
    READS_AT_ONCE,
    RESERVED_BYTES,
    UNPACED_BYTES,
    ConnectionRate,
    PacedBucket,
    ReadRates,
    TokenBucket,
    UserRates,
    connection_rate,
)
from tests.server.inprocess import make_settings

from ..rig.clock import ManualClock
from ..rig.fakes import turns

RATES = st.floats(0.01, 1_000)
BURSTS = st.integers(1, 200)
WAITS = st.lists(st.floats(0, 20), max_size=100)


@given(RATES, BURSTS, WAITS)
def test_a_bucket_gives_no_more_than_its_rate_and_burst(
    rate: float, burst: int, waits: list[float]
) -> None:
    now, taken = 1_000.0, 0
    bucket = TokenBucket(rate, burst, now)
    for wait in waits:
        now += wait
        taken += not bucket.acquire(now)
        assert taken <= burst + (now - 1_000.0) * rate + 1e-6


@given(RATES, BURSTS, WAITS)
def test_a_bucket_tells_truly_when_there_is_a_token(
    rate: float, burst: int, waits: list[float]
) -> None:
    now = 1_000.0
    bucket = TokenBucket(rate, burst, now)
    for wait in waits:
        now += wait
        told = bucket.acquire(now)
        if not told:
            continue
        assert 0 < told <= 1 / rate
        assert bucket.acquire(now + told / 2) > 0
        # What a client is told is rounded up to whole milliseconds.
        now += math.ceil(told * 1000) / 1000
        assert bucket.acquire(now) == pytest.approx(0, abs=1e-6)


@given(RATES, BURSTS)
def test_a_burst_is_given_at_once_and_again_after_a_rest(rate: float, burst: int) -> None:
    now = 1_000.0
    bucket = TokenBucket(rate, burst, now)
    for _ in range(2):
        assert [bucket.acquire(now) for _ in range(burst)] == [0.0] * burst
        assert bucket.acquire(now) > 0
        now += burst / rate + 1.0


def test_what_costs_more_than_there_is_is_owed() -> None:
    bucket = TokenBucket(1.0, 10, 0.0)
    assert bucket.acquire(0.0, 9.5) == 0.0
    assert bucket.acquire(0.0, 5.0) == 0.5, "there is less than one"
    assert bucket.acquire(0.5, 100.0) == 0.0
    assert bucket.acquire(0.5) == 100.0


def test_refusals_cost_nothing() -> None:
    bucket = TokenBucket(1.0, 1, 0.0)
    assert bucket.acquire(0.0) == 0.0
    assert [bucket.acquire(0.5) for _ in range(100)] == [0.5] * 100
    assert bucket.acquire(1.0) == 0.0


# By user -----------------------------------------------------------------------------------------


def test_each_user_has_a_bucket() -> None:
    rates = UserRates(rate=10.0, burst=2)
    for user in ("alice", "bob"):
        rates.acquire(user, 0.0)
        rates.acquire(user, 0.0)
        with pytest.raises(RateLimited) as caught:
            rates.acquire(user, 0.05)
        assert caught.value.retry_in_ms == 50
    rates.acquire("alice", 0.1)


def test_the_log_names_each_user_who_floods_but_no_crowd(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rates = UserRates(rate=1.0, burst=1, setting="limits.messages_per_second")
    for number in range(1000):
        rates.acquire(f"user {number}", 0.0)
        with pytest.raises(RateLimited):
            rates.acquire(f"user {number}", 0.0)
    for _ in range(1000):
        with pytest.raises(RateLimited):
            rates.acquire("user 0", 0.0)
    [first, *others] = caplog.records
    assert first.getMessage() == "a user is refused by limits.messages_per_second"
    assert vars(first)["user"] == "user 0"
    assert (vars(first)["address"], vars(first)["topic"]) == ("unknown", "none")
    assert len(others) < 60, "one a second, however busy the machine is"
    assert "user 0" not in [vars(record)["user"] for record in others]


def test_the_log_says_where_a_flood_comes_from_and_what_it_is_about(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rates = UserRates(rate=1.0, burst=1, setting="limits.messages_per_second")
    rates.acquire("eve", 0.0)
    with pytest.raises(RateLimited):
        rates.acquire("eve", 0.0, address="192.0.2.1", topic="room:\x1b" + "x" * 200)
    [record] = caplog.records
    assert vars(record)["address"] == "192.0.2.1"
    assert vars(record)["topic"] == "room:\x1b" + "x" * 94 + "…"
    assert "\x1b" not in TextFormatter().format(record)


def test_the_log_names_the_limit_of_a_connection(caplog: pytest.LogCaptureFixture) -> None:
    limits = make_settings(limits__messages_per_connection="1/1s").limits
    users = UserRates(rate=100.0, burst=100, setting="limits.messages_per_second")
    refused: Counter[str] = Counter()
    rate = connection_rate(users, limits, "192.0.2.1", refused)
    rate.user = "eve"
    assert rate.acquire(0.0) == 0.0
    assert rate.acquire(0.0) == 1.0
    rate.note_refusal("room:a")
    assert refused == {"messages_per_connection": 1}
    [record] = caplog.records
    assert record.getMessage() == "a user is refused by limits.messages_per_connection"
    assert (vars(record)["address"], vars(record)["topic"]) == ("192.0.2.1", "room:a")


def test_only_the_latest_users_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(UserRates, "MAX_USERS", 3)
    monkeypatch.setattr(UserRates, "KEPT_USERS", 0)
    rates = UserRates(rate=1.0, burst=1)
    for user in ("a", "b", "c"):
        rates.acquire(user, 0.0)
    with pytest.raises(RateLimited):
        rates.acquire("a", 0.0)
    rates.acquire("d", 0.0)
    rates.acquire("b", 0.0)
    for user in ("a", "d", "b"):
        with pytest.raises(RateLimited):
            rates.acquire(user, 0.0)
    assert len(rates._buckets) == 3


def test_what_a_command_turned_out_to_cost_is_waited_for_later() -> None:
    rates = UserRates(rate=10.0, burst=20)
    rates.acquire("alice", 0.0)
    rates.charge("alice", 0.0, 119.0)
    with pytest.raises(RateLimited, match="too much") as caught:
        rates.acquire("alice", 0.0, what="too much was read")
    assert caught.value.retry_in_ms == 10_100
    rates.acquire("bob", 0.0)
    rates.acquire("alice", 10.2)


def test_users_are_forgotten_once_it_makes_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(UserRates, "KEPT_USERS", 0)
    rates = UserRates(rate=1.0, burst=10)
    for number in range(1_000):
        rates.acquire(f"user{number}", 0.0)
    assert len(rates._buckets) == 1_000
    for number in range(600):
        rates.acquire(f"other{number}", 2.0)
    assert len(rates._buckets) == 600
    # Those who have not paid back yet are remembered.
    rates.charge("other0", 2.0, 100.0)
    for number in range(50):
        rates.acquire(f"third{number}", 60.0)
    with pytest.raises(RateLimited):
        rates.acquire("other0", 60.0)


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.floats(0, 3), st.sampled_from([1.0, 1.0, 4.0])),
        max_size=200,
    )
)
def test_connections_that_come_and_go_have_one_rate(steps: list[tuple[int, float, float]]) -> None:
    """Whoever closes a connection and comes again, or has several, gets no more than his rate."""
    rate, burst, now, taken = 5.0, 10, 1_000.0, 0.0
    users = UserRates(rate, burst)
    connections = [_connection(users, rate, burst) for _ in range(3)]
    for which, wait, cost in steps:
        now += wait
        if which == 3:
            connections = [_connection(users, rate, burst) for _ in range(3)]
            continue
        if not connections[which].acquire(now, cost):
            taken += cost
        assert taken <= burst + (now - 1_000.0) * rate + max(0.0, cost - 1) + 1e-6


async def test_a_burst_of_reads_is_served_at_four_times_the_rate() -> None:
    """Others have their turns meanwhile; a user who read little waits for nobody."""
    clock = ManualClock()
    reads = ReadRates(UNPACED_BYTES, 100 * UNPACED_BYTES, clock)

    async def read(user: str, size: int = 0) -> None:
        async with reads.begin(user) as reading:
            reading.charge(size)

    loop = asyncio.get_running_loop()
    began = loop.time()
    await read("ada", 2 * UNPACED_BYTES)
    await asyncio.gather(read("ada"), read("ada"))
    assert loop.time() - began >= 0.24, "1 MiB too many, at 4 MiB a second"
    waiting = asyncio.create_task(read("ada"))
    other = asyncio.create_task(read("ben"))
    await asyncio.sleep(0)
    assert other.done()
    assert not waiting.done()
    clock.advance(0.4)
    later = asyncio.create_task(read("ada"))
    await asyncio.sleep(0)
    assert later.done()
    await waiting


def test_reads_that_wait_begin_one_after_another() -> None:
    """A read counts before it is known what it brings, and as that afterwards."""
    bucket = PacedBucket(UNPACED_BYTES, 100 * UNPACED_BYTES, 0.0)
    assert [bucket.reserve(0.0) for _ in range(READS_AT_ONCE)] == [0.0] * READS_AT_ONCE
    bucket.charge(UNPACED_BYTES)
    for _ in range(READS_AT_ONCE):
        bucket.free_at -= RESERVED_BYTES / bucket.pace
    step = RESERVED_BYTES / (BURST_PACE * UNPACED_BYTES)
    assert [bucket.reserve(0.0) for _ in range(3)] == [0.0, step, 2 * step]
    for _ in range(3):
        bucket.free_at -= RESERVED_BYTES / bucket.pace
    assert bucket.reserve(0.0) == 0.0


async def test_few_reads_of_one_user_are_under_way_at_once() -> None:
    """Pages that come together would be ahead of everybody else's commands together."""
    reads = ReadRates(UNPACED_BYTES, 100 * UNPACED_BYTES, ManualClock())
    reading, may_end = [], asyncio.Semaphore(0)

    async def read(user: str) -> None:
        async with reads.begin(user):
            reading.append(user)
            await may_end.acquire()

    tasks = [asyncio.create_task(read("ada")) for _ in range(3 * READS_AT_ONCE)]
    await turns()
    assert reading == ["ada"] * READS_AT_ONCE
    tasks.append(asyncio.create_task(read("ben")))
    await turns()
    assert reading[-1] == "ben"
    tasks[0].cancel()
    await turns()
    assert len(reading) == READS_AT_ONCE + 2, "a read that was given up makes room"
    for _ in tasks:
        may_end.release()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert Counter(reading) == {"ada": 3 * READS_AT_ONCE, "ben": 1}


async def test_who_has_read_the_whole_burst_is_refused_at_once() -> None:
    reads = ReadRates(1024.0, 2048, ManualClock())
    async with reads.begin("ada") as reading:
        reading.charge(4096)
    with pytest.raises(RateLimited, match="too much was read") as refused:
        reads.begin("ada")
    assert refused.value.retry_in_ms == pytest.approx(2001, abs=1)


def _connection(users: UserRates, rate: float, burst: int) -> ConnectionRate:
    connection = ConnectionRate(users, rate, burst)
    connection.user = "alice"
    return connection


def test_who_is_not_known_yet_shares_with_nobody() -> None:
    users = UserRates(1.0, 2)
    one, other = (ConnectionRate(users, 1.0, 2) for _ in range(2))
    assert [one.acquire(0.0) for _ in range(3)] == [0.0, 0.0, 1.0]
    assert other.acquire(0.0) == 0.0
    other.user = "alice"
    assert [other.acquire(0.0) for _ in range(3)] == [0.0, 0.0, 1.0]
    one.user = "alice"
    assert one.acquire(0.0) == 1.0
