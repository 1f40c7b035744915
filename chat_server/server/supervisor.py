"""Several workers on one port: started, replaced, and stopped together."""

import asyncio
import logging
import math
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import current_process

from ..settings import Settings
from . import sockets
from .hangup import Terminal
from .late_signals import end_at_once
from .notify import notify
from .process import WorkerProcess, WorkerSpec
from .reloading import Reread, reload
from .totals import Totals, health_seconds

logger = logging.getLogger(__name__)

HEALTHY_SECONDS = 10.0
"""Seconds of life after which an ended worker restarts at once; a younger worker waits first."""

RESTART_SECONDS = (1.0, 30.0)
"""Seconds before the first restart, and at most; each wait doubles the last."""


class _Slot:
    """A worker's number, socket and process, and the task that restarts the process."""

    worker: WorkerProcess
    keeper: asyncio.Task[None]

    def __init__(self, number: int, listener: socket.socket | None = None) -> None:
        self.number = number
        self.listener = listener
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class Supervisor:
    """Keeps `server.workers` processes running until SIGINT or SIGTERM; SIGHUP replaces them.

    Args:
        settings: the server's settings.
        application: see `run_worker`.
        on_ready: called with the address once every worker accepts requests.
        reread: reads the settings again at SIGHUP; see `reloading`.
    """

    _address: sockets.Address
    _serving: asyncio.Task[None]
    _totals: Totals

    def __init__(
        self,
        settings: Settings,
        application: str,
        on_ready: Callable[[sockets.Address], None],
        reread: Reread | None = None,
    ) -> None:
        self._reread = reread
        self._spec = WorkerSpec(settings, application)
        self._on_ready = on_ready
        self._processes: list[WorkerProcess] = []
        self._hung_up = asyncio.Event()
        self._lame_duck_until = -math.inf
        self._exit_code = 0
        self._end = ("", math.nan)  # the reason, and the time by the loop's clock

    def run(self, terminal: Terminal | None = None) -> int:
        """Supervise until a signal, and return the process's exit code.

        Args:
            terminal: the terminal of the server's start; None detects the terminal here.

        Raises:
            ListenError: the server cannot listen on the address.
        """
        current_process().name = "supervisor"  # in the log
        self._terminal = terminal or Terminal()
        with sockets.reserve(self._spec.settings) as reserved:
            self._address = reserved.getsockname()[:2]
            workers = self._spec.settings.server.workers
            logger.info("starting %d workers on %s", workers, sockets.authority(self._address))
            asyncio.run(self._supervise())
        return self._exit_code

    async def _supervise(self) -> None:
        loop = asyncio.get_running_loop()
        self._totals = Totals(health_seconds(self._spec.settings))
        self._serving = loop.create_task(self._serve())
        loop.add_signal_handler(signal.SIGINT, self._on_stop, "SIGINT")
        loop.add_signal_handler(signal.SIGTERM, self._on_stop, "SIGTERM")
        self._terminal.watch(loop, self._on_hang_up)
        try:
            with suppress(asyncio.CancelledError):
                await self._serving
            await asyncio.gather(*(process.stop() for process in self._processes))
            await self._totals.stop()
            reason, since = self._end
            told = {"clients": self._totals.sent_away, "seconds": round(loop.time() - since, 3)}
            logger.info("stopped: %s", reason, extra=told)
            end_at_once(loop, (signal.SIGINT, signal.SIGTERM))
        finally:
            # After a fault of our own: Python would wait for the workers before its end.
            self._kill_all()

    def _stop(self, reason: str) -> bool:
        """Stop serving; return False if a stop is under way already."""
        stopping = self._serving.cancel()
        if stopping and not self._end[0]:
            self._end = (reason, asyncio.get_running_loop().time())
        return stopping

    def _on_stop(self, reason: str) -> None:
        now = asyncio.get_running_loop().time()
        if self._stop(reason):
            notify("STOPPING=1")
            running = sum(not process.ended.done() for process in self._processes)
            logger.info("%s: stopping %d workers", reason, running)
            self._lame_duck_until = now + self._spec.settings.server.lame_duck_seconds
        elif now < self._lame_duck_until:
            logger.info("%s again: draining at once", reason)
            self._lame_duck_until = now
            for process in self._processes:
                process.drain_now()
        else:
            logger.warning("%s again: killing the workers", reason)
            self._kill_all()

    def _on_hang_up(self) -> None:
        if self._terminal.hangs_up:
            self._stop("the terminal is gone")  # the terminal's end may be reported twice
        else:
            self._hung_up.set()

    def _kill_all(self) -> None:
        for process in self._processes:
            process.kill()

    async def _serve(self) -> None:
        """Run all workers, and replace them at each SIGHUP, until cancelled."""
        async with asyncio.TaskGroup() as group:
            count = self._spec.settings.server.workers
            slots = [self._open(_Slot(number), group) for number in range(1, count + 1)]
            try:
                await asyncio.gather(*(slot.ready for slot in slots))
                self._on_ready(self._address)
            except ChildProcessError as error:
                logger.error("%s; stopping, for it never accepted a connection", error)
                self._exit_code = 1
                self._stop("a worker did not start")
            while True:
                await self._hung_up.wait()
                self._hung_up.clear()
                settings = reload(self._spec.settings, self._reread)
                if settings is None:
                    continue
                self._spec = self._spec._replace(settings=settings)
                try:
                    for index, slot in enumerate(slots):
                        slots[index] = await self._replace(slot, group)
                        if self._hung_up.is_set():
                            break  # a worker started before this SIGHUP is outdated already
                except OSError as error:
                    logger.error("%s; the worker it was to replace goes on", error)

    def _open(self, slot: _Slot, group: asyncio.TaskGroup) -> _Slot:
        slot.keeper = group.create_task(self._keep(slot))
        return slot

    async def _keep(self, slot: _Slot) -> None:
        """Restart a worker after each end; give up only if the first worker is never ready."""
        loop = asyncio.get_running_loop()
        pause, (first, longest) = 0.0, RESTART_SECONDS
        while True:
            began = loop.time()
            try:
                # The socket closes when the worker crashes, so the other workers get all
                # connections.
                with slot.listener or sockets.share(self._address) as slot.listener:
                    slot.worker = WorkerProcess(
                        *(slot.number, self._spec, slot.listener, slot.ready, self._totals)
                    )
                    self._processes = [p for p in self._processes if not p.ended.done()]
                    self._processes.append(slot.worker)
                    end = await asyncio.shield(slot.worker.ended)
            except OSError as error:
                end = f"worker {slot.number} cannot be started: {error}"
            slot.listener = None
            if not slot.ready.done():
                slot.ready.set_exception(ChildProcessError(end))
                return
            healthy = loop.time() - began >= HEALTHY_SECONDS
            pause = 0.0 if healthy else min(max(pause * 2, first), longest)
            logger.error("%s; restarting it in %g s", end, pause)
            await asyncio.sleep(pause)

    async def _replace(self, old: _Slot, group: asyncio.TaskGroup) -> _Slot:
        """Return the slot of a new worker, once it is ready and the old worker has drained."""
        logger.info("replacing %s", old.worker.name)
        # The socket stays open together with its queued connections.
        new = self._open(_Slot(old.number, old.listener and old.listener.dup()), group)
        await new.ready
        old.keeper.cancel()
        await old.worker.stop(at_once=True)
        logger.info("%s is replaced", old.worker.name)
        return new
