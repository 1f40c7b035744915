"""Several workers on one port: started, watched, restarted, and stopped together."""

import logging
import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from .. import logs
from ..settings import Settings
from . import sockets
from .worker import STOP_SLACK_SECONDS, run_worker

logger = logging.getLogger(__name__)

HEALTHY_SECONDS = 10.0
"""A worker that lived this long is restarted at once; one that did not has to wait."""

RESTART_SECONDS = (1.0, 30.0)
"""The first such wait and the longest; each is twice the one before."""


class _Slot:
    """One of the workers: its present process, and when the next may start."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.process: SpawnProcess | None = None
        self.ready: Connection | None = None
        self.was_ready = False
        self.started_at = 0.0
        self.restart_at = 0.0
        self.wait = 0.0


class Supervisor:
    """Keeps `server.workers` processes running until SIGINT or SIGTERM.

    Args:
        settings: the server's.
        on_ready: called with the address once every worker has accepted requests.
    """

    def __init__(self, settings: Settings, on_ready: Callable[[tuple[str, int]], None]) -> None:
        self._settings = settings
        self._on_ready = on_ready
        self._context = multiprocessing.get_context("spawn")
        self._slots = [_Slot(number) for number in range(1, settings.server.workers + 1)]
        self._announced = False
        self._signals = 0
        self._address: tuple[str, int] = ("", 0)

    def run(self) -> int:
        """Supervise until a signal, and return the process's exit code.

        Raises:
            ListenError: the address cannot be listened on.
        """
        with ExitStack() as stack:
            reserved = stack.enter_context(sockets.reserve(self._settings))
            self._address = reserved.getsockname()[:2]
            wake = self._catch_signals(stack)
            failed = False
            while not self._signals and not failed:
                self._start_due()
                failed = self._watch(wake)
            self._stop(wake)
            return 1 if failed else 0

    def _catch_signals(self, stack: ExitStack) -> socket.socket:
        wake, notify = socket.socketpair()
        for end in (wake, notify):
            end.setblocking(False)
            stack.enter_context(end)
        stack.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(notify.fileno()))
        for number in (signal.SIGINT, signal.SIGTERM):
            stack.callback(signal.signal, number, signal.signal(number, self._on_signal))
        return wake

    def _on_signal(self, number: int, frame: object) -> None:
        self._signals += 1

    # Starting and watching -----------------------------------------------------------------

    def _start_due(self) -> None:
        for slot in self._slots:
            if slot.process is None and time.monotonic() >= slot.restart_at:
                self._start(slot)

    def _start(self, slot: _Slot) -> None:
        slot.ready, ready = self._context.Pipe(duplex=False)
        slot.started_at = time.monotonic()
        slot.process = self._context.Process(
            target=_work,
            args=(self._settings, self._address, ready),
            name=f"chat-server worker {slot.number}",
        )
        slot.process.start()
        ready.close()

    def _watch(self, wake: socket.socket) -> bool:
        """Wait for something to happen; return True if it makes going on pointless."""
        waiting: list[object] = [wake]
        for slot in self._slots:
            if slot.process is not None:
                waiting.append(slot.process.sentinel)
            if slot.ready is not None:
                waiting.append(slot.ready)
        happened = wait(waiting, timeout=self._seconds_to_restart())  # type: ignore[arg-type]
        for slot in self._slots:
            if slot.ready in happened:
                self._note_ready(slot)
            if slot.process is not None and slot.process.sentinel in happened:
                self._bury(slot)
        return not self._announced and any(
            slot.process is None and not slot.was_ready for slot in self._slots
        )

    def _seconds_to_restart(self) -> float | None:
        due = [slot.restart_at for slot in self._slots if slot.process is None]
        return max(min(due) - time.monotonic(), 0.0) if due else None

    def _note_ready(self, slot: _Slot) -> None:
        assert slot.ready is not None  # noqa: S101 - only those are waited for
        try:
            slot.ready.recv_bytes()
            slot.was_ready = True
        except EOFError:
            pass  # it ended before it was ready
        slot.ready.close()
        slot.ready = None
        if not self._announced and all(slot.was_ready for slot in self._slots):
            self._announced = True
            self._on_ready(self._address)

    def _bury(self, slot: _Slot) -> None:
        assert slot.process is not None  # noqa: S101 - only those are waited for
        slot.process.join()
        code = slot.process.exitcode
        slot.process.close()
        slot.process = None
        now = time.monotonic()
        if now - slot.started_at >= HEALTHY_SECONDS:
            slot.wait = 0.0
        else:
            first, longest = RESTART_SECONDS
            slot.wait = min(max(slot.wait * 2, first), longest)
        slot.restart_at = now + slot.wait
        if not self._signals:
            plan = f"restarting it in {slot.wait:g} s"
            if not self._announced and not slot.was_ready:
                plan = "stopping, for it never accepted a connection"
            logger.error("worker %d ended with code %s; %s", slot.number, code, plan)

    # Stopping ------------------------------------------------------------------------------

    def _stop(self, wake: socket.socket) -> None:
        """Let the workers drain, and kill what is left at the deadline or at a second signal."""
        for slot in self._slots:
            if slot.process is not None:
                slot.process.terminate()
        seconds = self._settings.server.drain_seconds + 2 * STOP_SLACK_SECONDS
        deadline = time.monotonic() + seconds
        first = self._signals
        while running := [s.process for s in self._slots if s.process is not None]:
            left = deadline - time.monotonic()
            if left <= 0 or self._signals > max(first, 1):
                for process in running:
                    process.kill()
            happened = wait([wake, *(p.sentinel for p in running)], timeout=max(left, 0.1))
            if wake in happened:
                wake.recv(1024)
            for slot in self._slots:
                if slot.process is not None and slot.process.sentinel in happened:
                    self._bury(slot)


def _work(settings: Settings, address: tuple[str, int], ready: Connection) -> None:
    """Be a worker; runs in a process of its own."""
    # Ctrl-C reaches the whole process group, but whether to stop is the supervisor's to say.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logs.configure(settings.log)
    parent = multiprocessing.parent_process()

    def on_ready() -> None:
        ready.send_bytes(b"ready")
        ready.close()
        logger.info("worker %d accepts connections", os.getpid())

    run_worker(
        settings,
        sockets.share(address),
        stop_on=frozenset({signal.SIGTERM}),
        parent=None if parent is None else parent.sentinel,
        on_ready=on_ready,
    )
