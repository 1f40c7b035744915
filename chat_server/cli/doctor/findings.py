"""Findings of `chat-server doctor`: ok, or advice."""

from typing import Literal

from msgspec import Struct

Word = Literal["ok", "warning", "error"]


class Finding(Struct):
    """One line.

    Args:
        subject: the thing examined.
        status: ok, warning for a possible problem, or error for a present one.
        text: the finding, and the advice.
    """

    subject: str
    status: Word
    text: str


def found(subject: str, good: bool, text: str, todo: str, *, bad: Word = "warning") -> Finding:
    """Return a finding, with advice unless the subject is ok.

    Args:
        subject: the thing examined.
        good: whether the subject is ok.
        text: the finding.
        todo: the advice unless ok.
        bad: the status unless ok.
    """
    return Finding(subject, "ok", text) if good else Finding(subject, bad, f"{text}: {todo}")
