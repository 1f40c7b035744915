"""The time limits of a start and a stop, for the worker and its supervisor."""

from asyncio import AbstractEventLoop, TimerHandle

LATE_SECONDS = 2.0
"""Seconds: a supervisor whose timer fires this late was suspended (Ctrl-Z), perhaps with its
workers. The workers get their time again.
"""

STOP_SLACK_SECONDS = 5.0
"""Seconds that a stop may take beyond `drain_seconds`."""

ABORT_SECONDS = 1.0
"""Seconds of `STOP_SLACK_SECONDS` for aborted requests."""

LONGEST_START_SECONDS = 600.0
"""Seconds after which a worker's start has failed, however busy its machine is."""


def is_late(loop: AbstractEventLoop, timer: TimerHandle) -> bool:
    """Return True if a timer fired so late that the process was suspended meanwhile."""
    return loop.time() > timer.when() + LATE_SECONDS
