"""A server forked from a process that has imported it, which is most of the work of a start."""

import functools
import gc
import multiprocessing
import os
import runpy
import subprocess
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path

from .server import ServerProcess

MODULES = [
    "aiosqlite",
    "alembic.command",
    "chat_server.accounts.accounts",
    "chat_server.app",
    "chat_server.archive.archive",
    "chat_server.cli.commands",
    "chat_server.consumers.runner",
    "chat_server.database.database",
    "chat_server.http.application",
    "chat_server.http.sign_in",
    "chat_server.http.user_data",
    "chat_server.http.users",
    "chat_server.metrics.exposition",
    "chat_server.server.main",
    "chat_server.server.worker",
    "sqlalchemy.dialects.sqlite.aiosqlite",
    "uvloop",
    __name__,
]
"""What servers of tests import, with all that these import."""


class PreloadedServer(ServerProcess):
    """A `ServerProcess` for tests whose subject is neither a start nor an import."""

    def _spawn(self) -> "Forked":
        return Forked(self._command, self._environ, self._folder, self._output.name)


class Forked:
    """What `ServerProcess` uses of a `subprocess.Popen`, for a process that was forked.

    Args:
        command: an interpreter, `-m`, a module and its arguments.
        environ: all variables.
        folder: where to run it, if not here.
        output: the file for what it writes to stderr.
    """

    def __init__(
        self, command: Sequence[str], environ: Mapping[str, str], folder: Path | None, output: str
    ) -> None:
        self._command = command
        context = _context()
        theirs, ours = context.Pipe()
        arguments = (command[2], command[3:], dict(environ), folder, output, theirs)
        self._process = context.Process(name="MainProcess", target=_run, args=arguments)
        self._process.start()
        theirs.close()
        with ours:
            ours.recv()
        self.pid: int = self._process.pid or 0

    def poll(self) -> int | None:
        """Return the exit code, or None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end, and return the exit code.

        Raises:
            subprocess.TimeoutExpired: it still runs.
        """
        self._process.join(timeout)
        if (code := self._process.exitcode) is None:
            raise subprocess.TimeoutExpired(self._command, timeout or 0.0)
        return code

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)


@functools.cache
def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(MODULES)
    return context


def _run(
    module: str,
    arguments: Sequence[str],
    environ: Mapping[str, str],
    folder: Path | None,
    output: str,
    started: Connection,
) -> None:
    """Be the process that `python -m module arguments` would be."""
    # What was imported is kept by everybody: no collector of the server's need look at it.
    gc.freeze()
    os.setsid()
    started.send(None)
    started.close()
    os.environ.clear()
    os.environ.update(environ)
    if folder is not None:
        os.chdir(folder)
        sys.path.insert(0, str(folder))
    for file, number, flags in (
        (os.devnull, 0, os.O_RDONLY),
        (os.devnull, 1, os.O_WRONLY),
        (output, 2, os.O_WRONLY | os.O_APPEND),
    ):
        opened = os.open(file, flags)
        os.dup2(opened, number)
        os.close(opened)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
