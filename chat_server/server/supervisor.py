"""Several workers on one port: started, watched, replaced, and stopped together."""

import logging
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from multiprocessing.connection import wait

from ..settings import Settings
from . import sockets
from .hangup import Terminal
from .process import WorkerProcess

logger = logging.getLogger(__name__)

HEALTHY_SECONDS = 10.0
"""A worker that lived this long is restarted at once; one that did not has to wait."""

RESTART_SECONDS = (1.0, 30.0)
"""The first such wait and the longest; each is twice the one before."""

LATE_SECONDS = 2.0
"""Who wakes up so much too late has been stopped, perhaps with the workers: Ctrl-Z."""


class _Slot:
    """One of the workers: its socket, its present process, and those before and after."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.listener: socket.socket | None = None
        self.worker: WorkerProcess | None = None
        self.successor: WorkerProcess | None = None
        self.leaving: WorkerProcess | None = None
        self.was_ready = False
        self.restart_at = 0.0
        self.wait = 0.0

    def processes(self) -> list[WorkerProcess]:
        return [p for p in (self.worker, self.successor, self.leaving) if p is not None]

    def close(self) -> None:
        if self.listener is not None:
            self.listener.close()
            self.listener = None


class Supervisor:
    """Keeps `server.workers` processes running until SIGINT or SIGTERM; SIGHUP replaces them.

    Args:
        settings: the server's.
        on_ready: called with the address once every worker has accepted requests.
    """

    def __init__(self, settings: Settings, on_ready: Callable[[tuple[str, int]], None]) -> None:
        self._settings = settings
        self._on_ready = on_ready
        self._slots = [_Slot(number) for number in range(1, settings.server.workers + 1)]
        self._to_replace: list[_Slot] = []
        self._announced = False
        self._terminal = Terminal()
        self._stops = 0
        self._stopping = False
        self._address: tuple[str, int] = ("", 0)

    def run(self) -> int:
        """Supervise until a signal, and return the process's exit code.

        Raises:
            ListenError: the address cannot be listened on.
        """
        with ExitStack() as stack:
            reserved = stack.enter_context(sockets.reserve(self._settings))
            self._address = reserved.getsockname()[:2]
            # At a fault of our own; Python would wait for them before it ends.
            stack.callback(self._kill_all)
            wake = self._catch_signals(stack)
            failed = False
            while not self._stops and not failed:
                self._start_due()
                self._replace_next()
                self._watch(wake)
                failed = not self._announced and any(
                    slot.worker is None and not slot.was_ready for slot in self._slots
                )
            self._stop(wake)
            return 1 if failed else 0

    def _catch_signals(self, stack: ExitStack) -> socket.socket:
        wake, notify = socket.socketpair()
        for end in (wake, notify):
            end.setblocking(False)
            stack.enter_context(end)
        stack.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(notify.fileno()))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            stack.callback(signal.signal, number, signal.signal(number, self._on_signal))
        return wake

    def _on_signal(self, number: int, frame: object) -> None:
        if number != signal.SIGHUP:
            self._stops += 1
        elif not self._terminal.is_gone:
            self._to_replace = list(self._slots)
        elif not self._stops:  # it may be told of that twice
            self._stops += 1

    def _processes(self) -> Iterator[tuple[_Slot, WorkerProcess]]:
        return ((slot, process) for slot in self._slots for process in slot.processes())

    # Starting and replacing ------------------------------------------------------------------

    def _start_due(self) -> None:
        for slot in self._slots:
            if slot.worker is None and time.monotonic() >= slot.restart_at:
                slot.worker = self._start(slot)
                if slot.worker is None:
                    self._wait(slot)

    def _start(self, slot: _Slot) -> WorkerProcess | None:
        # The socket outlives a process that is replaced, with the connections that wait in it.
        if slot.listener is None:
            slot.listener = sockets.share(self._address)
        try:
            return WorkerProcess(slot.number, self._settings, slot.listener)
        except OSError as error:
            logger.error("worker %d cannot be started: %s", slot.number, error)
            return None

    def _wait(self, slot: _Slot) -> None:
        """Put off the next start; meanwhile the others get all connections."""
        first, longest = RESTART_SECONDS
        slot.wait = min(max(slot.wait * 2, first), longest)
        slot.restart_at = time.monotonic() + slot.wait
        slot.close()

    def _replace_next(self) -> None:
        """Begin to replace the next worker, unless one is being replaced."""
        if any(slot.successor or slot.leaving for slot in self._slots):
            return
        while self._to_replace:
            slot = self._to_replace.pop(0)
            # One that is not ready yet is new.
            if slot.worker is not None and slot.worker.ready:
                logger.info("replacing worker %d (%d)", slot.number, slot.worker.pid)
                slot.successor = self._start(slot)
                if slot.successor is None:
                    self._to_replace.clear()
                return

    # Watching --------------------------------------------------------------------------------

    def _watch(self, wake: socket.socket) -> None:
        """Wait for something to happen, and see to it."""
        waiting: list[object] = [wake]
        due = []
        if not self._stopping:
            due = [slot.restart_at for slot in self._slots if slot.worker is None]
        for _, process in self._processes():
            waiting.append(process.sentinel)
            due.append(process.deadline)
            if process.pipe is not None:
                waiting.append(process.pipe)
        asked_at = time.monotonic()
        timeout = min(max(min(due, default=0.0) - asked_at, 0.0), 3600.0)
        happened = wait(waiting, timeout)  # type: ignore[arg-type]
        late = time.monotonic() - asked_at > timeout + LATE_SECONDS
        with suppress(BlockingIOError):
            wake.recv(1024)
        for slot, process in list(self._processes()):
            if process.pipe is not None and process.pipe in happened:
                self._listen(slot, process)
            if process.sentinel in happened:
                self._bury(slot, process)
            elif late:
                process.excuse()
            else:
                process.kill_overdue()

    def _listen(self, slot: _Slot, process: WorkerProcess) -> None:
        process.listen()
        if not process.ready:
            return
        slot.was_ready = True
        if process is slot.successor:
            slot.leaving, slot.worker, slot.successor = slot.worker, process, None
            if slot.leaving is not None:
                slot.leaving.stop()
        if not self._announced and all(slot.was_ready for slot in self._slots):
            self._announced = True
            self._on_ready(self._address)

    def _bury(self, slot: _Slot, process: WorkerProcess) -> None:
        reason = process.bury()
        if process is slot.leaving:
            slot.leaving = None
            logger.info("worker %d (%d) is replaced", slot.number, process.pid)
            return
        if process is slot.successor:
            slot.successor = None
            self._to_replace.clear()
            plan = "the worker it was to replace goes on, and so do all others"
        elif slot.successor is not None:
            slot.worker, slot.successor = slot.successor, None
            plan = "the one that was to replace it does so now"
        else:
            plan = self._lose_worker(slot, process)
        if not (self._stops or self._stopping):
            logger.error("worker %d (%d) %s; %s", slot.number, process.pid, reason, plan)

    def _lose_worker(self, slot: _Slot, process: WorkerProcess) -> str:
        slot.worker = None
        slot.close()
        if time.monotonic() - process.started_at >= HEALTHY_SECONDS:
            slot.wait = slot.restart_at = 0.0
        else:
            self._wait(slot)
        if not self._announced and not slot.was_ready:
            return "stopping, for it never accepted a connection"
        return f"restarting it in {slot.wait:g} s"

    # Stopping --------------------------------------------------------------------------------

    def _stop(self, wake: socket.socket) -> None:
        """Let the workers drain; what is left at the deadline or a second signal is killed."""
        self._stopping = True
        stops = max(self._stops, 1)
        for slot in self._slots:
            slot.close()
        for _, process in self._processes():
            process.stop()
        while any(slot.processes() for slot in self._slots):
            if self._stops > stops:
                self._kill_all()
            self._watch(wake)

    def _kill_all(self) -> None:
        for _, process in self._processes():
            process.kill()
