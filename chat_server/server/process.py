"""A worker's process, as its supervisor sees it: how it starts, shows that it lives, and ends."""

import asyncio
import logging
import math
import multiprocessing
import signal
import socket
from collections.abc import Callable
from multiprocessing import resource_tracker

from ..settings import Settings
from .worker import GROUP_SIGNALS, STOP_SLACK_SECONDS, run_supervised

logger = logging.getLogger(__name__)

START_SECONDS = 60.0
"""How long a worker may take until it accepts connections."""

LATE_SECONDS = 2.0
"""Who wakes up so much too late has been stopped, perhaps with the workers: Ctrl-Z."""

SIGNALS = {number.value: number.name for number in signal.Signals}


class WorkerProcess:
    """One worker, from its start on; it is killed when it takes too long for what it has to do.

    Args:
        number: tells the server's workers apart.
        settings: the server's.
        application: see `run_worker`.
        listener: taken from here by the process; ours to close.
        on_beat: called at each sign of life, of which the first says that it is ready.

    Raises:
        OSError: the system has no room for another process.
    """

    def __init__(
        self,
        number: int,
        settings: Settings,
        application: str,
        listener: socket.socket,
        on_beat: Callable[[], None],
    ) -> None:
        self.ended = asyncio.Event()
        self._leaving = False
        self._server = settings.server
        self._on_beat = on_beat
        # On this it shows its life; its end closes when the process ends, and ours with us.
        self._pulse, pulse = socket.socketpair()
        name = f"worker {number}"
        context = multiprocessing.get_context("spawn")
        given = (settings, application, listener, pulse)
        self._process = context.Process(None, run_supervised, name, given)
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
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._pulse, self._listen)
        fault = "did not accept connections within"
        self._timer = self._loop.call_later(START_SECONDS, self._overdue, fault, START_SECONDS)

    def stop(self) -> None:
        """Let it drain and end; may be repeated."""
        if not (self._leaving or self.ended.is_set()):  # a second signal would cut its drain short
            self._leaving = True
            self._process.terminate()
            self._expect("did not end within", self._server.drain_seconds + 2 * STOP_SLACK_SECONDS)

    def kill(self) -> None:
        """End it at once; may be repeated."""
        if not self.ended.is_set():
            self._process.kill()

    def _listen(self) -> None:
        if not self._pulse.recv(4096):
            self._bury()
        elif not self._leaving:
            self._on_beat()
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
        self.end = f"{self.name} {how}"
        self.ended.set()
