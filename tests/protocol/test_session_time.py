"""Deadlines: authentication, expiry of tokens, heartbeats."""

import math

import msgspec
import pytest

from chat_server.protocol.close_codes import CloseCode
from chat_server.protocol.command_table import State
from chat_server.protocol.errors import Unauthorized
from chat_server.protocol.session import MAX_EXTENSION_SECONDS

from .harness import LIMITS, START, WELCOME, Harness

QUIET = msgspec.structs.replace(LIMITS, heartbeat_seconds=None)


def closed_with(harness: Harness) -> int | None:
    goodbyes = [m for m in harness.sent if m["type"] == "goodbye"]
    assert len(goodbyes) == harness.effects.names.count("disconnect") <= 1
    return goodbyes[0]["code"] if goodbyes else None


# Authentication --------------------------------------------------------------------------------


def test_without_auth_in_time_the_session_closes() -> None:
    harness = Harness(State.AUTHENTICATING, limits=QUIET)
    assert harness.pass_time(9.0) == 1.0
    harness.say(type="ping")
    assert harness.pass_time(0.9) == pytest.approx(0.1)
    assert closed_with(harness) is None
    assert harness.pass_time(0.1) == math.inf
    assert closed_with(harness) == CloseCode.TIMEOUT


def test_auth_in_time_opens() -> None:
    harness = Harness(State.AUTHENTICATING, limits=QUIET)
    harness.pass_time(9.9)
    harness.session.open(WELCOME, None, harness.now)
    assert harness.sent[0]["type"] == "welcome"
    assert harness.session.state is State.OPEN
    assert harness.pass_time(10_000) == math.inf


# Expiry ------------------------------------------------------------------------------------------


def test_expiry_is_told_and_then_closes() -> None:
    harness = Harness(limits=QUIET)
    harness.session.open(WELCOME, 100.0, START)
    assert harness.sent == [], "there is one welcome only"
    assert harness.pass_time(99.0) == 1.0
    assert harness.pass_time(1.0) == LIMITS.refresh_grace_seconds
    assert harness.session.state is State.EXPIRED
    (notice,) = harness.sent
    assert (notice["type"], notice["code"]) == ("error", "unauthorized")
    assert "id" not in notice
    assert harness.pass_time(LIMITS.refresh_grace_seconds - 1) == 1.0
    assert harness.pass_time(1.0) == math.inf
    assert closed_with(harness) == CloseCode.UNAUTHORIZED


@pytest.mark.parametrize("lifetime", [50.0, None])
def test_a_refresh_within_the_grace_opens_again(lifetime: float | None) -> None:
    harness = Harness(State.EXPIRED, limits=QUIET)
    harness.pass_time(LIMITS.refresh_grace_seconds - 0.5)
    harness.say(type="auth", token="t", id=1)
    harness.session.open(WELCOME, lifetime, harness.now)
    harness.succeed(1)
    assert harness.session.state is State.OPEN
    assert [message["type"] for message in harness.sent] == ["ok"]
    assert harness.pass_time(1.0) == (math.inf if lifetime is None else lifetime - 1.0)
    harness.publish(2)
    assert harness.executed == [1, 2]


def test_a_refresh_in_time_prevents_the_notice() -> None:
    harness = Harness(limits=QUIET)
    harness.session.open(WELCOME, 10.0, START)
    harness.now += 9.0
    harness.session.open(WELCOME, 10.0, harness.now)
    assert harness.pass_time(9.9) == pytest.approx(0.1)
    assert harness.sent == []


def test_a_token_that_lives_on_leeway_is_told_at_once() -> None:
    harness = Harness(limits=QUIET)
    harness.session.open(WELCOME, -3.0, START)
    assert harness.pass_time(0.0) == LIMITS.refresh_grace_seconds
    assert harness.codes == ["unauthorized"]


def test_without_grace_it_closes_on_the_next_tick() -> None:
    harness = Harness(limits=msgspec.structs.replace(QUIET, refresh_grace_seconds=0.0))
    harness.session.open(WELCOME, 5.0, START)
    assert harness.pass_time(5.0) == 0.0
    assert harness.pass_time(0.0) == math.inf
    assert closed_with(harness) == CloseCode.UNAUTHORIZED


def test_a_late_timer_still_gives_the_whole_grace() -> None:
    harness = Harness(limits=QUIET)
    harness.session.open(WELCOME, 5.0, START)
    assert harness.pass_time(500.0) == LIMITS.refresh_grace_seconds
    assert closed_with(harness) is None


def test_a_new_token_does_not_wait_for_publications() -> None:
    harness = Harness(State.EXPIRED, limits=QUIET)
    harness.session.open(WELCOME, 5.0, harness.now)
    harness.publish(1)
    assert harness.pass_time(5.0) == LIMITS.refresh_grace_seconds
    harness.say(type="auth", token="t", id=2)
    assert harness.executed == [1, 2]
    harness.publish(3)
    assert harness.executed == [1, 2], "it depends on the token"
    harness.session.open(WELCOME, None, harness.now)
    harness.succeed(2)
    assert [m for m in harness.sent if "id" in m] == []
    assert harness.pass_time(LIMITS.refresh_grace_seconds) == math.inf
    harness.succeed(1)
    assert harness.answered[-2:] == [1, 2]
    assert harness.executed == [1, 2, 3]


def test_two_tokens_are_looked_at_one_after_the_other() -> None:
    harness = Harness()
    harness.publish(1)
    harness.say(type="auth", token="t", id=2)
    harness.say(type="auth", token="u", id=3)
    assert harness.executed == [1, 2]


