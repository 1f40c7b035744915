"""How long a start and a stop may take, for the worker and for the supervisor that waits for it."""

from asyncio import AbstractEventLoop, TimerHandle

LATE_SECONDS = 2.0
"""A supervisor whose timer fires this late was stopped (Ctrl-Z), perhaps with its workers: they get
their time again."""

STOP_SLACK_SECONDS = 5.0
"""Seconds that a stop may take beyond `drain_seconds`."""

ABORT_SECONDS = 1.0
"""The part of `STOP_SLACK_SECONDS` for requests that are aborted."""

LONGEST_START_SECONDS = 600.0
"""Seconds after which a worker's start has failed, however busy its machine is."""


def is_late(loop: AbstractEventLoop, timer: TimerHandle) -> bool:
    """Return whether a timer that has fired is so late that the process was stopped meanwhile."""
    return loop.time() > timer.when() + LATE_SECONDS
