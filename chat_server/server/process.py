"""A worker's process, as its supervisor sees it: how it starts, shows that it lives, and ends."""

import asyncio
import logging
import math
import multiprocessing
import os
import signal
import socket
import sys
import time
from contextlib import suppress
from multiprocessing.connection import Connection

from .. import logs
from ..settings import Settings, SettingsError
from .worker import STOP_SLACK_SECONDS, run_worker

logger = logging.getLogger(__name__)

START_SECONDS = 60.0
"""How long a worker may take until it accepts connections."""

BEATS = 10
"""Signs of life within `server.hang_seconds`."""


class WorkerProcess:
    """One worker, from its start on.

    Whether it is in time is for the supervisor to check: it must not pass its `deadline`.

    Args:
        number: tells the server's workers apart.
        settings: the server's.
        listener: taken from here by the process; ours to close.

    Raises:
        OSError: the system has no room for another process.
    """

    def __init__(self, number: int, settings: Settings, listener: socket.socket) -> None:
        context = multiprocessing.get_context("spawn")
        self.number = number
        self.ready = False
        self.started_at = time.monotonic()
        self.deadline = self.started_at + START_SECONDS
        self._overdue = f"did not accept connections within {START_SECONDS:g} s"
        self._leaving = False
        self._hang_seconds = settings.server.hang_seconds or math.inf
        self._drain_seconds = settings.server.drain_seconds
        # It shows its life on a pipe, first when it is ready; closed once it cannot any more.
        pipe, beats = context.Pipe(duplex=False)
        self.pipe: Connection | None = pipe
        self._process = context.Process(
            target=_work, args=(settings, listener, beats), name=f"chat-server worker {number}"
        )
        try:
            self._process.start()
        except BaseException:
            pipe.close()
            raise
        finally:
            beats.close()
        self.pid = self._process.pid
        self.sentinel = self._process.sentinel

    def listen(self) -> None:
        """Take the signs of life that wait in the pipe."""
        assert self.pipe is not None  # noqa: S101 - only an open one has anything
        if not os.read(self.pipe.fileno(), 4096):
            self.pipe.close()
            self.pipe = None
            return
        self.ready = True
        self.excuse()

    def excuse(self) -> None:
        """Begin to wait anew for the next sign of life."""
        if self.ready and not self._leaving:
            self.deadline = time.monotonic() + self._hang_seconds
            self._overdue = f"did nothing for {self._hang_seconds:g} s"

    def stop(self) -> None:
        """Let it drain and end; may be repeated."""
        if self._leaving:
            return  # a second signal would cut its drain short
        self._leaving = True
        seconds = self._drain_seconds + 2 * STOP_SLACK_SECONDS
        self.deadline = time.monotonic() + seconds
        self._overdue = f"did not end within {seconds:g} s"
        self._process.terminate()

    def kill(self) -> None:
        """End it at once."""
        self.deadline = math.inf
        self._process.kill()

    def kill_overdue(self) -> None:
        """End it at once if it has passed its deadline."""
        if time.monotonic() > self.deadline:
            logger.error("worker %d (%d) %s; killing it", self.number, self.pid, self._overdue)
            self.kill()

    def bury(self) -> str:
        """Take note of the end that has come; return its reason."""
        self._process.join()
        code = self._process.exitcode or 0
        self._process.close()
        if self.pipe is not None:
            self.pipe.close()
            self.pipe = None
        if code >= 0:
            return f"ended with exit code {code}"
        with suppress(ValueError):
            return f"was ended by {signal.Signals(-code).name}"
        return f"was ended by signal {-code}"


def _work(settings: Settings, listener: socket.socket, pipe: Connection) -> None:
    """Be a worker; runs in a process of its own."""
    # Ctrl-C and a hang-up reach the whole process group; what to do is the supervisor's to say.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    logs.configure(settings.log)
    parent = multiprocessing.parent_process()
    # A supervisor that does not read for hours must not stop us.
    os.set_blocking(pipe.fileno(), False)

    def on_ready() -> None:
        logger.info("worker %d accepts connections", os.getpid())
        beat()

    def beat() -> None:
        with suppress(OSError):
            os.write(pipe.fileno(), b".")
        if settings.server.hang_seconds:
            asyncio.get_running_loop().call_later(settings.server.hang_seconds / BEATS, beat)

    try:
        run_worker(
            settings,
            listener,
            stop_on=frozenset({signal.SIGTERM}),
            parent=None if parent is None else parent.sentinel,
            on_ready=on_ready,
        )
    except SettingsError as error:  # such as a file with a key that is gone
        logger.error("%s", error)
        sys.exit(2)
