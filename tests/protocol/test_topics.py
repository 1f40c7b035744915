"""Topic names: the grammar of docs/protocol.md, section 1."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_server.protocol.errors import BadRequest
from chat_server.protocol.topics import MAX_TOPIC_BYTES, check_topic

ALPHABET = "ABCXYZabcxyz0189._~@-"


@pytest.mark.parametrize(
    "topic",
    ["a", "room:lobby", "a:b:c:d", "A-Z_a~z@0.9", "...", "-:~", "a" * 255, "a:" * 127 + "a"],
)
def test_good_names(topic: str) -> None:
    assert check_topic(topic) == topic


@pytest.mark.parametrize(
    "topic",
    [
        "",
        ":",
        "a:",
        ":a",
        "a::b",
        "a b",
        " a",
        "a\n",
        "a\0",
        "a/b",
        "room%2Flobby",
        "a*",
        "*",
        "a:**",
        "{sub}",
        "é",
        "\u0661",
        "\uff21",
        "a\u0301",
        "a" * 256,
        "é" * 128,
        "a" * 60_000,
        "(a)",
        "a,b",
        "a+b",
        "a'",
        'a"',
        "\ud800",
    ],
)
def test_bad_names(topic: str) -> None:
    with pytest.raises(BadRequest, match=r"^topic: ") as caught:
        check_topic(topic)
    assert len(caught.value.message) < 100


@given(st.lists(st.text(ALPHABET, min_size=1, max_size=8), min_size=1, max_size=20).map(":".join))
def test_segments_joined_by_colons_are_a_name(topic: str) -> None:
    assert check_topic(topic) == topic
    assert len(topic.encode()) <= MAX_TOPIC_BYTES


@given(st.text(ALPHABET + ":/ *\né", max_size=20))
def test_names_are_segments_joined_by_colons(text: str) -> None:
    good = all(part and set(part) <= set(ALPHABET) for part in text.split(":"))
    try:
        check_topic(text)
    except BadRequest:
        assert not good
    else:
        assert good
