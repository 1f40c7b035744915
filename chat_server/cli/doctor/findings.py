"""What `chat-server doctor` finds: lines that say ok, or what to do."""

from typing import Literal

from msgspec import Struct

Word = Literal["ok", "warning", "error"]


class Finding(Struct):
    """One line.

    Args:
        subject: what was looked at.
        status: ok; warning, for what may become trouble; error, for what is.
        text: what was found, and what to do about it.
    """

    subject: str
    status: Word
    text: str


def found(subject: str, good: bool, text: str, todo: str, *, bad: Word = "warning") -> Finding:
    """Return a finding that is ok, or says what to do.

    Args:
        subject: what was looked at.
        good: whether it is ok.
        text: what was found.
        todo: what to do if it is not ok.
        bad: the word if it is not ok.
    """
    return Finding(subject, "ok", text) if good else Finding(subject, bad, f"{text}: {todo}")
