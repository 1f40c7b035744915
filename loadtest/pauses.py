"""The pauses of a server's garbage collector; see `pauses_server`."""

import struct
import time
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from .accounting import open_files

VARIABLE = "LOADTEST_PAUSES"
"""The environment variable with the path of the file of notes."""

NOTE = struct.Struct("=qqqq")
"""One collection: its generation, the monotonic clock at its start, its length, and its CPU time;
in ns.
"""

GONE_SECONDS = 15.0
IDLE_FILES = 100
"""Open files, more than a server without connections has."""


class Pauses(Struct, frozen=True):
    """The collections of one generation.

    Args:
        longest_cpu_ms: CPU time; less than `longest_ms` if other processes had the core meanwhile.
    """

    count: int
    total_ms: float
    longest_ms: float
    longest_cpu_ms: float


def pauses_since(notes: Path, pid: int, begin_ns: int) -> dict[str, Pauses]:
    """Return the collections since a time, by generation, after the end of all connections.

    The end of thousands of connections may be part of the collector's work.
    """
    deadline = time.monotonic() + GONE_SECONDS
    while open_files(pid) > IDLE_FILES and time.monotonic() < deadline:
        time.sleep(0.1)
    found: dict[str, list[tuple[int, int]]] = {}
    for generation, started_ns, took_ns, worked_ns in NOTE.iter_unpack(notes.read_bytes()):
        if started_ns >= begin_ns:
            found.setdefault(str(generation), []).append((took_ns, worked_ns))
    return {
        generation: Pauses(
            len(each),
            sum(took for took, _ in each) / 1e6,
            max(took for took, _ in each) / 1e6,
            max(worked for _, worked in each) / 1e6,
        )
        for generation, each in sorted(found.items())
    }


def longest(pauses: Mapping[str, Pauses]) -> float | None:
    """Return the longest pause of all generations in ms; None without a pause."""
    return max((one.longest_ms for one in pauses.values()), default=None)
