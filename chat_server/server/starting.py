"""The time limit of a worker's start, which depends on the worker's CPU time.

A start takes a second or two of CPU time. On a machine with 35 processes for two cores this is more
than a minute for a healthy worker. If no worker can start, the server ends. A busy worker therefore
gets more time. A worker that waits, or never finishes, gets no more.
"""

import logging

from ..metrics.process import cpu_seconds
from . import deadlines

logger = logging.getLogger(__name__)

START_SECONDS = 60.0
"""Seconds that a worker's start may take, and seconds between two looks at a slower start."""

START_LOOKS = int(deadlines.LONGEST_START_SECONDS / START_SECONDS)
"""Looks at a worker; the last look ends the worker in any case."""

START_CPU_SECONDS = 60.0
"""Seconds of CPU time after which a worker that is not ready is killed: its work never ends."""

IDLE_SHARE = 1 / 120
"""Share of one CPU: a worker that uses less is waiting, not slow."""


class Start:
    """A worker during its start.

    Args:
        name: the name of the process, for the log.
        pid: the id of the process.
    """

    def __init__(self, name: str, pid: int) -> None:
        self._name = name
        self._pid = pid
        self._looks = 0
        self._used = 0.0

    def is_hopeless(self, *, excused: bool) -> bool:
        """Return True to kill a worker that is not ready `START_SECONDS` after the last look.

        Args:
            excused: True if the worker may have been suspended, so this look does not count.
        """
        used = cpu_seconds(self._pid)
        idle = used - self._used < IDLE_SHARE * START_SECONDS
        self._used = used
        if excused:
            return False
        self._looks += 1
        seconds = self._looks * START_SECONDS
        hopeless = idle or used >= START_CPU_SECONDS or self._looks >= START_LOOKS
        level, end = (logging.ERROR, "killing it") if hopeless else (logging.WARNING, "going on")
        text = "%s did not accept connections within %g s, with %.1f s of CPU time; %s"
        logger.log(level, text, self._name, seconds, used, end)
        return hopeless
