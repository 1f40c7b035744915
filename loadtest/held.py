"""How long the event loop of a server was held; see `held_server`."""

import struct
from pathlib import Path

from msgspec import Struct

VARIABLE = "LOADTEST_HELD"
"""The environment variable that names the file of notes."""

NOTE = struct.Struct("=qqqq")
"""One time that a loop was held: the process, the monotonic clock when it began, how long it took,
and how much CPU time of that; in ns."""

TICK_SECONDS = 0.001
LEAST_NS = 3_000_000
"""What is noted; less is the turn of the watch itself."""


class Held(Struct, frozen=True):
    """The longest time that any worker's loop was held, in ms.

    Args:
        cpu_ms: the most that a worker worked in one go: less where others had its core meanwhile.
    """

    wall_ms: float
    cpu_ms: float


def held_between(notes: Path, begin_ns: int, end_ns: int) -> Held:
    """Return for how long loops were held between two times of the monotonic clock."""
    found = [
        (took, worked)
        for _, began, took, worked in NOTE.iter_unpack(notes.read_bytes())
        if began < end_ns and began + took > begin_ns
    ]
    return Held(
        max((took for took, _ in found), default=0) / 1e6,
        max((worked for _, worked in found), default=0) / 1e6,
    )
