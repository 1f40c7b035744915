"""The archive's database, and its faults: restarted, frozen, or with a full disk."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from loadtest.accounting import PROC

from ..rig.postgres_server import PostgresServer

DISK_MB = 256
"""Megabytes of SQLite's disk, more than a run fills."""

LEFT_BYTES = 65_536
"""Free bytes on a full disk: writes into the existing file still succeed."""


class Database(Protocol):
    """A database; every method blocks.

    Attributes:
        url: the address of the database.
        faults: the possible kinds of faults.
    """

    url: str
    faults: tuple[str, ...]

    def harm(self, kind: str) -> None:
        """Inject a fault."""

    def heal(self, kind: str) -> None:
        """End a fault."""


class Postgres:
    """Implements `Database` with a separate PostgreSQL."""

    faults: tuple[str, ...] = ("database restarted", "database frozen")

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self.url = server.create("chat")
        self._stopped: list[int] = []

    def harm(self, kind: str) -> None:
        """Inject a fault."""
        if kind == "database restarted":
            self._server.crash()
            return
        # Those that are there: a connection that is made meanwhile waits for the first of them.
        self._stopped = list(_tree(self._server.pid))
        for pid in self._stopped:
            _send(pid, signal.SIGSTOP)

    def heal(self, kind: str) -> None:
        """End a fault."""
        if kind == "database restarted":
            self._server.start()
            return
        for pid in self._stopped:
            _send(pid, signal.SIGCONT)


class Sqlite:
    """Implements `Database` with a file, on a small disk if possible.

    Args:
        disk: a separate folder.
        small: True if the folder is a disk that may be filled.
    """

    def __init__(self, disk: Path, *, small: bool) -> None:
        self.url = f"sqlite+aiosqlite:///{disk / 'chat.db'}"
        self.faults: tuple[str, ...] = ("disk full",) if small else ()
        self._filler = disk / "filler"

    def harm(self, kind: str) -> None:
        """Inject a fault."""
        with self._filler.open("wb") as filler:
            free = os.statvfs(self._filler.parent)
            left = free.f_bavail * free.f_frsize - LEFT_BYTES
            if left > 0:
                with suppress(OSError):  # the server was faster
                    os.posix_fallocate(filler.fileno(), 0, left)

    def heal(self, kind: str) -> None:
        """End a fault."""
        self._filler.unlink(missing_ok=True)


@contextmanager
def postgres() -> Iterator[Postgres]:
    """Start a PostgreSQL, and end it with the block."""
    server = PostgresServer()
    try:
        server.start()
        yield Postgres(server)
    finally:
        server.stop()


@contextmanager
def sqlite(folder: Path) -> Iterator[Sqlite]:
    """Make a disk for SQLite: a small one with the right to mount, otherwise a folder."""
    disk = folder / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "chaos", str(disk)]
    small = (
        os.geteuid() == 0 and not subprocess.run(mount, check=False, capture_output=True).returncode
    )
    try:
        yield Sqlite(disk, small=small)
    finally:
        if small:
            # A worker that was just killed may have it open for a moment.
            for _ in range(100):
                if not subprocess.run(["umount", str(disk)], check=False).returncode:
                    break
                time.sleep(0.1)


def _tree(pid: int) -> Iterator[int]:
    """Yield a process and its children."""
    yield pid
    with suppress(OSError):
        yield from map(int, (PROC / f"{pid}/task/{pid}/children").read_text().split())


def _send(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
