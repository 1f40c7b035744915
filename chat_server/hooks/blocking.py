"""Finds hooks that block the event loop, and names them in the log.

The watch times each step of a hook, from one `await` to the next. A thread looks at the running
step, so the log also names a step that never ends.
"""

import logging
import sys
import threading
import time
import traceback
from collections.abc import Coroutine, Generator
from types import coroutine
from typing import Any

from ..logs import LogThrottle

logger = logging.getLogger(__name__)

BLOCKING_SECONDS = 0.1
"""Seconds that a step may take, as asyncio's own `slow_callback_duration`."""

LOOK_SECONDS = 0.5
"""Seconds between two looks at the running step. A step this long is named while running."""


class BlockingWatch:
    """Times the steps of hooks.

    The thread runs from the first step to `stop`.
    """

    def __init__(self) -> None:
        # Name and start of the running step. The tuple is replaced whole, so the thread needs no
        # lock.
        self._step: tuple[str, float] | None = None
        self._loop_thread = 0
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()
        self._throttle = LogThrottle(10.0)

    @coroutine
    def steps(self, name: str, work: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
        """Run a coroutine, and time each of its steps."""
        error: BaseException | None = None
        while True:
            began = self.begin(name)
            try:
                awaited = work.send(None) if error is None else work.throw(error)
            except StopIteration as stop:
                return stop.value
            finally:
                error = None  # The error's traceback holds this frame.
                self.end(name, began)
            try:
                yield awaited
            except GeneratorExit:
                work.close()
                raise
            except BaseException as thrown:
                error = thrown

    def begin(self, name: str) -> float:
        """Note the start of a step; return the time of the start."""
        if self._thread is None:
            self._loop_thread = threading.get_ident()
            self._thread = threading.Thread(target=self._look, name="hook watch", daemon=True)
            self._thread.start()
        began = time.monotonic()
        self._step = (name, began)
        return began

    def end(self, name: str, began: float) -> None:
        """Note the end of a step; log the step if it blocked the event loop."""
        self._step = None
        took = time.monotonic() - began
        if took >= BLOCKING_SECONDS and self._throttle.due(name):
            logger.warning(
                "hook %s blocked the event loop for %.1f s: everybody waited meanwhile", name, took
            )

    def stop(self) -> None:
        """Let the thread end."""
        self._stopped.set()

    def _look(self) -> None:
        told: tuple[str, float] | None = None
        while not self._stopped.wait(LOOK_SECONDS):
            step = self._step
            if step is None or step is told or time.monotonic() - step[1] < LOOK_SECONDS:
                continue
            told = step
            frame = sys._current_frames().get(self._loop_thread)
            where = traceback.format_stack(frame)[-1].strip() if frame is not None else "?"
            logger.error(
                "hook %s blocks the event loop, for %.1f s by now: %s",
                *(step[0], time.monotonic() - step[1], where),
            )
