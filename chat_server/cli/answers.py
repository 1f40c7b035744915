"""Decodes the fields of operators' answers that commands print; other fields may come and go.

With `--json` commands print the answer unchanged.
"""

from datetime import datetime
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from .terminal import Failure, print_error

T = TypeVar("T")


class Node(Struct):
    """A worker."""

    node: str
    draining: bool
    broker: str
    connections: int
    users: int
    topics: int
    lag_ms: float
    started_at: int
    version: str


class Connection(Struct):
    """A connection; `address` is null for an operator of some topics."""

    session: str
    user: str
    address: str | None
    node: str
    transport: str
    encoding: str
    opened_at: int
    topics: int
    client: str


class Topic(Struct):
    """A topic."""

    topic: str
    subscribers: int
    seq: int


class Answer(Struct):
    """The common fields of all answers; only answers in pages have `more`."""

    missing: list[str]
    more: bool = False
    silent: dict[str, float] = {}


class Obeyed(Struct):
    """The effect of an order; servers of an earlier version leave `already` out."""

    confirmed: list[str]
    connections: int
    until: int | None
    already: bool = False


class Story(Struct):
    """The fate of a message for one connection."""

    session: str
    verdict: str
    at: float | None


class Worker(Struct):
    """The fate of a message on one worker."""

    node: str
    heard_at: float | None
    seq: int | None
    subscribers: int
    connections: list[Story]


class Sender(Struct):
    """The publisher of a message."""

    user: str


class Explained(Struct):
    """The fate of a message on all workers; `kind` and `at` of a message not stored are null."""

    topic: str
    seq: int
    last: int
    stored: bool
    kind: str | None
    at: int | None
    sender: Sender | None
    workers: list[Worker]


def understood(answer: object, kind: type[T]) -> T:
    """Convert an answer.

    Args:
        answer: decoded JSON.
        kind: the struct, or list of structs, for the answer.

    Raises:
        Failure: a field is missing or malformed.
    """
    try:
        return msgspec.convert(answer, kind)
    except msgspec.ValidationError:
        raise Failure("the server's answer is not understood; does it have this version?") from None


def tell_missing(answer: dict[str, Any], what: str) -> None:
    """Print the workers that did not answer; `what` states the consequence."""
    told = understood(answer, Answer)
    for node in told.missing:
        seconds = told.silent.get(node)
        since = "" if seconds is None else f"; it was last heard {seconds:.0f} s ago"
        print_error(f"worker {node} {what}{since}")


def moment(at: float) -> datetime | None:
    """Return a time in seconds since 1970; None beyond all calendars, which a server may send."""
    try:
        return datetime.fromtimestamp(at)
    except (ValueError, OverflowError, OSError):
        return None
