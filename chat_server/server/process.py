"""A worker's process, as its supervisor sees it: how it starts, shows that it lives, and ends."""

import asyncio
import logging
import math
import signal
import socket
from contextlib import suppress
from multiprocessing import resource_tracker
from multiprocessing.context import SpawnProcess
from typing import NamedTuple

from ..settings import Settings
from .worker import GROUP_SIGNALS, STOP_SLACK_SECONDS, run_supervised

logger = logging.getLogger(__name__)

START_SECONDS = 60.0
"""How long a worker may take until it accepts connections."""

LATE_SECONDS = 2.0
"""Who wakes up so much too late has been stopped, perhaps with the workers: Ctrl-Z."""

SIGNALS = {number.value: number.name for number in signal.Signals}


class Work(NamedTuple):
    """What all workers of a server do.

    Args:
        settings: the server's.
        application: see `run_worker`.
    """

    settings: Settings
    application: str


class WorkerProcess:
    """One worker, from its start on; it is killed when it takes too long for what it has to do.

    Args:
        number: tells the server's workers apart.
        work: what it is to do.
        listener: taken from here by the process; ours to close.
        ready: done at its first sign of life, unless it is done before.

    Raises:
        OSError: the system has no room for another process.
    """

    def __init__(
        self, number: int, work: Work, listener: socket.socket, ready: asyncio.Future[None]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[str] = self._loop.create_future()  # and how; to be shielded
        self._ready = ready
        self._leaving = False
        self._server = work.settings.server
        self._stop_seconds = self._server.drain_seconds + 2 * STOP_SLACK_SECONDS
        # On this it shows its life; its end closes when the process ends, and ours with us.
        self._pulse, pulse = socket.socketpair()
        self._pulse.setblocking(False)
        name = f"worker {number}"
        self._process = SpawnProcess(None, run_supervised, name, (*work, listener, pulse))
        # Until it can ignore them itself.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, GROUP_SIGNALS)
        try:
            resource_tracker.ensure_running()  # which unblocks SIGINT
            signal.pthread_sigmask(signal.SIG_BLOCK, GROUP_SIGNALS)
            self._process.start()
        except OSError:
            self._pulse.close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            pulse.close()
        self.name = f"{name} ({self._process.pid})"
        self._loop.add_reader(self._pulse, self._listen)
        fault = "did not accept connections within"
        self._timer = self._loop.call_later(START_SECONDS, self._overdue, fault, START_SECONDS)

    async def stop(self, *, at_once: bool = False) -> None:
        """Let it drain, and return when it has ended; may be repeated.

        Args:
            at_once: without `server.lame_duck_seconds`, as its successor has the same port.
        """
        if not (self._leaving or self.ended.done()):
            self._leaving = True
            self._process.terminate()
            self._expect("did not end within", self._server.lame_duck_seconds + self._stop_seconds)
            if at_once:
                self.hurry()
        await asyncio.shield(self.ended)

    def hurry(self) -> None:
        """Let it drain at once if it is still taking connections; may be repeated."""
        if not self.ended.done():
            with suppress(OSError):
                self._pulse.send(b".")
            if self._leaving:
                self._expect("did not end within", self._stop_seconds)

    def kill(self) -> None:
        """End it at once; may be repeated."""
        if not self.ended.done():
            self._process.kill()

    def _listen(self) -> None:
        try:
            alive = self._pulse.recv(4096)
        except ConnectionResetError:  # it has ended without reading what we sent
            alive = b""
        if not alive:
            self._bury()
        elif not self._leaving:
            if not self._ready.done():
                self._ready.set_result(None)
            self._expect("did nothing for", self._server.hang_seconds or math.inf)

    def _expect(self, fault: str, seconds: float) -> None:
        """Kill it for that fault unless something else is expected of it in time."""
        self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self._overdue, fault, seconds)

    def _overdue(self, fault: str, seconds: float) -> None:
        if self._loop.time() > self._timer.when() + LATE_SECONDS:
            self._expect(fault, seconds)
        else:
            logger.error("%s %s %g s; killing it", self.name, fault, seconds)
            self.kill()

    def _bury(self) -> None:
        self._timer.cancel()
        self._loop.remove_reader(self._pulse)
        self._pulse.close()
        self._process.join()
        code = self._process.exitcode or 0
        self._process.close()
        killer = SIGNALS.get(-code, f"signal {-code}")
        how = f"was ended by {killer}" if code < 0 else f"ended with exit code {code}"
        self.ended.set_result(f"{self.name} {how}")