@pytest.mark.parametrize("why", ["paused", "not read", "waits"])
def test_the_grace_does_not_run_while_a_token_cannot_be_seen(why: str) -> None:
    harness = Harness(limits=QUIET)
    harness.session.open(WELCOME, 5.0, START)
    ids = range(1, LIMITS.max_pending_commands + 1)
    if why == "paused":
        harness.publish(*ids)
    elif why == "waits":
        harness.history(1)
        harness.say(type="auth", token="t", id=2)
    reading = why != "not read"
    grace = LIMITS.refresh_grace_seconds
    for _ in range(3):
        harness.now = START + 5.0 if harness.now == START else harness.now + grace
        assert harness.session.tick(harness.now, reading=reading) == harness.now + grace
        assert closed_with(harness) is None
    if why == "paused":
        harness.succeed(*ids)
    elif why == "waits":
        harness.succeed(1)
        harness.fail(2, Unauthorized("token: is bad"))
    # It may have come just now: there is the whole grace once more, and no longer.
    assert harness.pass_time(grace) == grace
    assert closed_with(harness) is None
    harness.pass_time(grace)
    assert closed_with(harness) == CloseCode.UNAUTHORIZED


def test_the_grace_is_not_prolonged_without_end() -> None:
    harness = Harness(limits=QUIET)
    harness.session.open(WELCOME, 5.0, START)
    harness.publish(*range(1, LIMITS.max_pending_commands + 1))
    harness.pass_time(5.0)
    waited = 0.0
    while closed_with(harness) is None:
        harness.pass_time(LIMITS.refresh_grace_seconds)
        waited += LIMITS.refresh_grace_seconds
        assert waited <= MAX_EXTENSION_SECONDS + 2 * LIMITS.refresh_grace_seconds
    assert closed_with(harness) == CloseCode.UNAUTHORIZED


def test_what_held_a_client_up_while_its_token_was_good_does_not_count() -> None:
    harness = Harness(limits=QUIET)
    harness.session.open(WELCOME, 5.0, START)
    harness.publish(*range(1, LIMITS.max_pending_commands + 1))
    harness.pass_time(1.0)
    harness.succeed(*range(1, LIMITS.max_pending_commands + 1))
    harness.pass_time(4.0)
    harness.pass_time(LIMITS.refresh_grace_seconds)
    assert closed_with(harness) == CloseCode.UNAUTHORIZED


# Heartbeat -------------------------------------------------------------------------------------

BEAT, PONG = 25.0, LIMITS.pong_timeout_seconds


def pings(harness: Harness) -> int:
    return harness.effects.names.count("ping")


def test_a_silent_client_is_pinged_and_then_closed() -> None:
    harness = Harness()
    assert harness.pass_time(BEAT - 1) == 1.0
    assert pings(harness) == 0
    assert harness.pass_time(1.0) == PONG
    assert pings(harness) == 1
    assert harness.pass_time(PONG - 1) == 1.0
    assert pings(harness) == 1
    assert harness.pass_time(1.0) == math.inf
    assert closed_with(harness) == CloseCode.TIMEOUT


@pytest.mark.parametrize(
    "sign", [b'{"type":"publish","topic":"a","data":1}', b"{", b'{"type":"nope"}', None]
)
def test_any_sign_of_life_counts(sign: bytes | None) -> None:
    harness = Harness()

    def live() -> None:
        if sign is None:
            harness.session.touch(harness.now)
        else:
            harness.raw(sign)

    harness.pass_time(BEAT - 1)
    live()
    assert harness.pass_time(BEAT - 1) == 1.0
    assert pings(harness) == 0
    assert harness.pass_time(1.0) == PONG
    harness.now += PONG - 0.5
    live()
    assert harness.pass_time(0.5) == BEAT - 0.5
    assert closed_with(harness) is None
    harness.pass_time(BEAT - 0.5)
    assert pings(harness) == 2


def test_a_late_timer_pings_before_it_closes() -> None:
    harness = Harness()
    assert harness.pass_time(10_000) == PONG
    assert pings(harness) == 1


def test_the_nearest_deadline_is_told() -> None:
    harness = Harness()
    harness.session.open(WELCOME, 5.0, START)
    assert harness.pass_time(1.0) == 4.0
    harness.session.open(WELCOME, 500.0, harness.now)
    assert harness.pass_time(1.0) == BEAT - 2.0


def test_without_heartbeat_nobody_is_pinged() -> None:
    harness = Harness(limits=QUIET)
    assert harness.pass_time(10_000) == math.inf
    assert pings(harness) == 0


def test_a_client_that_is_not_read_cannot_be_found_silent() -> None:
    harness = Harness()
    harness.publish(*range(1, LIMITS.max_pending_commands + 1))
    for _ in range(10):
        harness.pass_time(BEAT)
    assert "pause" in harness.effects.names
    assert closed_with(harness) is None
    harness.succeed(*range(1, LIMITS.max_pending_commands + 1))
    assert "resume" in harness.effects.names
    harness.pass_time(BEAT)
    harness.pass_time(PONG)
    assert closed_with(harness) == CloseCode.TIMEOUT


def test_a_client_whose_transport_is_full_is_not_read_either() -> None:
    harness = Harness()
    harness.pass_time(BEAT)
    harness.now += PONG
    harness.session.tick(harness.now, reading=False)
    assert closed_with(harness) is None
    assert harness.pass_time(BEAT - 1) == 1.0
