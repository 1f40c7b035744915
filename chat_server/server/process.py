"""A worker's process from the supervisor's side: start, heartbeats, end."""

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
from . import deadlines, starting, supervised
from .totals import Totals

logger = logging.getLogger(__name__)

SIGNALS = {number.value: number.name for number in signal.Signals}


class WorkerSpec(NamedTuple):
    """The common arguments of all workers of a server.

    Args:
        settings: the server's settings.
        application: see `run_worker`.
    """

    settings: Settings
    application: str


class WorkerProcess:
    """One worker process; killed if it misses a deadline.

    Args:
        number: the number of the worker within the server.
        spec: the arguments of the worker.
        listener: the listening socket; the process duplicates the socket, and the caller closes it.
        ready: resolved at the first heartbeat, unless resolved already.
        totals: receives the worker's numbers.

    Raises:
        OSError: the system has no room for another process.
    """

    def __init__(
        self,
        number: int,
        spec: WorkerSpec,
        listener: socket.socket,
        ready: asyncio.Future[None],
        totals: Totals,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[str] = self._loop.create_future()  # how it ended; shield it
        self._ready = ready
        self._leaving = False
        self._server = spec.settings.server
        self._stop_seconds = self._server.drain_seconds + 2 * deadlines.STOP_SLACK_SECONDS
        # The worker sends heartbeats on this socket, and each end closes with its process.
        self._heartbeat, heartbeat = socket.socketpair()
        self._heartbeat.setblocking(False)
        report = totals.open(number)
        name, arguments = f"worker {number}", (number, *spec, listener, heartbeat, report)
        self._process = SpawnProcess(None, supervised.run, name, arguments)
        # Blocked until the worker can ignore these signals itself.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, supervised.GROUP_SIGNALS)
        try:
            resource_tracker.ensure_running()  # `ensure_running` unblocks SIGINT
            signal.pthread_sigmask(signal.SIG_BLOCK, supervised.GROUP_SIGNALS)
            self._process.start()
        except OSError:
            self._heartbeat.close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            heartbeat.close()
            report.close()
        self.name = f"{name} ({self._process.pid})"
        self._loop.add_reader(self._heartbeat, self._on_heartbeat)
        self._start = starting.Start(self.name, self._process.pid or 0)
        self._timer = self._loop.call_later(starting.START_SECONDS, self._look_at_start)

    async def stop(self, *, at_once: bool = False) -> None:
        """Let the worker drain, and return after its end; may be repeated.

        Args:
            at_once: skip `server.lame_duck_seconds`, because a successor has the same port.
        """
        if not (self._leaving or self.ended.done()):
            self._leaving = True
            self._process.terminate()
            self._expect("did not end within", self._server.lame_duck_seconds + self._stop_seconds)
            if at_once:
                self.drain_now()
        await asyncio.shield(self.ended)

    def drain_now(self) -> None:
        """End the worker's present `server.lame_duck_seconds`; may be repeated."""
        if not self.ended.done():
            with suppress(OSError):
                self._heartbeat.send(b".")
            if self._leaving:
                self._expect("did not end within", self._stop_seconds)

    def kill(self) -> None:
        """Kill the worker; may be repeated."""
        if not self.ended.done():
            self._process.kill()

    def _on_heartbeat(self) -> None:
        try:
            alive = self._heartbeat.recv(4096)
        except ConnectionResetError:  # The worker has ended without reading our bytes.
            alive = b""
        if not alive:
            self._reap()
        elif not self._leaving:
            if not self._ready.done():
                self._ready.set_result(None)
            self._expect("did nothing for", self._server.hang_seconds or math.inf)

    def _look_at_start(self) -> None:
        if self._start.is_hopeless(excused=deadlines.is_late(self._loop, self._timer)):
            self.kill()
        else:
            self._timer = self._loop.call_later(starting.START_SECONDS, self._look_at_start)

    def _expect(self, fault: str, seconds: float) -> None:
        """Kill the worker for `fault`, unless `_expect` is called again within `seconds`."""
        self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self._overdue, fault, seconds)

    def _overdue(self, fault: str, seconds: float) -> None:
        if deadlines.is_late(self._loop, self._timer):
            self._expect(fault, seconds)
        else:
            logger.error("%s %s %g s; killing it", self.name, fault, seconds)
            self.kill()

    def _reap(self) -> None:
        self._timer.cancel()
        self._loop.remove_reader(self._heartbeat)
        self._heartbeat.close()
        self._process.join()
        code = self._process.exitcode or 0
        self._process.close()
        killer = SIGNALS.get(-code, f"signal {-code}")
        how = f"was ended by {killer}" if code < 0 else f"ended with exit code {code}"
        self.ended.set_result(f"{self.name} {how}")
