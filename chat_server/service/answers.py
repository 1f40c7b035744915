"""What an operation returns: an answer, or one that is yet to come."""

from asyncio import Future
from collections.abc import Callable, Coroutine, Generator
from typing import Any

from msgspec import Struct

from ..protocol.errors import Unavailable
from ..protocol.messages import Ok, SubscribeOk
from ..realtime.recovery import Recovery

UNFINISHED_RETRY_MS = 1_000
"""Milliseconds that a client is told to wait after a request that ended before its command did."""


class Joined(Struct):
    """The answer of `subscribe`, and where the subscriber enters the topic right behind it."""

    ok: SubscribeOk
    recovery: Recovery


class Answer(Struct):
    """An answer yet to come; can be awaited.

    A future and a function instead of a coroutine: a publication costs no task.

    Args:
        future: the outcome.
        make_ok: makes the answer of the outcome, or raises the `ChatError` that it stands for.
    """

    future: Future[Any]
    make_ok: Callable[[Any], Ok]

    def __await__(self) -> Generator[Any, None, Ok]:
        """Wait for the outcome and return the answer."""
        outcome = yield from self.future.__await__()
        return self.make_ok(outcome)


Reply = Ok | Joined | Answer | Coroutine[Any, Any, Ok | Joined]
"""An operation that has to wait for more than one thing returns a coroutine."""


def unfinished() -> Unavailable:
    """Return the error of a publication that was not done in the time of its request."""
    return Unavailable(
        "the message may still be stored; repeat the request with the same `key` to store it only"
        " once",
        retry_in_ms=UNFINISHED_RETRY_MS,
    )
