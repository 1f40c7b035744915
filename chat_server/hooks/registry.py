"""The hooks of an application, by occasion, topic and user."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

from msgspec import Struct

from ..auth.patterns import check_pattern
from ..auth.permissions import allows

Occasion = Literal["connect", "subscribe", "publish", "event", "disconnect"]
OnFailure = Literal["refuse", "allow"]
Handler = Callable[[Any], Any]
"""A function, plain or async, with one of the `subjects` as its argument."""

EVERYWHERE = ("**",)


class Hook(Struct, frozen=True):
    """A function of the application.

    Args:
        name: the function's module and name, for the log.
        handler: the function.
        patterns: patterns of the topics of the hook.
        on_failure: `refuse` refuses the command if the function fails or is late; `allow` continues
            as if there were no such hook.
        timeout_seconds: seconds after which the function is late; None for `hooks.timeout_seconds`.
    """

    name: str
    handler: Handler
    patterns: tuple[str, ...] = EVERYWHERE
    on_failure: OnFailure = "refuse"
    timeout_seconds: float | None = None


class Registry:
    """All hooks of an application, each kind in the order of registration."""

    def __init__(self) -> None:
        self._hooks: dict[Occasion, list[Hook]] = {}
        self._methods: dict[str, Hook] = {}

    def add(self, occasion: Occasion, hook: Hook) -> None:
        """Add a hook.

        Raises:
            ValueError: a pattern of the hook is not well-formed.
        """
        for pattern in hook.patterns:
            try:
                check_pattern(pattern)
            except ValueError as error:
                raise ValueError(f"on_{occasion}: {pattern!r} {error}") from None
        self._hooks.setdefault(occasion, []).append(hook)

    def add_method(self, method: str, hook: Hook) -> None:
        """Add a method that clients can call.

        Raises:
            ValueError: a method of this name exists already.
        """
        if method in self._methods:
            raise ValueError(f"on_call: {method!r} has a function already")
        self._methods[method] = hook

    def method(self, name: str) -> Hook | None:
        """Return the hook of a method; None for an unknown method."""
        return self._methods.get(name)

    def all(self, occasion: Occasion) -> Sequence[Hook]:
        """Return the hooks of an occasion for all topics."""
        return self._hooks.get(occasion, ())

    def matching(self, occasion: Occasion, topic: str, user: str) -> Sequence[Hook]:
        """Return the hooks of an occasion whose patterns match a topic and a user."""
        hooks = self._hooks.get(occasion)
        return [each for each in hooks if allows(each.patterns, topic, user)] if hooks else ()
