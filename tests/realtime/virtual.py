"""An event loop whose time stands still until a test moves it, and which runs turn by turn."""

import asyncio
from asyncio import events
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")


class VirtualLoop(asyncio.SelectorEventLoop):
    """Runs one turn at a time, so that a test decides what happens between any two."""

    def __init__(self) -> None:
        self._now = 0.0
        super().__init__()
        self.faults: list[dict[str, Any]] = []
        self.set_exception_handler(lambda _, context: self.faults.append(context))

    def time(self) -> float:
        return self._now

    def turn(self, count: int = 1) -> None:
        """Run what is ready, and nothing that becomes ready by it."""
        for _ in range(count):
            self.call_soon(self.stop)
            self.run_forever()

    def advance(self, seconds: float) -> None:
        """Move time; what is due then runs in the next turn."""
        self._now += seconds

    def do(self, action: Callable[[], T]) -> T:
        """Call `action` as if from within the loop, but without a turn before or after it."""
        with self._as_running():
            return action()

    @contextmanager
    def _as_running(self) -> Iterator[None]:
        events._set_running_loop(self)
        try:
            yield
        finally:
            events._set_running_loop(None)
