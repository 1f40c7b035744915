"""How long a worker may take until it accepts connections, and why no fixed time is right.

A start takes a second or two of CPU time. On a machine with 35 processes for two cores that is more
than a minute, for a worker with which nothing is wrong; and if none can start, the server ends.
So one that is at work is given more time. One that waits, or never comes to an end, is not.
"""

import logging

from ..metrics.process import cpu_seconds
from . import deadlines

logger = logging.getLogger(__name__)

START_SECONDS = 60.0
"""Seconds that a worker may take, and between two looks at one that takes longer."""

START_LOOKS = int(deadlines.LONGEST_START_SECONDS / START_SECONDS)
"""Looks at a worker; the last one ends it, whatever it does."""

START_CPU_SECONDS = 60.0
"""CPU time after which a worker is ended that is not ready: it does something without end."""

IDLE_SHARE = 1 / 120
"""A worker that uses less of one CPU than this is not slow: it waits for something."""


class Start:
    """A worker that starts.

    Args:
        name: of the process, for the log.
        pid: of the process.
    """

    def __init__(self, name: str, pid: int) -> None:
        self._name = name
        self._pid = pid
        self._looks = 0
        self._used = 0.0

    def is_hopeless(self, *, excused: bool) -> bool:
        """Return whether to end a worker that is not ready `START_SECONDS` after the last look.

        Args:
            excused: the worker was stopped for a while, perhaps, so this look does not count.
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
