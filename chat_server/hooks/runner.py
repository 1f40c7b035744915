"""Runs hooks: within a deadline, so many at once, and each failure counted and logged."""

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
"""Characters of a hook's reason that a client is sent."""

LATE_RETRY_MS = 1_000
"""`retry_in_ms` of a command that a hook was too late for."""

MAX_RETRY_MS = 86_400_000
"""The longest `retry_in_ms` that a hook may ask for: a day."""

Counts = Counter[tuple[str, str]]
"""How often each hook was `run`, and of these `refused`, `failed` or was `late`."""

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
"""What a client may be told by a hook; another error is a `Forbidden`."""


LATE = partial(Unavailable, "the application did not answer in time", retry_in_ms=LATE_RETRY_MS)
FAULT = partial(Internal, "something went wrong; it has been logged")

Subject = TypeVar("Subject")


class HookFailure(Exception):
    """A hook has failed, or is late."""

    def __init__(self, late: bool) -> None:
        super().__init__()
        self._late = late

    def told(self) -> ChatError:
        """Return what a client is told of it: a new error, that no circle holds it."""
        return LATE() if self._late else FAULT()


class Runner:
    """Runs hooks, `hooks.max_running` of them at once.

    A hook that does not end when it is cancelled keeps its place: it goes on, after all.

    Args:
        settings: the deadline and the bound.
        watch: times the steps of hooks.
        counts: counts what becomes of them.
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
        """Ask hooks one after the other.

        Args:
            hooks: to ask.
            make_subject: makes what each is given. Each has its own: one that is late may go on.
            settle: called when a hook lets pass; takes over what it has changed, or raises
                `ChatError` if that cannot be.

        Raises:
            ChatError: a hook refuses, or has failed and is one that then refuses.
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
        """Run one hook and return what it returns.

        Raises:
            ChatError: the hook raises it; its message is bounded and inert.
            HookFailure: it has failed or is late.
        """
        seconds = hook.timeout_seconds or self._timeout
        if self._places.locked():
            await self._wait_for_place(hook, seconds)
        else:
            await self._places.acquire()  # at once
        task = asyncio.get_running_loop().create_task(self._call(hook, subject))
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        self._counts[hook.name, "run"] += 1
        try:
            await asyncio.wait((task,), timeout=seconds)
        finally:
            task.cancel()  # of no effect once it is done
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
        """Count and log that a hook has failed.

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
            # These would end the event loop, and with it everybody's connections.
            raise RuntimeError(f"a hook raised {type(error).__name__}") from error

    def _ended(self, task: "Task[Any]") -> None:
        self._tasks.discard(task)
        self._places.release()
        if not task.cancelled():
            task.exception()

    async def stop(self, seconds: float) -> None:
        """Cancel what runs, and wait so long at most until it has ended."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)


def _refusal(error: ChatError) -> ChatError:
    """Return what a client is told: a new error, as a hook may raise one object again and again."""
    kind = next((each for each in type(error).__mro__ if each in REFUSALS), Forbidden)
    retry = error.retry_in_ms
    sane = isinstance(retry, int) and 0 <= retry <= MAX_RETRY_MS
    return kind(inert(error.message), retry_in_ms=retry if sane else None)


def inert(message: str) -> str:
    """Return a reason as clients are sent it: one line, bounded, nothing in it acts."""
    shown = "".join(c if c.isprintable() else " " for c in str(message)[: MAX_REASON + 1])
    return shown if len(shown) <= MAX_REASON else f"{shown[: MAX_REASON - 1]}…"
