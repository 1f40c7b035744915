"""Pauses of a server's garbage collector are what it noted, from a time on."""

import os
from pathlib import Path

from loadtest.pauses import NOTE, Pauses, longest, pauses_since

MS = 1_000_000


def test_notes_are_summed_up_by_generation(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    written = [
        (2, 50, 900 * MS, 900 * MS),
        (0, 100, 2 * MS, 2 * MS),
        (1, 200, 7 * MS, 5 * MS),
        (0, 300, 4 * MS, 1 * MS),
    ]
    notes.write_bytes(b"".join(NOTE.pack(*note) for note in written))
    found = pauses_since(notes, os.getpid(), begin_ns=100)
    # The full collection was over before anybody came.
    assert found == {"0": Pauses(2, 6.0, 4.0, 2.0), "1": Pauses(1, 7.0, 7.0, 5.0)}
    assert longest(found) == 7.0
    assert longest({}) is None
