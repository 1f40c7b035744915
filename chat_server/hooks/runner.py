"""Runs hooks with a deadline and a concurrency limit, and counts and logs each failure."""

import asyncio
import inspect
import logging
from asyncio import Task
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, NoReturn, TypeVar

from ..logs import LogThrottle
from ..protocol.errors import (
    BadRequest,
    ChatError,
    Forbidden,
    Gone,
    Internal,
    NotFound,
    RateLimited,
    TooLarge,
    Unauthorized,
    Unavailable,
)
from ..settings import HookSettings
from .blocking import BlockingWatch
from .registry import Hook

logger = logging.getLogger(__name__)

MAX_REASON = 200
"""Characters of a hook's reason that a client gets at most."""

LATE_RETRY_MS = 1_000
"""Milliseconds in `retry_in_ms` of a command whose hook was late."""

MAX_RETRY_MS = 86_400_000
"""Milliseconds: the longest `retry_in_ms` of a hook, a day."""

Counts = Counter[tuple[str, str]]
"""Number of outcomes by hook and by `run`, `refused`, `failed` or `late`."""

REFUSALS: tuple[type[ChatError], ...] = (
    BadRequest,
    Unauthorized,
    Forbidden,
    NotFound,
    Gone,
    TooLarge,
    RateLimited,
    Unavailable,
    Internal,
)
"""Errors that a hook may send to a client. Every other error becomes a `Forbidden`."""


LATE = partial(Unavailable, "the application did not answer in time", retry_in_ms=LATE_RETRY_MS)
FAULT = partial(Internal, "something went wrong; it has been logged")

Subject = TypeVar("Subject")


class HookFailure(Exception):
    """A hook has failed, or is late."""

    def __init__(self, late: bool) -> None:
        super().__init__()
        self._late = late

    def told(self) -> ChatError:
        """Return a new error for the client. A new object is in no reference cycle."""
        return LATE() if self._late else FAULT()


class Runner:
    """Runs hooks, at most `hooks.max_running` at once.

    A hook that ignores its cancellation keeps its place until its end.

    Args:
        settings: the deadline and the bound.
        watch: times the steps of hooks.
        counts: counts outcomes.
    """

    def __init__(self, settings: HookSettings, watch: BlockingWatch, counts: Counts) -> None:
        self._timeout = settings.timeout_seconds
        self._places = asyncio.Semaphore(settings.max_running)
        self._watch = watch
        self._counts = counts
        self._tasks: set[Task[Any]] = set()
        self._throttle = LogThrottle(10.0)

    async def ask(
        self,
        hooks: Sequence[Hook],
        make_subject: Callable[[], Subject],
        settle: Callable[[Subject], None] = lambda subject: None,
    ) -> None:
        """Call hooks one after the other.

        Args:
            hooks: the hooks.
            make_subject: makes the argument of a hook. Each hook has its own, because a late hook
                may still run.
            settle: called after a hook has accepted; applies the hook's changes, or raises
                `ChatError` for changes that cannot be sent.

        Raises:
            ChatError: a hook refuses, or a hook with `on_failure="refuse"` has failed.
        """
        for hook in hooks:
            subject = make_subject()
            try:
                result = await self.run(hook, subject)
                if result is not None:
                    self.fail(hook, f"returned {type(result).__name__}, and may return nothing")
                try:
                    settle(subject)
                except ChatError as error:
                    self.fail(hook, f"left what cannot be sent: {error.message}")
            except HookFailure as failure:
                if hook.on_failure == "refuse":
                    raise failure.told() from None

    async def run(self, hook: Hook, subject: object) -> Any:
        """Run one hook and return its result.

        Raises:
            ChatError: the hook refuses; the message is bounded and inert.
            HookFailure: the hook has failed or is late.
        """
        seconds = hook.timeout_seconds or self._timeout
        if self._places.locked():
            await self._wait_for_place(hook, seconds)
        else:
            await self._places.acquire()  # Returns at once.
        task = asyncio.get_running_loop().create_task(self._call(hook, subject))
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        self._counts[hook.name, "run"] += 1
        try:
            await asyncio.wait((task,), timeout=seconds)
        finally:
            task.cancel()  # No effect on a task that is done.
        if not task.done():
            self.fail(hook, f"was not done within {seconds:g} s", "late")
        if task.cancelled():
            self.fail(hook, "was cancelled")
        error = task.exception()
        if error is None:
            return task.result()
        if isinstance(error, ChatError):
            self._counts[hook.name, "refused"] += 1
            raise _refusal(error)
        return self.fail(hook, f"raised {type(error).__name__}", cause=error)

    async def _wait_for_place(self, hook: Hook, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._places.acquire()
        except TimeoutError:
            self.fail(hook, f"had to wait {seconds:g} s for others to end", "late")

    def fail(
        self,
        hook: Hook,
        what: str,
        outcome: Literal["failed", "late"] = "failed",
        cause: BaseException | None = None,
    ) -> NoReturn:
        """Count and log the failure of a hook.

        Raises:
            HookFailure: always.
        """
        self._counts[hook.name, outcome] += 1
        if self._throttle.due(f"{hook.name} {outcome}"):
            times = self._counts[hook.name, outcome]
            logger.error("hook %s %s (%d times so far)", hook.name, what, times, exc_info=cause)
        raise HookFailure(outcome == "late")

    async def _call(self, hook: Hook, subject: object) -> Any:
        try:
            began = self._watch.begin(hook.name)
            try:
                result = hook.handler(subject)
            finally:
                self._watch.end(hook.name, began)
            if inspect.iscoroutine(result):
                return await self._watch.steps(hook.name, result)
            return await result if inspect.isawaitable(result) else result
        except (SystemExit, KeyboardInterrupt) as error:
            # Either exception would end the event loop, and thereby every connection.
            raise RuntimeError(f"a hook raised {type(error).__name__}") from error

    def _ended(self, task: "Task[Any]") -> None:
        self._tasks.discard(task)
        self._places.release()
        if not task.cancelled():
            task.exception()

    async def stop(self, seconds: float) -> None:
        """Cancel all running hooks, and wait at most `seconds` for their end."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)


def _refusal(error: ChatError) -> ChatError:
    """Return a new error for the client, because a hook may raise one object again and again."""
    kind = next((each for each in type(error).__mro__ if each in REFUSALS), Forbidden)
    retry = error.retry_in_ms
    sane = isinstance(retry, int) and 0 <= retry <= MAX_RETRY_MS
    return kind(inert(error.message), retry_in_ms=retry if sane else None)


def inert(message: str) -> str:
    """Return a reason in the form for clients: one line, bounded, without control characters."""
    shown = "".join(c if c.isprintable() else " " for c in str(message)[: MAX_REASON + 1])
    return shown if len(shown) <= MAX_REASON else f"{shown[: MAX_REASON - 1]}…"
