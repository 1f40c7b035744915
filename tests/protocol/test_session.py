"""Which commands a session takes when, and in what order it answers them."""

from functools import partial
from typing import Any

import pytest

from chat_server.protocol.close_codes import CloseCode
from chat_server.protocol.codecs import JSON, MSGPACK
from chat_server.protocol.command_table import State
from chat_server.protocol.commands import Command, Subscribe
from chat_server.protocol.effects import Pending
from chat_server.protocol.errors import Forbidden, Internal, Unavailable

from .harness import LIMITS, START, WELCOME, Harness, ok

COMMANDS: dict[str, dict[str, Any]] = {
    "auth": {"type": "auth", "token": "t"},
    "subscribe": {"type": "subscribe", "topic": "a"},
    "unsubscribe": {"type": "unsubscribe", "topic": "mine"},
    "publish": {"type": "publish", "topic": "a", "data": 1},
    "signal": {"type": "signal", "topic": "a", "data": 1},
    "history": {"type": "history", "topic": "a"},
    "ping": {"type": "ping"},
}

EXECUTED = "executed"
"""What becomes of a command that is neither refused nor answered by the session itself."""

OUTCOMES = {
    **{(State.AUTHENTICATING, name): "unauthorized" for name in COMMANDS},
    (State.AUTHENTICATING, "auth"): EXECUTED,
    (State.AUTHENTICATING, "ping"): "pong",
    **{(State.OPEN, name): EXECUTED for name in COMMANDS},
    (State.OPEN, "ping"): "pong",
    **{(State.EXPIRED, name): "unauthorized" for name in COMMANDS},
    (State.EXPIRED, "auth"): EXECUTED,
    (State.EXPIRED, "unsubscribe"): EXECUTED,
    (State.EXPIRED, "ping"): "pong",
}
"""Anything else has none."""


class OnlyTheFirst:
    """A rate limit that lets one command pass."""

    def __init__(self) -> None:
        self.count = 0

    def acquire(self, now: float, cost: float = 1.0) -> float:
        self.count += 1
        return 0.0 if self.count == 1 else 1.0

    def note_refusal(self, topic: str) -> None:
        pass


@pytest.mark.parametrize("id", [None, 7])
@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("state", State)
def test_state_by_command(state: State, name: str, id: int | None) -> None:
    harness = Harness(state, topics=("mine",))
    harness.say(**COMMANDS[name], **({} if id is None else {"id": id}))
    outcome = OUTCOMES.get((state, name))
    if outcome == EXECUTED:
        assert harness.executed == [id]
        assert harness.sent == []
        return
    assert harness.executed == []
    if outcome is None:
        assert harness.sent == []
        return
    (message,) = harness.sent
    assert message.get("id", None) == id
    assert ("id" in message) is (id is not None)
    assert message["type"] == ("pong" if outcome == "pong" else "error")
    assert message.get("code", "pong") == outcome


@pytest.mark.parametrize("state", State)
def test_what_is_no_command(state: State) -> None:
    harness = Harness(state)
    harness.raw(b'{"type":"nope","id":3}')
    harness.raw(b"{")
    closed = state is State.CLOSED
    assert harness.codes == ([] if closed else ["bad_request", "bad_request"])
    assert harness.answered == ([] if closed else [3, None])


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ({"type": "subscribe", "topic": "a b"}, "bad_request"),
        ({"type": "subscribe", "topic": "mine"}, "already_subscribed"),
        ({"type": "unsubscribe", "topic": "other"}, "not_subscribed"),
        ({"type": "unsubscribe", "topic": "a/b"}, "bad_request"),
    ],
)
def test_commands_that_are_refused_when_open(command: dict[str, Any], code: str) -> None:
    harness = Harness(topics=("mine",))
    harness.say(**command, id=1)
    assert (harness.codes, harness.executed) == ([code], [])
    assert harness.session.topics == {"mine"}


def test_history_may_begin_at_either_end() -> None:
    harness = Harness()
    harness.say(type="history", topic="a", before=0, id=1)
    harness.succeed(1)
    harness.say(type="history", topic="a", after=0, id=2)
    assert harness.executed == [1, 2]


# Topics --------------------------------------------------------------------------------------


def subscribe(harness: Harness, topic: str, id: int) -> None:
    harness.say(type="subscribe", topic=topic, id=id)


def test_topics_follow_the_commands() -> None:
    harness = Harness()
    subscribe(harness, "a", 1)
    assert harness.session.topics == {"a"}
    harness.succeed(1)
    subscribe(harness, "a", 2)
    assert harness.codes == ["already_subscribed"]
    harness.say(type="unsubscribe", topic="a", id=3)
    assert harness.session.topics == set()
    harness.succeed(3)
    subscribe(harness, "a", 4)
    assert harness.executed == [1, 3, 4]


