"""Ends a stopped process despite late signals and unfinished tasks."""

import asyncio
import atexit
import logging
import os
import signal
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from types import FrameType

logger = logging.getLogger(__name__)


def end_at_once(loop: asyncio.AbstractEventLoop, numbers: Collection[int]) -> None:
    """Let signals end the process at once from now on, with exit code 0.

    A closing loop gives its signals back to the system, and the system's handler kills the process.
    A service manager would see a crash.

    Args:
        loop: the loop that handles the signals so far.
        numbers: the signals.
    """
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    for number in numbers:
        loop.remove_signal_handler(number)
        signal.signal(number, _end)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def ignore_in_finalization(numbers: Collection[int]) -> None:
    """Ignore signals once the interpreter is being finalized.

    The interpreter, too, gives its signals back to the system before it takes its modules apart.
    To be called early: the last function of `atexit` is the one that was registered first.

    Args:
        numbers: the signals.
    """
    for number in numbers:
        atexit.register(signal.signal, number, signal.SIG_IGN)


def _end(_number: int, _frame: FrameType | None) -> None:
    logging.shutdown()  # flush pending records
    os._exit(0)


@contextmanager
def ending_within(seconds: float) -> Iterator[threading.Timer]:
    """Yield a timer; once started, it ends the process after `seconds`.

    A closing loop cancels its tasks and waits for them without a limit. An application's task may
    ignore the cancellation. If the loop closes in time, the timer does nothing.
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
