"""`@chat.on_publish("room:*")` and its like: how an application adds its hooks."""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, TypeVar, get_args, overload

from ..protocol.commands import METHOD_PATTERN
from .registry import EVERYWHERE, Handler, Hook, Occasion, OnFailure, Registry

F = TypeVar("F", bound=Callable[..., Any])

_METHOD = re.compile(METHOD_PATTERN)


class Hookable(ABC):
    """Something to which hooks are added by decorators.

    Each takes a function, plain or async, of one argument. `on_failure` says what happens if the
    function fails or is not done within `timeout_seconds`: `refuse` or `allow`.
    """

    @abstractmethod
    def _registry(self) -> Registry:
        """Return where hooks are added; from now on they are heeded."""

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
        """Ask a function before a connection is welcomed; it is given a `Client`.

        An error of `errors` that it raises closes the connection.
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
        """Ask a function before somebody reads a topic, in any way; it is given a `Subscription`.

        An error of `errors` that it raises refuses the command.

        Args:
            patterns: of the topics; without any, all.
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
        """Ask a function before somebody writes to a topic; it is given a `Publication`.

        That is every command that needs the grant `publish`. The function may change the data. An
        error of `errors` that it raises refuses the command.

        Args:
            patterns: of the topics; without any, all.
            on_failure: see above.
            timeout_seconds: see above.
        """
        return self._add("publish", patterns, on_failure, timeout_seconds)

    @overload
    def on_event(self, handler: F, /) -> F: ...

    @overload
    def on_event(self, *patterns: str, timeout_seconds: float | None = ...) -> Callable[[F], F]: ...

    def on_event(self, *patterns: Any, timeout_seconds: float | None = None) -> Any:
        """Tell a function what users have stored through this worker; it is given a `StoredEvent`.

        At most once: what is stored when the process ends may not be told.

        Args:
            patterns: of the topics; without any, all.
            timeout_seconds: see above.
        """
        return self._add("event", patterns, "refuse", timeout_seconds)

    @overload
    def on_disconnect(self, handler: F, /) -> F: ...

    @overload
    def on_disconnect(self, *, timeout_seconds: float | None = ...) -> Callable[[F], F]: ...

    def on_disconnect(self, handler: Any = None, *, timeout_seconds: float | None = None) -> Any:
        """Tell a function that a connection which was welcomed has ended; at most once."""
        given = () if handler is None else (handler,)
        return self._add("disconnect", given, "refuse", timeout_seconds)

    def on_call(self, method: str, *, timeout_seconds: float | None = None) -> Callable[[F], F]:
        """Let a function answer the command `call` of a method; it is given a `Call`.

        What it returns is the answer; an error of `errors` that it raises is the client's.

        Args:
            method: 1 to 64 of the characters A-Z a-z 0-9 . _ -
            timeout_seconds: see above.

        Raises:
            ValueError: there is such a method, or its name has another form.
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
        """Add the one function that was given, or return what adds it for the patterns given."""
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