def test_a_subscription_that_fails_leaves_its_place_free() -> None:
    harness = Harness(topics=("x", "y"))
    subscribe(harness, "a", 1)
    harness.fail(1, Forbidden("no"))
    subscribe(harness, "a", 2)
    assert harness.executed == [1, 2]
    assert harness.codes == ["forbidden"]


def test_there_is_a_limit_to_topics() -> None:
    harness = Harness(topics=("x", "y"))
    subscribe(harness, "a", 1)
    harness.succeed(1)
    subscribe(harness, "b", 2)
    assert harness.codes == ["too_many_topics"]
    assert harness.sent[-1]["topic"] == "b"
    harness.say(type="unsubscribe", topic="x", id=3)
    harness.succeed(3)
    subscribe(harness, "b", 4)
    assert harness.executed == [1, 3, 4]


def test_a_failed_second_subscription_keeps_the_first() -> None:
    harness = Harness(topics=("a",))
    subscribe(harness, "a", 1)
    harness.say(type="subscribe", topic="a", last=1, since={"epoch": "e", "seq": 1}, id=2)
    assert harness.session.topics == {"a"}


def test_dropping_a_topic_tells_the_client_without_an_id() -> None:
    harness = Harness(topics=("a", "b"))
    harness.session.drop_topic("a", Forbidden("not any more"))
    assert harness.session.topics == {"b"}
    assert harness.sent == [
        {"type": "error", "code": "forbidden", "message": "not any more", "topic": "a"}
    ]


# The order of answers ------------------------------------------------------------------------


def test_publications_overlap_and_are_answered_in_order() -> None:
    harness = Harness()
    harness.publish(1, 2, 3)
    harness.say(type="signal", topic="a", data=1, id=4)
    assert harness.executed == [1, 2, 3, 4]
    harness.succeed(4, 3)
    harness.fail(2, Unavailable("later", retry_in_ms=5))
    assert harness.answered == []
    harness.succeed(1)
    assert harness.answered == [1, 2, 3, 4]
    assert harness.sent[1] == {
        "type": "error",
        "id": 2,
        "code": "unavailable",
        "message": "later",
        "retry_in_ms": 5,
    }


@pytest.mark.parametrize("name", ["subscribe", "unsubscribe", "history"])
def test_other_commands_run_alone(name: str) -> None:
    harness = Harness(topics=("mine",))
    harness.publish(1, 2)
    harness.say(**COMMANDS[name], id=3)
    harness.publish(4)
    harness.say(**COMMANDS["history"], id=6)
    assert harness.executed == [1, 2]
    harness.succeed(2)
    assert harness.executed == [1, 2], "the first is not done yet"
    harness.succeed(1)
    assert harness.executed == [1, 2, 3]
    harness.succeed(3)
    assert harness.executed == [1, 2, 3, 4]
    assert harness.answered == [1, 2, 3]
    harness.succeed(4)
    assert harness.executed == [1, 2, 3, 4, 6]
    assert harness.answered == [1, 2, 3, 4]


@pytest.mark.parametrize("before", ["publish", "history", "subscribe"])
def test_a_ping_is_answered_at_once_whatever_waits(before: str) -> None:
    """A client that asks for a sign of life would take a late answer for none."""
    harness = Harness()
    harness.say(**COMMANDS[before], id=1)
    harness.history(2)
    harness.say(type="ping", id=3)
    harness.say(type="ping")
    assert harness.sent == [{"type": "pong", "id": 3}, {"type": "pong"}]
    harness.succeed(1)
    harness.succeed(2)
    assert harness.answered == [3, None, 1, 2]


def test_a_ping_that_comes_too_fast_is_refused_in_its_turn() -> None:
    harness = Harness(rate_limit=OnlyTheFirst())
    harness.history(1)
    harness.say(type="ping", id=2)
    assert harness.sent == []
    harness.succeed(1)
    assert harness.answered == [1, 2]
    assert harness.codes == ["rate_limited"]


def test_errors_keep_their_place() -> None:
    harness = Harness()
    harness.history(1)
    harness.raw(b'{"type":"nope","id":2}')
    harness.raw(b"{")
    harness.say(type="unsubscribe", topic="a/b", id=4)
    harness.publish(5)
    assert harness.answered == []
    harness.succeed(1)
    assert harness.answered == [1, 2, None, 4]
    harness.succeed(5)
    assert harness.answered == [1, 2, None, 4, 5]


