"""Rates of topics, over every store; and the algorithm against a model."""

import asyncio
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_server.changes import Append, Outcome
from chat_server.protocol.errors import RateLimited
from chat_server.rates import Charge, Rate, admit

from .helpers import TOPIC, Store, draft
from .test_changes import append, appended, edit, react, say

HOUR = 3_600_000.0


def charge(name: str = "messages", count: int = 3, cost: int = 1) -> Charge:
    """Return what an event counts against a rate that lets `count` pass in an hour."""
    return Charge(name, HOUR / count, HOUR, cost, "too many")


def rated(text: str, *charges: Charge, **more: Any) -> Any:
    return msgspec.structs.replace(draft(text, **more), charges=charges)


class TestPublications:
    async def test_so_many_pass_and_the_next_hears_how_long_to_wait(self, store: Store) -> None:
        broker, _ = await store.start()
        for number in range(3):
            await broker.publish(rated(str(number), charge()))
        with pytest.raises(RateLimited, match=r"^topic: too many$") as refused:
            await broker.publish(rated("3", charge()))
        assert HOUR / 3 - 60_000 < (refused.value.retry_in_ms or 0) <= HOUR / 3 + 1
        assert refused.value.topic == TOPIC
        assert (await broker.history(TOPIC, limit=9)).seq == 3

    async def test_another_rate_and_another_topic_are_not_concerned(self, store: Store) -> None:
        broker, _ = await store.start()
        await broker.publish(rated("ann", charge("messages:ann", 1)))
        await broker.publish(rated("bob", charge("messages:bob", 1)))
        await broker.publish(rated("ann", charge("messages:ann", 1), topic="room:other"))
        with pytest.raises(RateLimited):
            await broker.publish(rated("ann", charge("messages:ann", 1)))

    async def test_what_one_rate_refuses_counts_against_no_other(self, store: Store) -> None:
        broker, _ = await store.start()
        await broker.publish(rated("1", charge("user", 1), charge("topic", 2)))
        for _ in range(3):
            with pytest.raises(RateLimited):
                await broker.publish(rated("2", charge("topic", 2), charge("user", 1)))
        await broker.publish(rated("3", charge("topic", 2)))

    async def test_a_repetition_is_a_duplicate_and_counts_once(self, store: Store) -> None:
        broker, _ = await store.start()
        first = await broker.publish(rated("1", charge(count=1), key="k"))
        again = await broker.publish(rated("1", charge(count=1), key="k"))
        assert (again.seq, again.duplicate) == (first.seq, True)
        with pytest.raises(RateLimited):
            await broker.publish(rated("2", charge(count=1), key="l"))
        with pytest.raises(RateLimited):
            await broker.publish(rated("2", charge(count=1), key="l"))

    async def test_one_dear_event_passes_and_delays_those_behind_it(self, store: Store) -> None:
        broker, _ = await store.start()
        await broker.publish(rated("large", charge(count=10, cost=25)))
        with pytest.raises(RateLimited) as refused:
            await broker.publish(rated("small", charge(count=10)))
        wait = refused.value.retry_in_ms or 0
        assert HOUR * 1.6 - 60_000 < wait <= HOUR * 1.6 + 1

    async def test_a_rate_recovers(self, store: Store) -> None:
        broker, _ = await store.start()
        brief = Charge("messages", 50.0, 50.0, 1, "too many")
        await broker.publish(rated("1", brief))
        await store.elapse(0.1)
        await broker.publish(rated("2", brief))

    async def test_workers_share_a_rate(self, shared_store: Store) -> None:
        brokers = [(await shared_store.start())[0] for _ in range(2)]
        answers = await asyncio.gather(
            *(broker.publish(rated("x", charge(count=5))) for broker in brokers * 10),
            return_exceptions=True,
        )
        assert sum(isinstance(answer, RateLimited) for answer in answers) == 15
        assert (await brokers[0].history(TOPIC, limit=9)).seq == 5


class TestChanges:
    async def test_changes_are_refused_and_change_nothing(self, store: Store) -> None:
        broker, _ = await store.start()
        target = await say(broker)
        for change in (edit(target, "new"), react(target)):
            one = msgspec.structs.replace(change, charges=(charge(str(change.kind), 1),))
            assert (await broker.change(one)).outcome is Outcome.STORED
            refused = await broker.change(one)
            assert refused.outcome is Outcome.RATE_LIMITED
            assert refused.limited is not None
            assert refused.limited.what == "too many"
        assert (await broker.history(TOPIC, limit=9)).seq == target + 2

    async def test_appends_with_keys_count_once(self, store: Store) -> None:
        broker, _ = await store.start()
        target = await say(broker, {"text": ""})
        bytes_ = charge("bytes", count=8, cost=8)

        def more(*texts: str, **keys: Any) -> Append:
            made = append(target, *texts, **keys)
            return msgspec.structs.replace(made, charges=(bytes_,))

        free = append(target, "0")
        assert (await appended(broker, free)).outcome is Outcome.STORED
        assert (await broker.change(more("1", "2", keys=["a", "b"]))).outcome is Outcome.STORED
        again = await broker.change(more("1", "2", keys=["a", "b"]))
        assert [place.duplicate for place in again.places] == [True, True]
        # A piece without a key is new, whatever it is sent with.
        refused = await broker.change(more("1", "3", keys=["a", None]))
        assert refused.outcome is Outcome.RATE_LIMITED


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("", None),
        ("30/1m", Rate(30, 60.0)),
        ("1/10s", Rate(1, 10.0)),
        ("5/250ms", Rate(5, 0.25)),
        ("7/2h", Rate(7, 7_200.0)),
    ],
)
def test_a_setting_says_how_many_in_what_time(text: str, rate: Rate | None) -> None:
    assert Rate.parse(text) == rate


@given(
    count=st.integers(1, 20),
    events=st.lists(st.tuples(st.integers(0, 2_000), st.integers(1, 30)), max_size=60),
)
def test_it_lets_pass_what_a_bucket_of_tokens_does(
    count: int, events: list[tuple[int, int]]
) -> None:
    window = 1_000.0
    until, now, tokens = 0.0, 1.0e12, float(count)
    for pause, cost in events:
        now += pause
        tokens = min(float(count), tokens + pause * count / window)
        used, wait = admit(until, now, Charge("", window / count, window, cost, ""))
        if abs(tokens - 1) < 1e-6:
            # Too near to tell apart in floating point: the model follows.
            tokens -= cost if wait == 0 else 0
        elif tokens > 1:
            assert wait == 0
            tokens -= cost
        else:
            assert wait == pytest.approx((1 - tokens) * window / count, abs=0.1)
            assert used == until
        until = used
