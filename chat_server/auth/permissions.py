"""Patterns of topics and their matching (docs/protocol.md, section 1).

A pattern is split and compared segment by segment, each at most once. So the time is linear in the
lengths, for any pattern, topic or subject. Patterns are not compiled: a connection asks for few
topics again and again, and a cache of the answers costs less memory.
"""

from collections.abc import Sequence
from functools import lru_cache

from ..protocol.command_table import Grant
from ..protocol.topics import MAX_TOPIC_BYTES, topic_segment
from .claims import Claims

SUBJECT = "{sub}"
"""The placeholder for the token's subject within a segment of a pattern."""

MAX_REMEMBERED = 64
"""Maximum number of answers cached for each connection: 25 KB with the longest topics."""


class Permissions:
    """The permissions of one connection, from the `claims` of its token."""

    __slots__ = ("_answers", "_open", "_sub", "_topics")

    def __init__(self, claims: Claims) -> None:
        self._sub = claims.sub
        self._topics = claims.topics
        self._open = claims.open_topics
        self._answers: dict[tuple[str, str], bool] = {}

    def may(self, grant: Grant, topic: str) -> bool:
        """Return whether the token's user has `grant` in `topic`."""
        question = (grant, topic)
        answer = self._answers.get(question)
        if answer is None:
            answer = allows(getattr(self._topics, grant), topic, self._sub)
            answer = answer or (all(topic.split(":")) and self._open.may(grant, topic))
            if len(self._answers) >= MAX_REMEMBERED:
                self._answers.clear()
            self._answers[question] = answer
        return answer


def allows(patterns: Sequence[str], topic: str, sub: str) -> bool:
    """Return whether any of `patterns`, read for the subject `sub`, matches `topic`.

    `*` matches one whole segment, a last `**` one or more, and `{sub}` the subject in the form of
    `topic_segment`. So a subject that looks like a pattern, or has a colon, is still one segment,
    and no other subject's.

    Args:
        patterns: patterns that have passed `check_pattern`.
        topic: a well-formed topic; no pattern matches any other text.
        sub: any text.
    """
    segments = topic.split(":")
    if "" in segments:
        return False
    subject = ""
    for pattern in patterns:
        if not subject and SUBJECT in pattern:
            # A subject longer than any topic matches no topic, so its end may be cut off.
            subject = topic_segment(sub[: MAX_TOPIC_BYTES + 1])
        if _matches(_split(pattern), segments, subject):
            return True
    return False


# Most tokens of an application have the same patterns.
@lru_cache(maxsize=1_024)
def _split(pattern: str) -> list[str]:
    return pattern.split(":")


def _matches(pattern: list[str], segments: list[str], subject: str) -> bool:
    if pattern[-1] == "**":
        if len(segments) < len(pattern):
            return False
        pattern = pattern[:-1]
    elif len(segments) != len(pattern):
        return False
    for wanted, segment in zip(pattern, segments, strict=False):
        if wanted not in ("*", segment) and wanted.replace(SUBJECT, subject) != segment:
            return False
    return True
