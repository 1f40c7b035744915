"""What ends a process that has stopped: it may get signals yet, and tasks may keep it."""

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

logger = logging.getLogger(__name__)


def end_at_once(loop: asyncio.AbstractEventLoop, numbers: Iterable[int]) -> None:
    """Let signals end the process at once from now on, as one whose end was asked for.

    A loop that closes gives its signals back to the system, which ends the process by them. To
    whoever looks after it that is a crash.

    Args:
        loop: handles the signals until now.
        numbers: the signals.
    """
    for number in numbers:
        loop.remove_signal_handler(number)
        signal.signal(number, _end)


def _end(_number: int, _frame: FrameType | None) -> None:
    logging.shutdown()  # what waits to be written
    os._exit(0)


@contextmanager
def ending_within(seconds: float) -> Iterator[threading.Timer]:
    """Yield a timer which, once it is started, ends the process in so many seconds.

    A loop that closes cancels its tasks and waits for them without a limit, also for one of an
    application's that does not end when it is cancelled. If the loop is closed in time, the timer
    does nothing.
    """
    timer = threading.Timer(seconds, _end_without_tasks)
    timer.daemon = True
    try:
        yield timer
    finally:
        timer.cancel()


def _end_without_tasks() -> None:
    logger.error("tasks of the application do not end when they are cancelled: ending without them")
    logging.shutdown()
    os._exit(0)
