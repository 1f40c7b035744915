"""The times for which the event loop of a server was blocked; see `held_server`."""

import struct
from pathlib import Path

from msgspec import Struct

VARIABLE = "LOADTEST_HELD"
"""The environment variable with the path of the file of notes."""

NOTE = struct.Struct("=qqqq")
"""One blocked time: the process, the monotonic clock at its start, its length, and its CPU time; in
ns.
"""

TICK_SECONDS = 0.001
LEAST_NS = 3_000_000
"""Nanoseconds: shorter times are not noted, because the watch itself takes such times."""


class Held(Struct, frozen=True):
    """The longest time for which a worker's loop was blocked, in ms.

    Args:
        cpu_ms: the longest continuous CPU time of a worker; less if other processes had its core
            meanwhile.
    """

    wall_ms: float
    cpu_ms: float


def held_between(notes: Path, begin_ns: int, end_ns: int) -> Held:
    """Return the longest blocked times between two times of the monotonic clock."""
    found = [
        (took, worked)
        for _, began, took, worked in NOTE.iter_unpack(notes.read_bytes())
        if began < end_ns and began + took > begin_ns
    ]
    return Held(
        max((took for took, _ in found), default=0) / 1e6,
        max((worked for _, worked in found), default=0) / 1e6,
    )
