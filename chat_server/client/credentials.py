"""The source of the client's tokens."""

import asyncio
import contextvars
import inspect
import re
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from .ending import Ending
from .errors import ConnectFailed

TokenSource = str | Callable[[], str | Awaitable[str]]
"""A token, or a function (plain or async) that returns a fresh token. The client calls the function
before each connection and before the token of a connection expires.
"""

TOKEN_SECONDS = 10.0
"""Seconds that a token function may take, by default."""

_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*", re.ASCII)
"""The form of a bearer token in a header, RFC 6750 section 2.1."""


class Credentials:
    """Returns a token for each connection.

    A plain function is called in a thread, so it may block, to ask another service for example. A
    thread cannot be stopped. If the function hangs, the next attempt waits for the same thread, so
    a hanging function occupies only one thread.

    Args:
        source: a token or a token function.
        deadline: seconds that the function may take.

    Attributes:
        last: the last returned token; None before the first.
    """

    def __init__(self, source: TokenSource, deadline: float = TOKEN_SECONDS) -> None:
        self.last: str | None = None
        self._source = source
        self._deadline = deadline
        self._call: asyncio.Task[Any] | None = None
        self._thread: asyncio.Future[Any] | None = None

    @property
    def renewable(self) -> bool:
        """True if another call may return another token."""
        return not isinstance(self._source, str)

    async def token(self) -> str:
        """Return a token.

        Raises:
            ConnectFailed: the source has no token now.
        """
        token = self._source if isinstance(self._source, str) else await self._ask(self._source)
        if not isinstance(token, str):
            raise _no_token(f"the function returned {type(token).__name__}, not text")
        if _TOKEN.fullmatch(token.strip()) is None:
            raise _no_token("it has characters that no JWT has")
        self.last = token.strip()
        return self.last

    async def _ask(self, source: Callable[[], Any]) -> Any:
        if self._call is None or self._call.cancelled():
            self._call = asyncio.create_task(self._called(source), name="chat client token")
            self._call.add_done_callback(_retrieve_exception)
        call = self._call
        try:
            await asyncio.wait([call], timeout=self._deadline)
        except asyncio.CancelledError:
            call.cancel()
            self._call = None
            raise
        if not call.done():
            call.cancel()  # the next attempt awaits a call that goes on
            raise _no_token(f"the function has not returned one in {self._deadline:g} s")
        self._call = None
        try:
            return call.result()
        except asyncio.CancelledError:
            raise _no_token("the function was cancelled") from None
        except Exception as error:  # the user's function may fail in any way
            raise _no_token(str(error) or type(error).__name__) from error

    async def _called(self, source: Callable[[], Any]) -> Any:
        if any(map(inspect.iscoroutinefunction, (source, type(source).__call__))):
            token = source()
        else:
            thread = self._thread = self._thread or in_thread(source, "chat client token")
            try:
                # After a cancellation the next attempt takes the thread's result.
                token = await asyncio.shield(thread)
            except Exception:
                self._thread = None
                raise
            self._thread = None
        return await token if inspect.isawaitable(token) else token


def _no_token(reason: str) -> ConnectFailed:
    return ConnectFailed(Ending(f"no token: {reason}"))


def _retrieve_exception(call: "asyncio.Future[Any]") -> None:
    """Prevent asyncio from logging the failure of a call that nobody awaits any more."""
    if not call.cancelled():
        call.exception()


def in_thread(source: Callable[[], Any], name: str) -> "asyncio.Future[Any]":
    """Call `source` in a daemon thread: a thread of a pool would keep the program alive."""
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[Any] = loop.create_future()
    outcome.add_done_callback(_retrieve_exception)
    context = contextvars.copy_context()

    def call() -> None:
        settle: Callable[..., None] = outcome.set_result
        try:
            result: Any = context.run(source)
        except Exception as error:
            # A future cannot hold a StopIteration.
            result = RuntimeError(repr(error)) if isinstance(error, StopIteration) else error
            settle = outcome.set_exception
        except BaseException as error:  # for example SystemExit, which concerns only this thread
            result, settle = RuntimeError(repr(error)), outcome.set_exception

        def tell() -> None:
            if not outcome.done():  # the caller may have been cancelled
                settle(result)

        # The loop may be closed by now, so nobody waits for the outcome.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(tell)

    threading.Thread(target=call, name=name, daemon=True).start()
    return outcome
