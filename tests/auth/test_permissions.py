"""Topic patterns: table-driven, and against a reference that is slow and obvious."""

import re
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chat_server.auth.claims import Claims, TopicGrants
from chat_server.auth.open_topics import OpenTopics
from chat_server.auth.patterns import check_pattern
from chat_server.auth.permissions import MAX_REMEMBERED, Permissions, allows
from chat_server.protocol.errors import BadRequest
from chat_server.protocol.topics import check_topic, topic_segment
from chat_server.settings import Namespace, Settings


@pytest.mark.parametrize(
    ("pattern", "topic", "expected"),
    [
        ("room:lobby", "room:lobby", True),
        ("room:lobby", "room:Lobby", False),
        ("room:lobby", "room:lobby:x", False),
        ("room:lobby", "room", False),
        ("room:*", "room:lobby", True),
        ("room:*", "room", False),
        ("room:*", "room:a:b", False),
        ("*", "room", True),
        ("*", "room:a", False),
        ("*:lobby", "room:lobby", True),
        ("*:*", "room:lobby", True),
        ("room:*:log", "room:a:log", True),
        ("room:*:log", "room:a:b:log", False),
        ("room:**", "room:a", True),
        ("room:**", "room:a:b:c", True),
        ("room:**", "room", False),
        ("room:**", "rooms:a", False),
        ("**", "a", True),
        ("**", "a:b:c", True),
        ("*:**", "a", False),
        ("*:**", "a:b", True),
        ("user:{sub}", "user:alice", True),
        ("user:{sub}", "user:bob", False),
        ("{sub}", "alice", True),
        ("dm:{sub}-*", "dm:alice-x", False),
        ("dm:{sub}.inbox", "dm:alice.inbox", True),
        ("dm:{sub}.inbox", "dm:bob.inbox", False),
        ("dm:{sub}{sub}", "dm:alicealice", True),
        ("user:{sub}:**", "user:alice:a:b", True),
        ("user:{sub}:**", "user:alice", False),
        ("room.x:a", "roomyx:a", False),
        ("room:**", "room:", False),
        ("room:*", "room:", False),
        ("**", "", False),
        ("**", "a::b", False),
        ("*", ":", False),
    ],
)
def test_matching(pattern: str, topic: str, expected: bool) -> None:
    assert allows([pattern], topic, "alice") is expected


@pytest.mark.parametrize("sub", ["*", "**", "{sub}", "a:b", ":", "", "bob:**", ".*", "a b", "é"])
@pytest.mark.parametrize("pattern", ["user:{sub}", "user:{sub}:x", "user:{sub}{sub}", "{sub}"])
@pytest.mark.parametrize(
    "topic",
    ["user:bob", "user:a:b", "user:bob:x", "user:a:b:x", "user", "bob:x", "user:a.b", "a:b"],
)
def test_a_hostile_subject_stands_for_itself_only(sub: str, pattern: str, topic: str) -> None:
    assert not allows([pattern], topic, sub)


@pytest.mark.parametrize(
    ("sub", "segment"),
    [
        ("auth0|5f7c8ec7", "auth0~7C5f7c8ec7"),
        ("bob+test@example.org", "bob~2Btest@example.org"),
        ("spiffe://example.org/ns/a/sa/b", "spiffe~3A~2F~2Fexample.org~2Fns~2Fa~2Fsa~2Fb"),
        ("system:serviceaccount:chat:bot", "system~3Aserviceaccount~3Achat~3Abot"),
        ("a~b", "a~7Eb"),
        ("a~7Eb", "a~7E7Eb"),
        ("é", "~C3~A9"),
        ("*", "~2A"),
        ("{sub}", "~7Bsub~7D"),
        ("Ada.L-1_x@y", "Ada.L-1_x@y"),
    ],
)
def test_a_subject_of_any_characters_has_a_segment_of_its_own(sub: str, segment: str) -> None:
    assert allows(["user:{sub}"], check_topic(f"user:{segment}"), sub)
    assert allows(["user:{sub}:**"], check_topic(f"user:{segment}:a"), sub)
    assert allows(["in.{sub}.x"], check_topic(f"in.{segment}.x"), sub)


CLOSE = st.text("a~7CE|:é", min_size=1, max_size=6)


@given(CLOSE, CLOSE)
@example("a~7Cb", "a|b")
@example("~", "~7E")
def test_no_two_subjects_share_a_segment(first: str, second: str) -> None:
    topic = check_topic(f"user:{topic_segment(first)}")
    assert allows(["user:{sub}"], topic, second) is (first == second)


def test_any_of_several_patterns_is_enough_and_none_is_not() -> None:
    assert allows(("news", "room:*"), "room:a", "alice")
    assert not allows((), "room:a", "alice")