def test_a_command_sees_what_the_one_before_it_did() -> None:
    harness = Harness()
    subscribe(harness, "a", 1)
    subscribe(harness, "a", 2)
    harness.say(type="unsubscribe", topic="a", id=3)
    assert harness.codes == [], "nobody knows yet whether the first succeeds"
    harness.fail(1, Forbidden("no"))
    assert harness.executed == [1, 2]
    harness.succeed(2)
    assert harness.executed == [1, 2, 3]


def test_a_command_waits_for_the_auth_before_it() -> None:
    harness = Harness(State.AUTHENTICATING)
    harness.say(**COMMANDS["auth"], id=1)
    harness.publish(2)
    assert harness.executed == [1]
    harness.session.open(WELCOME, None, START)
    harness.succeed(1)
    assert harness.executed == [1, 2]
    assert [message["type"] for message in harness.sent] == ["welcome", "ok"]


def test_what_waits_when_the_token_expires_is_refused() -> None:
    harness = Harness()
    harness.history(1, 2)
    harness.session.open(WELCOME, 5.0, START)
    harness.pass_time(5.0)
    harness.succeed(1)
    assert [message.get("id") for message in harness.sent] == [None, 1, 2]
    assert harness.codes == ["unauthorized", "unauthorized"]


def test_silent_success_and_errors_without_id() -> None:
    harness = Harness()
    for _ in range(2):
        harness.say(type="publish", topic="a", data=1)
    first, second = (pending for pending, _ in harness.effects.executed)
    harness.session.succeed(first, ok())
    assert harness.sent == []
    harness.session.fail(second, Forbidden("no", topic="a"))
    assert harness.sent == [{"type": "error", "code": "forbidden", "message": "no", "topic": "a"}]


def test_the_same_id_twice_is_answered_twice() -> None:
    harness = Harness()
    harness.publish(1, 1)
    for pending, _ in harness.effects.executed:
        harness.session.succeed(pending, ok())
    assert harness.answered == [1, 1]


def test_commands_may_be_done_before_execute_returns() -> None:
    harness = Harness()
    session = harness.session

    def carry_out(pending: Pending, command: Command) -> None:
        if isinstance(command, Subscribe):
            session.fail(pending, Internal("no"))
        else:
            session.succeed(pending, ok(), after=partial(harness.effects.calls.append, ("after",)))

    harness.effects.carry_out = carry_out
    harness.history(1)
    subscribe(harness, "a", 2)
    harness.publish(3)
    assert harness.answered == [1, 2, 3]
    assert harness.session.topics == set()
    assert harness.effects.names == [
        *("execute", "send", "after"),
        *("execute", "send"),
        *("execute", "send", "after"),
    ]


def test_many_done_at_once_do_not_recurse() -> None:
    harness = Harness()
    harness.effects.carry_out = lambda pending, _: harness.session.succeed(pending, ok())
    harness.history(0)
    blocked = Harness()
    blocked.history(1)
    for id in range(2, 3_000):
        blocked.history(id)
    blocked.effects.carry_out = lambda pending, _: blocked.session.succeed(pending, ok())
    blocked.succeed(1)
    assert blocked.answered == list(range(1, 3_000))


def test_after_runs_right_behind_its_answer() -> None:
    harness = Harness()
    seen: list[Any] = []

    def after() -> None:
        seen.append(harness.sent[-1]["id"])
        harness.session.drop_topic("a", Forbidden("told in after"))

    harness.history(1)
    harness.history(2)
    harness.succeed(1, after=after)
    assert seen == [1]
    assert [call[0] for call in harness.effects.calls] == ["execute", "send", "send", "execute"]


def test_after_runs_for_a_silent_success_too() -> None:
    harness = Harness()
    harness.say(type="history", topic="a")
    harness.succeed(None, after=partial(harness.effects.calls.append, ("after",)))
    assert harness.effects.names == ["execute", "after"]


# The end ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [State.AUTHENTICATING, State.OPEN, State.EXPIRED])
def test_goodbye_comes_before_the_close(state: State) -> None:
    harness = Harness(state)
    harness.session.close(CloseCode.RESTART, "restarting", reconnect_in_ms=7)
    goodbye = {"type": "goodbye", "code": 1012, "reason": "restarting", "reconnect_in_ms": 7}
    assert harness.effects.calls == [
        ("send", goodbye),
        ("disconnect", CloseCode.RESTART, "restarting"),
    ]
    assert harness.session.closed


