"""The decorators of hooks, for example `@chat.on_publish("room:*")`."""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, TypeVar, get_args, overload

from ..protocol.commands import METHOD_PATTERN
from .registry import EVERYWHERE, Handler, Hook, Occasion, OnFailure, Registry

F = TypeVar("F", bound=Callable[..., Any])

_METHOD = re.compile(METHOD_PATTERN)


class Hookable(ABC):
    """Base class of objects with hook decorators.

    Each decorator takes a function, plain or async, of one argument. `on_failure` is `refuse` or
    `allow`. This value decides about the command if the function fails or exceeds
    `timeout_seconds`.
    """

    @abstractmethod
    def _registry(self) -> Registry:
        """Return the registry of hooks. From this call on the server runs its hooks."""

    @overload
    def on_connect(self, handler: F, /) -> F: ...

    @overload
    def on_connect(
        self, *, on_failure: OnFailure = ..., timeout_seconds: float | None = ...
    ) -> Callable[[F], F]: ...

    def on_connect(
        self,
        handler: Any = None,
        *,
        on_failure: OnFailure = "refuse",
        timeout_seconds: float | None = None,
    ) -> Any:
        """Call a function with a `Client` before the server welcomes a connection.

        An exception of `errors` in the function closes the connection.
        """
        given = () if handler is None else (handler,)
        return self._add("connect", given, on_failure, timeout_seconds)

    @overload
    def on_subscribe(self, handler: F, /) -> F: ...

    @overload
    def on_subscribe(
        self, *patterns: str, on_failure: OnFailure = ..., timeout_seconds: float | None = ...
    ) -> Callable[[F], F]: ...

    def on_subscribe(
        self,
        *patterns: Any,
        on_failure: OnFailure = "refuse",
        timeout_seconds: float | None = None,
    ) -> Any:
        """Call a function with a `Subscription` before a user reads a topic, by any command.

        An exception of `errors` in the function refuses the command.

        Args:
            patterns: patterns of topics; without a pattern, all topics.
            on_failure: see above.
            timeout_seconds: see above.
        """
        return self._add("subscribe", patterns, on_failure, timeout_seconds)

    @overload
    def on_publish(self, handler: F, /) -> F: ...

    @overload
    def on_publish(
        self, *patterns: str, on_failure: OnFailure = ..., timeout_seconds: float | None = ...
    ) -> Callable[[F], F]: ...

    def on_publish(
        self,
        *patterns: Any,
        on_failure: OnFailure = "refuse",
        timeout_seconds: float | None = None,
    ) -> Any:
        """Call a function with a `Publication` before a user writes to a topic.

        The hook covers every command that needs the grant `publish`. The function may change the
        data. An exception of `errors` in the function refuses the command.

        Args:
            patterns: patterns of topics; without a pattern, all topics.
            on_failure: see above.
            timeout_seconds: see above.
        """
        return self._add("publish", patterns, on_failure, timeout_seconds)

    @overload
    def on_event(self, handler: F, /) -> F: ...

    @overload
    def on_event(self, *patterns: str, timeout_seconds: float | None = ...) -> Callable[[F], F]: ...

    def on_event(self, *patterns: Any, timeout_seconds: float | None = None) -> Any:
        """Call a function with a `StoredEvent` after an event is stored through this worker.

        Only events of users count. Delivery is at most once: events stored at the end of the
        process may get no call.

        Args:
            patterns: patterns of topics; without a pattern, all topics.
            timeout_seconds: see above.
        """
        return self._add("event", patterns, "refuse", timeout_seconds)

    @overload
    def on_disconnect(self, handler: F, /) -> F: ...

    @overload
    def on_disconnect(self, *, timeout_seconds: float | None = ...) -> Callable[[F], F]: ...

    def on_disconnect(self, handler: Any = None, *, timeout_seconds: float | None = None) -> Any:
        """Call a function with a `Client` after a welcomed connection has ended; at most once."""
        given = () if handler is None else (handler,)
        return self._add("disconnect", given, "refuse", timeout_seconds)

    def on_call(self, method: str, *, timeout_seconds: float | None = None) -> Callable[[F], F]:
        """Let a function answer the command `call` of a method; the function gets a `Call`.

        The return value is the answer. The client gets an exception of `errors` in the function as
        the error of its command.

        Args:
            method: 1 to 64 of the characters A-Z a-z 0-9 . _ -
            timeout_seconds: see above.

        Raises:
            ValueError: the method exists already, or its name has another form.
        """
        if not isinstance(method, str) or not _METHOD.search(method):
            raise ValueError("on_call: a method is 1 to 64 of the characters A-Z a-z 0-9 . _ -")

        def add(handler: F) -> F:
            hook = _hook(handler, EVERYWHERE, "refuse", timeout_seconds)
            self._registry().add_method(method, hook)
            return handler

        return add

    def _add(
        self,
        occasion: Occasion,
        given: tuple[Any, ...],
        on_failure: OnFailure,
        timeout_seconds: float | None,
    ) -> Any:
        """Add the one function in `given`, or return a decorator for the patterns in `given`."""
        if on_failure not in get_args(OnFailure):
            raise ValueError(f"on_failure: must be refuse or allow, not {on_failure!r}")
        if len(given) == 1 and callable(given[0]):
            hook = _hook(given[0], EVERYWHERE, on_failure, timeout_seconds)
            self._registry().add(occasion, hook)
            return given[0]
        if not all(isinstance(pattern, str) for pattern in given):
            raise TypeError(f"on_{occasion}: takes patterns of topics, or one function")

        def add(handler: F) -> F:
            hook = _hook(handler, given or EVERYWHERE, on_failure, timeout_seconds)
            self._registry().add(occasion, hook)
            return handler

        return add


def _hook(
    handler: Handler,
    patterns: tuple[str, ...],
    on_failure: OnFailure,
    timeout_seconds: float | None,
) -> Hook:
    if not callable(handler):
        raise TypeError(f"a hook must be a function, not {type(handler).__name__}")
    if timeout_seconds is not None and not 0 < timeout_seconds <= 86_400:
        raise ValueError("timeout_seconds: must be above 0, at most 86400")
    of = handler if hasattr(handler, "__qualname__") else type(handler)
    return Hook(
        f"{of.__module__}.{of.__qualname__}", handler, patterns, on_failure, timeout_seconds
    )
