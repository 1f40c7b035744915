"""Measures a process: event loop, garbage collector, memory, CPU time and descriptors."""

import asyncio
import gc
import os
import sys
import time
from typing import Literal

from .numbers import Numbers

if sys.platform != "win32":
    import resource

SAMPLE_SECONDS = 0.5
"""Seconds between two measurements of the event loop's lag."""


class ProcessWatch:
    """Measures the event loop's lag and the garbage collector's pauses.

    Args:
        numbers: takes the measurements.
    """

    def __init__(self, numbers: Numbers) -> None:
        self._numbers = numbers
        self._timer: asyncio.TimerHandle | None = None
        self._collecting_since = 0.0

    def start(self) -> None:
        """Begin to measure; may be repeated."""
        if self._timer is None:
            gc.callbacks.append(self._on_collection)
            self._plan()

    def stop(self) -> None:
        """Stop measuring; may be repeated."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            gc.callbacks.remove(self._on_collection)

    def _plan(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + SAMPLE_SECONDS
        self._timer = loop.call_at(due, self._on_time, due)

    def _on_time(self, due: float) -> None:
        self._numbers.loop_lag_seconds.observe(asyncio.get_running_loop().time() - due)
        self._plan()

    def _on_collection(self, phase: Literal["start", "stop"], info: dict[str, int]) -> None:
        now = time.perf_counter()
        if phase == "start":
            self._collecting_since = now
        else:
            self._numbers.gc_seconds[info["generation"]] += now - self._collecting_since


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process has used, or 0 where the system does not tell."""
    if sys.platform == "win32":
        return 0.0
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as stat:
            # The fields follow the name, which may contain blanks and brackets.
            fields = stat.read(4_096).rpartition(b")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_bytes() -> int:
    """Return the resident memory of this process, or 0 where the system does not tell."""
    if sys.platform == "win32":
        return 0
    try:
        with open("/proc/self/statm", "rb", buffering=0) as statm:  # /proc never waits for a disk
            pages = int(statm.read(256).split()[1])
    except OSError:
        return 0
    return pages * resource.getpagesize()


def open_files() -> int:
    """Return how many descriptors this process has open, or 0 where the system does not tell."""
    try:
        # Since Linux 6.2 the folder's size is the count. Listing 100,000 descriptors takes 50 ms.
        return os.stat("/proc/self/fd").st_size or len(os.listdir("/proc/self/fd"))
    except OSError:
        return 0