NAMES = st.text("ab.-", min_size=1, max_size=3)
PATTERN_SEGMENTS = st.one_of(
    st.just("*"),
    st.just("{sub}"),
    st.builds("{}{}{}".format, NAMES, st.sampled_from(["", "{sub}"]), NAMES),
    NAMES,
)
PATTERNS = st.builds(
    lambda segments, rest: ":".join([*segments, "**"] if rest else segments),
    st.lists(PATTERN_SEGMENTS, min_size=1, max_size=4),
    st.booleans(),
)
TOPICS = st.lists(NAMES, min_size=1, max_size=5).map(":".join)
SUBS = st.one_of(NAMES, st.sampled_from(["*", "**", "{sub}", "a:b", "a"]), st.text(max_size=4))


def reference(pattern: str, topic: str, sub: str) -> bool:
    """Match by a regular expression made of quoted pieces."""
    pieces = []
    for segment in pattern.split(":"):
        if segment == "**":
            pieces.append("[^:]+(?::[^:]+)*")
        elif segment == "*":
            pieces.append("[^:]+")
        else:
            pieces.append(re.escape(segment).replace(re.escape("{sub}"), "<sub>"))
    expression = ":".join(pieces)
    written = "".join(
        c if re.match("[A-Za-z0-9._@-]", c) else "".join(f"~{b:02X}" for b in c.encode())
        for c in sub
    )
    # By a function, so that the subject's backslashes mean nothing.
    return (
        re.fullmatch(re.sub("<sub>", lambda _: re.escape(written), expression), topic) is not None
    )


@given(PATTERNS, TOPICS, SUBS)
@example("a{sub}", "a*", "*")
def test_matching_agrees_with_the_reference(pattern: str, topic: str, sub: str) -> None:
    check_pattern(pattern)
    assert allows([pattern], topic, sub) == reference(pattern, topic, sub)


@given(st.one_of(st.text("ab:*{}su", max_size=12), st.text(max_size=12), PATTERNS))
def test_a_pattern_is_a_topic_but_for_its_wildcards(pattern: str) -> None:
    segments = pattern.split(":")
    plain = ["x" if s == "*" or (s == "**" and i == len(segments)) else s.replace("{sub}", "x")
             for i, s in enumerate(segments, 1)]  # fmt: skip
    try:
        check_topic(":".join(plain))
        expected = True
    except BadRequest:
        expected = False
    try:
        accepted = check_pattern(pattern) == pattern
    except ValueError:
        accepted = False
    assert accepted is expected


@pytest.mark.parametrize(
    ("pattern", "rule"),
    [
        ("", "empty"),
        ("a" * 256, "255"),
        ("room:**:x", "end"),
        ("**:**", "end"),
        ("room:a*", "segments"),
        ("room:***", "segments"),
        ("room: x", "segments"),
        ("room::x", "segments"),
        (":x", "segments"),
        ("room:", "segments"),
        ("room:{user}", "segments"),
        ("room:{sub", "segments"),
        ("room:é", "segments"),
        ("room:x\n", "segments"),
    ],
)
def test_bad_patterns_are_refused_with_the_rule(pattern: str, rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        check_pattern(pattern)


def test_hostile_lengths_take_linear_time() -> None:
    patterns = [check_pattern(":".join(["*"] * 100) + ":**")] * 100
    sub = "{sub}" * 10_000
    start = time.thread_time()
    for _ in range(10):
        allows(patterns, ":".join(["a"] * 128), sub)
        allows([check_pattern("{sub}" * 51)], "a" * 255, sub)
    with pytest.raises(ValueError, match="segments"):
        check_pattern("{sub}" * 50 + "{su")
    assert time.thread_time() - start < 2


def permissions(**grants: tuple[str, ...]) -> Permissions:
    return Permissions(Claims(sub="alice", topics=TopicGrants(**grants)))


def test_each_action_has_its_own_list() -> None:
    may = permissions(subscribe=("room:**",), publish=("user:{sub}",)).may
    assert may("subscribe", "room:a")
    assert not may("publish", "room:a")
    assert may("publish", "user:alice")
    assert not may("history", "room:a")
    assert not may("presence", "room:a")
    assert not may("moderate", "room:a")


def test_remembered_answers_stay_right_and_bounded() -> None:
    subject = permissions(publish=("room:*",))
    for _ in range(2):
        for number in range(1_000):
            assert subject.may("publish", f"room:{number}")
            assert not subject.may("publish", f"user:{number}")
            assert not subject.may("subscribe", f"room:{number}")
    assert len(subject._answers) <= MAX_REMEMBERED


def test_what_a_namespace_opens_needs_no_grant_and_reaches_no_further() -> None:
    settings = Settings(
        namespaces={
            "default": Namespace(allow_history=True),
            "room": Namespace(allow_subscribe=True, allow_publish=True),
        }
    )
    mine = TopicGrants(presence=("room:*",))
    claims = Claims("alice", mine, open_topics=OpenTopics.of(settings))
    permissions = Permissions(claims)
    allowed = {
        (grant, topic)
        for grant in ("subscribe", "publish", "history", "presence", "moderate")
        for topic in ("room:a", "room", "roomy:a", "room:", ":room")
        if permissions.may(grant, topic)
    }
    assert allowed == {
        *(("subscribe", topic) for topic in ("room:a", "room")),
        *(("publish", topic) for topic in ("room:a", "room")),
        ("presence", "room:a"),
        ("history", "roomy:a"),
    }
