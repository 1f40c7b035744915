"""What commands print of the answers to operators, and nothing else: others may come and go.

What is printed as JSON is the answer as it came.
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
    """What all answers have; `more` those that come in pages."""

    missing: list[str]
    more: bool = False
    silent: dict[str, float] = {}


class Obeyed(Struct):
    """What became of an order; an earlier version does not say whether it was so `already`."""

    confirmed: list[str]
    connections: int
    until: int | None
    already: bool = False


class Story(Struct):
    """What became of a message for one connection."""

    session: str
    verdict: str
    at: float | None


class Worker(Struct):
    """What a worker has done with a message."""

    node: str
    heard_at: float | None
    seq: int | None
    subscribers: int
    connections: list[Story]


class Sender(Struct):
    """Who has published a message."""

    user: str


class Explained(Struct):
    """What became of a message; `kind` and `at` are null if it is not stored."""

    topic: str
    seq: int
    last: int
    stored: bool
    kind: str | None
    at: int | None
    sender: Sender | None
    workers: list[Worker]


def understood(answer: object, kind: type[T]) -> T:
    """Return what an answer says.

    Args:
        answer: decoded JSON.
        kind: the struct, or list of them, that it must fit.

    Raises:
        Failure: it lacks something, or has it in another form.
    """
    try:
        return msgspec.convert(answer, kind)
    except msgspec.ValidationError:
        raise Failure("the server's answer is not understood; does it have this version?") from None


def tell_missing(answer: dict[str, Any], what: str) -> None:
    """Print the workers that did not answer; `what` says what that means."""
    told = understood(answer, Answer)
    for node in told.missing:
        seconds = told.silent.get(node)
        since = "" if seconds is None else f"; it was last heard {seconds:.0f} s ago"
        print_error(f"worker {node} {what}{since}")


def moment(at: float) -> datetime | None:
    """Return a time in seconds since 1970; None beyond all calendars: a server may say anything."""
    try:
        return datetime.fromtimestamp(at)
    except (ValueError, OverflowError, OSError):
        return None
