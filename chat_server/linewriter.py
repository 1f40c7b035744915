"""Writes lines to stderr or stdout without blocking the server if their reader stops."""

import os
import select
import stat
import sys
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TextIO

if sys.platform != "win32":  # Windows has no such locks
    import fcntl

MAX_WAITING_BYTES = 1_048_576
"""Bytes of lines that may wait for their reader; further lines are dropped and counted."""

WRITABLE_SECONDS = 1.0
"""Seconds per wait for a descriptor that another process has made non-blocking."""


class LineWriter:
    """Writes lines to a stream in a separate thread; `write` never blocks.

    A line is written whole, even if other processes write to the same pipe: all our processes lock
    the pipe.

    Args:
        stream: the stream; None drops all lines, as for Python's closed stderr.
        describe_dropped: returns a line in place of the given number of dropped lines.
        lock: guards the queue. `write` and `flush` may be called with the lock held.
    """

    def __init__(
        self,
        stream: TextIO | None,
        describe_dropped: Callable[[int], str],
        lock: Any = None,
    ) -> None:
        self._stream = stream
        self._descriptor = _descriptor(stream)
        self._describe_dropped = describe_dropped
        self._changed = threading.Condition(lock)
        self._thread: threading.Thread | None = None
        # Lines, and the numbers of lines dropped in between.
        self._entries: deque[bytes | int] = deque()
        self._waiting_bytes = 0
        self._writing = False
        self._closing = False
        # Used by the thread alone.
        self._lost = 0
        self._torn = False

    def write(self, line: str) -> None:
        """Queue a line without its line break; drop the line if too many bytes wait."""
        if self._stream is None:
            return
        data = line.encode(errors="backslashreplace") + b"\n"
        with self._changed:
            if self._thread is None or not self._thread.is_alive():
                self._start()
            if self._waiting_bytes + len(data) <= MAX_WAITING_BYTES:
                self._entries.append(data)
                self._waiting_bytes += len(data)
            elif self._entries and isinstance(self._entries[-1], int):
                self._entries[-1] += 1
            else:
                self._entries.append(1)
            self._changed.notify_all()

    def flush(self, seconds: float) -> bool:
        """Wait at most `seconds` until all lines are written; return True if all are."""
        with self._changed:
            return self._changed.wait_for(lambda: not (self._entries or self._writing), seconds)

    def close(self) -> None:
        """End the thread after the waiting lines."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def _start(self) -> None:
        # After a fork there is no thread, and the parent writes the waiting lines.
        self._entries.clear()
        self._waiting_bytes = 0
        self._writing = False
        self._thread = threading.Thread(target=self._run, name="lines", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while (entry := self._next()) is not None:
            if isinstance(entry, int):
                self._lost += entry
            if self._lost and self._put(self._describe_dropped(self._lost).encode() + b"\n"):
                self._lost = 0
            # Dropped lines are reported before a later line is written.
            if isinstance(entry, bytes) and (self._lost or not self._put(entry)):
                self._lost += 1

    def _next(self) -> bytes | int | None:
        with self._changed:
            self._writing = False
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._entries or self._closing)
            if not self._entries:
                return None
            self._writing = True
            entry = self._entries.popleft()
            if isinstance(entry, bytes):
                self._waiting_bytes -= len(entry)
            return entry

    def _put(self, line: bytes) -> bool:
        """Write a line, blocking if necessary; return False after a failure."""
        try:
            if self._descriptor is None:
                assert self._stream is not None  # noqa: S101 - `write` has seen to it
                self._stream.write(line.decode(errors="replace"))
                self._stream.flush()
            else:
                self._write_whole(self._descriptor, line)
        except (OSError, ValueError):  # a full disk, a reader that is gone, a closed stream
            return False
        return True

    def _write_whole(self, descriptor: int, line: bytes) -> None:
        if self._torn:
            line = b"\n" + line
        locked = _lock(descriptor)
        left = line
        try:
            while left:
                try:
                    left = left[os.write(descriptor, left) :]
                except BlockingIOError:
                    select.select([], [descriptor], [], WRITABLE_SECONDS)
        finally:
            # A full disk takes the first part of a line; the next line must not continue this part.
            self._torn = bool(left) and (self._torn or len(left) < len(line))
            if locked:
                fcntl.lockf(descriptor, fcntl.LOCK_UN)


def _descriptor(stream: TextIO | None) -> int | None:
    if stream is not None:
        with suppress(OSError, ValueError, AttributeError):  # as of io.StringIO
            return stream.fileno()
    return None


def _lock(descriptor: int) -> bool:
    """Lock a pipe or a socket against our other processes, because it may take a line in pieces."""
    if sys.platform == "win32":
        return False
    mode = os.fstat(descriptor).st_mode
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        return False  # a file takes the bytes of one call in one piece
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX)
    except OSError:  # a system that locks only files
        return False
    return True
