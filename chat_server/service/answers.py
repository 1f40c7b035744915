"""The results of operations: an answer, or a future answer."""

from asyncio import Future
from collections.abc import Callable, Coroutine, Generator
from typing import Any

from msgspec import Struct

from ..protocol.errors import Unavailable
from ..protocol.messages import Ok, SubscribeOk
from ..realtime.recovery import Recovery

UNFINISHED_RETRY_MS = 1_000
"""Milliseconds to wait for a client whose request ended before its command did."""


class Joined(Struct):
    """The answer of `subscribe`, and the place where the subscriber then enters the topic."""

    ok: SubscribeOk
    recovery: Recovery


class Answer(Struct):
    """A future answer; can be awaited.

    This is a future and a function rather than a coroutine, so that a publication costs no task.

    Args:
        future: the outcome.
        make_ok: makes the answer from the outcome, or raises the outcome's `ChatError`.
    """

    future: Future[Any]
    make_ok: Callable[[Any], Ok]

    def __await__(self) -> Generator[Any, None, Ok]:
        """Wait for the outcome and return the answer."""
        outcome = yield from self.future.__await__()
        return self.make_ok(outcome)


Reply = Ok | Joined | Answer | Coroutine[Any, Any, Ok | Joined]
"""The result of an operation; a coroutine if the operation has to wait for several things."""


def unfinished() -> Unavailable:
    """Return the error of a publication that did not finish within the time of its request."""
    return Unavailable(
        "the message may still be stored; repeat the request with the same `key` to store it only"
        " once",
        retry_in_ms=UNFINISHED_RETRY_MS,
    )
