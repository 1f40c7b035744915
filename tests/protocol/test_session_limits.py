"""Strikes, the rate of commands and flow control: what a session asks of a client."""

from typing import Any
from unittest.mock import patch

import msgspec
import pytest

from chat_server.protocol.close_codes import CloseCode
from chat_server.protocol.codecs import JSON, MSGPACK, Codec
from chat_server.protocol.command_table import State
from chat_server.protocol.errors import Internal
from chat_server.protocol.session import (
    BYTES_PER_COUNT,
    FORGIVEN,
    MAX_REJECTED,
    STRIKE_WINDOW_SECONDS,
    STRIKES,
)

from .harness import LIMITS, Harness, ok


class Scripted:
    """A rate limit that makes commands wait as it is told."""

    def __init__(self, wait: float = 0.0) -> None:
        self.wait = wait
        self.costs: list[float] = []
        self.told: list[str] = []

    def acquire(self, now: float, cost: float = 1.0) -> float:
        self.costs.append(cost)
        return self.wait

    def note_refusal(self, topic: str) -> None:
        self.told.append(topic)


# Strikes ---------------------------------------------------------------------------------------


def test_the_tenth_strike_within_a_minute_closes() -> None:
    harness = Harness()
    for count in range(1, STRIKES + 1):
        assert harness.session.state is State.OPEN
        harness.raw(b"[]")
        assert len(harness.codes) == min(count, STRIKES - 1)
        harness.now += STRIKE_WINDOW_SECONDS / (STRIKES - 1) - 0.01
    assert harness.sent[-1]["type"] == "goodbye"
    assert harness.sent[-1]["code"] == CloseCode.PROTOCOL_VIOLATION


def test_strikes_spread_over_more_than_a_minute_do_not_close() -> None:
    harness = Harness()
    for _ in range(STRIKES * 5):
        harness.raw(b"[]")
        harness.now += STRIKE_WINDOW_SECONDS / (STRIKES - 1) + 0.01
    assert len(harness.codes) == STRIKES * 5
    assert not harness.session.closed


def test_strikes_long_ago_do_not_count() -> None:
    harness = Harness()
    for _ in range(3):
        for _ in range(STRIKES - 1):
            harness.raw(b"[]")
        harness.now += STRIKE_WINDOW_SECONDS + 0.01
    assert not harness.session.closed


@pytest.mark.parametrize(
    "payload",
    [b'{"type":"nope"}', b"{}", b'{"type":"publish","topic":"a","data":1e999}', b'{"id":0}'],
)
def test_maps_that_break_a_rule_are_no_strikes(payload: bytes) -> None:
    harness = Harness()
    for _ in range(STRIKES * 3):
        harness.raw(payload)
    assert harness.codes == ["bad_request"] * STRIKES * 3


def test_strikes_count_before_authentication_too() -> None:
    harness = Harness(State.AUTHENTICATING)
    for _ in range(STRIKES):
        harness.raw(b"")
    assert harness.session.closed


# Rates -----------------------------------------------------------------------------------------


def test_what_comes_too_fast_is_told_when_to_come_back() -> None:
    rate_limit = Scripted(0.0101)
    harness = Harness(rate_limit=rate_limit)
    harness.publish(1)
    rate_limit.wait = 1e-9
    harness.say(type="ping")
    rate_limit.wait = 0.0
    harness.publish(3)
    assert harness.executed == [3]
    (first, second) = harness.sent
    assert (first["id"], first["code"], first["retry_in_ms"]) == (1, "rate_limited", 11)
    assert "id" not in second
    assert second["retry_in_ms"] == 1


@pytest.mark.parametrize(("size", "cost"), [(100, 1), (4_000, 1), (5_000, 2), (65_000, 16)])
def test_large_messages_count_more(size: int, cost: int) -> None:
    rate_limit = Scripted()
    harness = Harness(rate_limit=rate_limit)
    harness.say(type="publish", topic="a", data="x" * size)
    assert rate_limit.costs == [cost]


def test_data_that_will_not_be_used_is_not_looked_at() -> None:
    command = b'{"type":"publish","topic":"a","id":4,"data":1e999}'
    for state, wait, code in (
        (State.OPEN, 0.0, "bad_request"),
        (State.OPEN, 1.0, "rate_limited"),
        (State.AUTHENTICATING, 0.0, "unauthorized"),
    ):
        with patch.object(JSON, "json_data", wraps=JSON.json_data) as checked:
            harness = Harness(state, rate_limit=Scripted(wait))
            harness.raw(command)
        assert (harness.codes, harness.answered) == ([code], [4])
        assert checked.called is (code == "bad_request")


@pytest.mark.parametrize("payload", [b'{"type":"nope","id":4}', b"[]"])
def test_bad_messages_count_as_well(payload: bytes) -> None:
    harness = Harness(rate_limit=Scripted(1.0))
    harness.raw(payload)
    assert harness.codes == ["rate_limited"]
    assert harness.answered == [4 if b"id" in payload else None]
    harness = Harness(rate_limit=Scripted(1.0))
    for _ in range(MAX_REJECTED):
        harness.raw(b"{}")
    assert harness.sent[-1]["code"] == CloseCode.TOO_MANY


def test_rejections_keep_their_place_in_the_order() -> None:
    rate_limit = Scripted()
    harness = Harness(rate_limit=rate_limit)
    harness.history(1)
    rate_limit.wait = 1.0
    harness.history(2)
    rate_limit.wait = 0.0
    harness.history(3)
    assert harness.answered == []
    harness.succeed(1)
    assert harness.answered == [1, 2]
    assert harness.executed == [1, 3]


