"""Signals that come when everything is done already, and only the process is still there."""

import asyncio
import logging
import os
import signal
from collections.abc import Iterable
from types import FrameType


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