def test_who_is_dismissed_gets_its_answers_first() -> None:
    harness = Harness()
    harness.publish(1)
    harness.session.close_gracefully(CloseCode.RESTART, "restarting", 7)
    assert harness.effects.names == ["execute", "stop_reading"]
    harness.succeed(1)
    assert not harness.session.closed, "closed before all that was read has been received"
    harness.publish(2)
    harness.history(3)
    harness.session.on_remote_close()
    harness.publish(4)
    harness.succeed(2)
    assert not harness.session.closed, "closed before it was answered"
    harness.fail(3, Unavailable("no"))
    goodbye = {"type": "goodbye", "code": 1012, "reason": "restarting", "reconnect_in_ms": 7}
    assert harness.answered == [1, 2, 3]
    assert harness.effects.calls[-2:] == [
        ("send", goodbye),
        ("disconnect", CloseCode.RESTART, "restarting"),
    ]
    assert harness.executed == [1, 2, 3], "taken after the end had been decided"


def test_the_first_dismissal_counts() -> None:
    harness = Harness(State.AUTHENTICATING)
    harness.session.close_gracefully(CloseCode.RESTART, "restarting", 7)
    harness.session.close_gracefully(CloseCode.RESTART, "again", 8)
    harness.session.on_remote_close()
    harness.session.close_gracefully(CloseCode.RESTART, "and again", 9)
    assert harness.effects.names == ["stop_reading", "send", "disconnect"]
    assert harness.sent[0]["reconnect_in_ms"] == 7


def test_more_is_taken_from_who_is_dismissed_once_there_is_room() -> None:
    harness = Harness()
    limit = LIMITS.max_pending_commands
    harness.publish(*range(1, limit + 1))
    harness.session.close_gracefully(CloseCode.RESTART, "restarting", 7)
    harness.succeed(*range(1, limit + 1))
    assert [n for n in harness.effects.names if n in ("pause", "resume")] == ["pause", "resume"]


def test_nothing_comes_after_the_end() -> None:
    harness = Harness(topics=("b",))
    harness.publish(1)
    harness.history(2)
    harness.session.close(CloseCode.NORMAL, "")
    del harness.effects.calls[:]
    harness.session.close(CloseCode.INTERNAL, "again")
    harness.succeed(1, after=partial(harness.effects.calls.append, ("after",)))
    harness.fail(1, Internal("no"))
    harness.publish(3)
    harness.raw(b"", binary=True)
    harness.session.open(WELCOME, None, harness.now)
    harness.session.drop_topic("b", Forbidden("no"))
    harness.session.touch(harness.now)
    assert harness.pass_time(1_000) == float("inf")
    assert harness.session.state is State.CLOSED
    assert harness.effects.calls == []


def test_a_command_may_close_the_session_it_runs_in() -> None:
    harness = Harness(State.AUTHENTICATING)
    harness.effects.carry_out = lambda *_: harness.session.close(CloseCode.UNAUTHORIZED, "no")
    harness.say(**COMMANDS["auth"], id=1)
    harness.publish(2)
    assert harness.effects.names == ["execute", "send", "disconnect"]


def test_what_was_said_before_a_remote_close_is_carried_out() -> None:
    harness = Harness()
    harness.history(1)
    harness.publish(2)
    harness.session.on_remote_close()
    assert harness.session.state is State.OPEN
    harness.succeed(1)
    assert harness.executed == [1, 2]
    assert harness.session.state is State.OPEN
    harness.succeed(2)
    assert harness.answered == [1, 2]
    assert harness.session.closed
    assert harness.effects.calls[-1] == ("disconnect", CloseCode.NORMAL, "")


def test_a_remote_close_with_nothing_to_do_ends_at_once_and_without_goodbye() -> None:
    harness = Harness()
    harness.session.on_remote_close()
    assert harness.session.closed
    assert harness.sent == []
    assert harness.effects.calls == [("disconnect", CloseCode.NORMAL, "")]


def test_a_lost_connection_is_not_said_goodbye_to() -> None:
    harness = Harness()
    harness.history(1)
    harness.session.abort()
    harness.succeed(1)
    assert harness.sent == []
    assert harness.session.closed


@pytest.mark.parametrize(("codec", "binary"), [(JSON, True), (MSGPACK, False)])
def test_the_wrong_kind_of_message_closes(codec: Any, binary: bool) -> None:
    harness = Harness(codec=codec)
    harness.raw(b"\x81\xa4type\xa4ping" if binary else b'{"type":"ping"}', binary=binary)
    assert harness.sent[-1]["code"] == CloseCode.WRONG_FRAME_KIND
    assert codec.subprotocol in harness.sent[-1]["reason"]
    assert harness.session.closed


def test_msgpack_is_answered_in_msgpack() -> None:
    harness = Harness(codec=MSGPACK)
    harness.say(type="ping", id=2**53 - 1)
    harness.say(type="publish", topic="a", data={"x": [1.5]}, id=2)
    harness.succeed(2)
    assert harness.sent == [
        {"type": "pong", "id": 2**53 - 1},
        {"type": "ok", "id": 2, "topic": "a"},
    ]