def test_ignoring_it_a_thousand_times_closes() -> None:
    rate_limit = Scripted(0.5)
    harness = Harness(rate_limit=rate_limit)
    for _ in range(MAX_REJECTED - 1):
        harness.publish(1)
    rate_limit.wait = 0.0
    harness.publish(2)
    rate_limit.wait = 0.5
    for _ in range(FORGIVEN):
        harness.say(type="ping")
    assert "disconnect" not in harness.effects.names
    harness.say(type="ping")
    assert harness.sent[-1]["code"] == CloseCode.TOO_MANY
    assert harness.effects.names[-2:] == ["send", "disconnect"]


def test_some_times_too_fast_is_never_closed_but_a_hundred_times_is() -> None:
    for times, closes in ((FORGIVEN, False), (100, True)):
        rate_limit = Scripted()
        harness = Harness(rate_limit=rate_limit)
        for number in range(3 * MAX_REJECTED):
            rate_limit.wait = 0.5 if number % times else 0.0
            harness.say(type="ping")
        assert ("disconnect" in harness.effects.names) is closes


@pytest.mark.parametrize("codec", [JSON, MSGPACK])
def test_the_first_subscriptions_of_a_connection_are_free(codec: Codec) -> None:
    rate_limit = Scripted()
    harness = Harness(codec=codec, rate_limit=rate_limit)
    for number, topic in enumerate(("a", "b", "b")):
        harness.say(type="subscribe", topic=topic, id=2 * number + 1)
        harness.succeed(2 * number + 1)
        harness.say(type="unsubscribe", topic=topic, id=2 * number + 2)
        harness.succeed(2 * number + 2)
    assert rate_limit.costs == [1, 1, 1], "only what is no subscription"
    harness.say(type="subscribe", topic="a", id=9)
    assert rate_limit.costs == [1, 1, 1, 1], "one after as many as there may be topics"


@pytest.mark.parametrize(
    "command",
    [
        {"type": "publish", "topic": "a", "data": "subscribe"},
        {"type": "subscribe", "topic": 1},
        {"type": "subscribe", "topic": "a", "filler": "x" * BYTES_PER_COUNT},
    ],
    ids=["another", "bad", "large"],
)
def test_nothing_else_is_free(command: dict[str, Any]) -> None:
    harness = Harness(rate_limit=Scripted(1.0))
    harness.say(**command)
    assert harness.codes == ["rate_limited"]


def test_a_refused_subscription_is_not_remembered() -> None:
    rate_limit = Scripted(1.0)
    harness = Harness(rate_limit=rate_limit, limits=msgspec.structs.replace(LIMITS, max_topics=1))
    harness.say(type="subscribe", topic="b")
    harness.fail(None, Internal("no"))
    harness.say(type="subscribe", topic="a", id=1)
    assert harness.session.topics == set()


# Flow control ------------------------------------------------------------------------------------

LIMIT = LIMITS.max_pending_commands


def flow(harness: Harness) -> list[str]:
    return [name for name in harness.effects.names if name in ("pause", "resume")]


def test_reading_pauses_at_the_limit_and_goes_on_at_half_of_it() -> None:
    harness = Harness()
    harness.publish(*range(1, LIMIT))
    assert flow(harness) == []
    harness.publish(LIMIT)
    assert flow(harness) == ["pause"]
    # What is on its way already is taken, and changes nothing.
    harness.publish(LIMIT + 1)
    for id in range(1, LIMIT // 2 + 1):
        harness.succeed(id)
    assert flow(harness) == ["pause"]
    harness.succeed(LIMIT // 2 + 1)
    assert flow(harness) == ["pause", "resume"]
    harness.succeed(*range(LIMIT // 2 + 2, LIMIT + 2))
    assert flow(harness) == ["pause", "resume"]
    assert harness.answered == [*range(1, LIMIT + 2)]


def test_what_is_done_but_not_answered_still_counts() -> None:
    harness = Harness()
    harness.publish(*range(1, LIMIT + 1))
    harness.succeed(*range(2, LIMIT + 1))
    assert flow(harness) == ["pause"]
    harness.succeed(1)
    assert flow(harness) == ["pause", "resume"]


def test_waiting_commands_count() -> None:
    harness = Harness()
    harness.history(*range(1, LIMIT + 1))
    assert flow(harness) == ["pause"]
    for id in range(1, LIMIT + 1):
        harness.succeed(id)
    assert flow(harness) == ["pause", "resume"]
    assert harness.answered == [*range(1, LIMIT + 1)]


def test_rejections_behind_a_running_command_count() -> None:
    rate_limit = Scripted()
    harness = Harness(rate_limit=rate_limit)
    harness.history(1)
    rate_limit.wait = 1.0
    for _ in range(LIMIT):
        harness.raw(b"{}")
    assert flow(harness) == ["pause"]


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_small_limits_never_stop_for_ever(limit: int) -> None:
    harness = Harness(limits=msgspec.structs.replace(LIMITS, max_pending_commands=limit))
    for id in range(1, 20):
        assert flow(harness)[-1:] != ["pause"]
        harness.publish(id)
        harness.succeed(id)
    assert len(harness.answered) == 19


def test_a_synchronous_command_never_pauses() -> None:
    harness = Harness(limits=msgspec.structs.replace(LIMITS, max_pending_commands=1))
    harness.effects.carry_out = lambda pending, _: harness.session.succeed(pending, ok())
    harness.history(1, 2, 3)
    assert flow(harness) == []


def test_a_closed_session_changes_no_flow() -> None:
    harness = Harness()
    harness.publish(*range(1, LIMIT + 1))
    harness.session.close(CloseCode.NORMAL, "")
    for id in range(1, LIMIT + 1):
        harness.fail(id, Internal("no"))
    assert flow(harness) == ["pause"]
