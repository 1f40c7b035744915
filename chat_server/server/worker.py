"""One worker: an event loop that serves the application on a listening socket."""

import asyncio
import logging
import os
import signal
import socket
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial

import msgspec
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.asyncio.lifespan import Lifespan
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config
from hypercorn.typing import LifespanState
from quart import Quart

from .. import logs
from ..extension import ChatServer
from ..http.health import SILENT, WorkerHealth
from ..settings import Settings, SettingsError
from . import descriptors, orphan, sockets
from .acceptor import Acceptor
from .application import make_application
from .certificates import CertificateWatch
from .deadlines import ABORT_SECONDS, LONGEST_START_SECONDS, STOP_SLACK_SECONDS
from .doors import choose_door
from .gc_policy import GcPolicy
from .hangup import Terminal
from .late_signals import end_at_once, ending_within
from .notify import notify
from .reloading import Reread, reload_in_place, tell_taken
from .tls import tls_context
from .totals import ANSWER_SECONDS, Report, health_seconds

logger = logging.getLogger(__name__)


def run_worker(
    settings: Settings,
    application: str,
    listener: socket.socket,
    *,
    stop_on: frozenset[signal.Signals],
    terminal: Terminal | None = None,
    reread: Reread | None = None,
    parent: int | None = None,
    on_ready: Callable[[], None],
    report: socket.socket | None = None,
    number: int = 1,
) -> None:
    """Serve until a signal of `stop_on` comes, or the parent process has ended.

    Args:
        settings: the server's settings.
        application: MODULE:NAME of an application to serve instead of our own, or "".
        listener: a listening socket; closed at the end.
        stop_on: signals that request a stop. A second signal ends `server.lame_duck_seconds`, and a
            third one the process.
        terminal: the terminal; a SIGHUP at its end requests a stop too. Another SIGHUP is a reload.
        reread: reads the settings again for a reload; see `reloading`.
        parent: for a supervised worker, the descriptor of a socket to its supervisor. A byte ends
            `server.lame_duck_seconds`. The end of the stream also requests a stop.
        on_ready: called once the worker accepts requests.
        report: for a supervised worker, a socket to its supervisor for the numbers.
        number: the number of the worker within the server.

    Raises:
        SettingsError: the settings name keys that cannot be read.
    """

    async def main() -> None:
        loop = asyncio.get_running_loop()
        stop, drain_now, hung_up = Stop(), asyncio.Event(), asyncio.Event()
        if not settings.server.lame_duck_seconds:
            drain_now.set()
        for ending in stop_on:
            loop.add_signal_handler(ending, _on_stop, stop, drain_now, ending)
        if parent is not None:
            # Only the supervisor interprets a second signal: systemd sends the first signal to all
            # processes of a service, and the supervisor passes the signal on.
            loop.add_signal_handler(signal.SIGTERM, stop.because, "SIGTERM")
            noticed = orphan.watch(parent)
            loop.add_reader(parent, _on_supervisor, loop, parent, stop, drain_now, noticed)
        worker = Worker(make_application(settings, application), settings, number)
        if terminal is not None:
            terminal.watch(loop, partial(_on_hang_up, stop, terminal, hung_up))
        reloading = loop.create_task(worker.reload_at(hung_up, reread), name="reload")
        stop.tell(await worker.serve(listener, stop, on_ready, drain_now, report))
        reloading.cancel()
        end_at_once(loop, stop_on)
        end.start()

    with (
        ending_within(STOP_SLACK_SECONDS) as end,
        asyncio.Runner(loop_factory=_loop_factory()) as runner,
    ):
        runner.run(main())


class Stop(asyncio.Event):
    """Set when the worker must stop.

    Attributes:
        reason: the reason of the stop.
        at: the time of the request, by the loop's clock.
    """

    reason = ""
    at = 0.0

    def because(self, reason: str) -> None:
        """Request the stop, unless a stop was requested already."""
        if not self.is_set():
            self.reason = reason
            self.at = asyncio.get_running_loop().time()
            self.set()

    def tell(self, clients: int) -> None:
        """Log the stop of the worker, with the number of disconnected clients."""
        seconds = round(asyncio.get_running_loop().time() - self.at, 3)
        logger.info("stopped: %s", self.reason, extra={"clients": clients, "seconds": seconds})


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # uvloop does not support Windows
        return None
    return uvloop.new_event_loop


def _on_stop(stop: Stop, drain_now: asyncio.Event, number: signal.Signals) -> None:
    if not stop.is_set():
        logger.info("%s: stopping", number.name)
        notify("STOPPING=1")
        stop.because(number.name)
    elif not drain_now.is_set():
        logger.info("%s again: draining at once", number.name)
        drain_now.set()
    else:
        logger.warning("%s again: ending at once", number.name)
        logging.shutdown()  # flush pending records
        # Code 0, as of a supervisor that has killed its workers: the operator requested this end.
        os._exit(0)


def _on_hang_up(stop: Stop, terminal: Terminal, hung_up: asyncio.Event) -> None:
    if terminal.hangs_up:
        stop.because("the terminal is gone")
    else:
        hung_up.set()


def _on_supervisor(
    loop: asyncio.AbstractEventLoop,
    parent: int,
    stop: Stop,
    drain_now: asyncio.Event,
    noticed: threading.Event,
) -> None:
    try:
        alive = os.read(parent, 16)
    except ConnectionResetError:  # The supervisor has ended without reading our heartbeats.
        alive = b""
    if not alive:
        noticed.set()
        loop.remove_reader(parent)
        logger.warning("the supervisor is gone; stopping")
        stop.because("the supervisor is gone")
    drain_now.set()


class Worker:
    """Hypercorn's parts in our own server loop.

    Hypercorn's own loop cannot hand sockets over. On Python 3.12 and later it also waits for
    WebSockets before it closes anything.

    Args:
        app: an application with a `ChatServer`.
        settings: the server's settings.
        number: the number of the worker within the server.
    """

    def __init__(self, app: Quart, settings: Settings, number: int = 1) -> None:
        self._quart = app
        self._settings = settings
        self._number = number
        self._app = ASGIWrapper(app)
        self._chat: ChatServer = app.extensions["chat_server"]
        self._lame_duck_seconds = settings.server.lame_duck_seconds
        self._drain_seconds = settings.server.drain_seconds
        self._config = _hypercorn_config(settings)
        self._context = WorkerContext(max_requests=None)
        self._gc_policy = GcPolicy(lambda: len(self._chat.node.registry))
        self._http = settings.http
        self._max_connections = settings.http.max_connections
        if settings.gateway.leaves_sockets:
            # Its WebSockets stay with Hypercorn.
            self._max_connections += settings.limits.max_connections
        self._max_descriptor = descriptors.raise_limit(settings)
        self._tls = tls_context(settings)
        self._certificate = CertificateWatch(settings)
        self._acceptors: list[Acceptor] = []
        logs.identify(number, self._chat.node.name)
        self._chat.vitals.certificate_ends_at = self._certificate.ends_at

    async def serve(
        self,
        listener: socket.socket,
        stop: asyncio.Event,
        on_ready: Callable[[], None],
        drain_now: asyncio.Event | None = None,
        report: socket.socket | None = None,
    ) -> int:
        """Serve `listener` until `stop` is set; close everything within the drain time.

        Args:
            listener: a listening socket; closed at the end.
            stop: once set, the worker is no longer ready.
            on_ready: called once the worker accepts requests.
            drain_now: ends the lame-duck time: not ready, but still accepting connections.
            report: a socket to the supervisor, which adds up the numbers of all workers.

        Returns:
            The number of disconnected clients.

        Raises:
            SettingsError: this version cannot work with the schema of the database.
        """
        loop = asyncio.get_running_loop()
        # Quart would log a traceback instead of one line for the operator.
        await self._chat.prepare()
        state = LifespanState({})
        lifespan = Lifespan(self._app, self._config, loop, state)
        lifespan_task = loop.create_task(lifespan.handle_lifespan())
        reporter = self._make_report(report)
        sent_away = 0
        try:
            await lifespan.wait_for_startup()
            if lifespan_task.done():
                await lifespan_task

            acceptors = self._acceptors = self._make_acceptors(listener, state)
            for acceptor in acceptors:
                acceptor.start()
            self._gc_policy.start()
            self._certificate.start()
            if reporter is not None:
                reporter.start()
            on_ready()
            await stop.wait()
            await self._be_lame_duck(drain_now)
            self._gc_policy.stop()
            self._certificate.stop()
            for acceptor in acceptors:
                acceptor.stop()
            sent_away = len(self._chat.node.registry)
            await self._drain(acceptors)
            await lifespan.wait_for_shutdown()
        finally:
            if reporter is not None:
                await reporter.stop(sent_away)
            lifespan_task.cancel()
            await asyncio.gather(lifespan_task, return_exceptions=True)
        return sent_away

    async def reload_at(self, hung_up: asyncio.Event, reread: Reread | None) -> None:
        """Adopt the settings that can change at run time, whenever `hung_up` is set."""
        while True:
            await hung_up.wait()
            hung_up.clear()
            settings = await asyncio.to_thread(reload_in_place, self._settings, reread)
            if settings is None:
                continue
            before, self._settings = self._settings, settings
            try:
                tls = await asyncio.to_thread(tls_context, settings)
            except SettingsError as error:  # a file has changed since its check
                logger.error("%s", error)
                continue
            for acceptor in self._acceptors:
                acceptor.tls = tls
            self._watch_certificate()
            tell_taken(before, settings)

    def _watch_certificate(self) -> None:
        self._certificate.stop()
        self._certificate = CertificateWatch(self._settings)
        self._chat.vitals.certificate_ends_at = self._certificate.ends_at
        self._certificate.start()

    def _make_acceptors(self, listener: socket.socket, state: LifespanState) -> list[Acceptor]:
        bind = self._chat.settings.operators.bind
        more = [sockets.listen_for_operators(bind)] if bind else []
        return [self._make_acceptor(each, state) for each in (listener, *more)]

    def _make_acceptor(self, listener: socket.socket, state: LifespanState) -> Acceptor:
        door = choose_door(self._quart)
        return Acceptor(
            listener,
            partial(door, self._app, self._config, self._context, state, self._http),
            max_connections=self._max_connections,
            max_descriptor=self._max_descriptor,
            tls=self._tls,
            handshake_seconds=self._http.head_timeout_seconds,
            numbers=self._chat.node.numbers,
        )

    def _make_report(self, end: socket.socket | None) -> Report | None:
        if end is None:
            return None
        own = self._chat.metrics.own if self._chat.settings.metrics.enabled else None
        vitals = self._chat.vitals
        vitals.number = self._number
        report = Report(end, own, lambda: _encoded(vitals.own()))
        self._chat.metrics.totals = report.totals
        vitals.others = partial(_others, report, health_seconds(self._chat.settings))
        return report

    async def _be_lame_duck(self, drain_now: asyncio.Event | None) -> None:
        """Accept connections for a while, so load balancers see that the worker is not ready."""
        self._chat.node.drain.announced = True
        if drain_now is None or drain_now.is_set():
            return
        logger.info("not ready any more; draining in %g s", self._lame_duck_seconds)
        with suppress(TimeoutError):
            await asyncio.wait_for(drain_now.wait(), self._lame_duck_seconds)
        drain_now.set()

    async def _drain(self, acceptors: Sequence[Acceptor]) -> None:
        """Close WebSockets, then wait for running requests, then close the rest."""
        logger.info(
            "draining %d clients within %g s",
            *(len(self._chat.node.registry), self._drain_seconds),
        )
        deadline = asyncio.get_running_loop().time() + self._drain_seconds
        # Meanwhile keep-alive connections may still ask for the readiness.
        await self._chat.node.drain.run()
        await self._context.terminated.set()
        for acceptor in acceptors:
            acceptor.retire()
        left = max(deadline - asyncio.get_running_loop().time(), 1.0)
        await asyncio.gather(*(_end(acceptor, left) for acceptor in acceptors))


async def _end(acceptor: Acceptor, seconds: float) -> None:
    if not await acceptor.wait(seconds):
        # Quart cancels a request of a disconnected client. If Quart itself is cancelled, it leaves
        # the request running.
        acceptor.hang_up()
        await acceptor.wait(ABORT_SECONDS)
    await acceptor.cancel()


async def _encoded(health: Awaitable[WorkerHealth]) -> bytes:
    return msgspec.json.encode(await health)


async def _others(report: Report, seconds: float) -> list[WorkerHealth]:
    """Return the health of the other workers from the supervisor, which waits `seconds`."""
    told, silent = await report.others_health(seconds + ANSWER_SECONDS)
    known = [msgspec.json.decode(each, type=WorkerHealth) for each in told]
    return known + [WorkerHealth(number, SILENT) for number in silent]


def _hypercorn_config(settings: Settings) -> Config:
    config = Config()
    config.accesslog = None
    config.errorlog = logging.getLogger("hypercorn.error")
    config.include_server_header = False
    # Larger than our own limit, so our check finds most messages that are too big. If Hypercorn
    # finds one, Hypercorn answers the client's close only if the close has its own packet.
    config.websocket_max_message_size = 4 * settings.limits.max_message_bytes
    config.startup_timeout = LONGEST_START_SECONDS
    config.shutdown_timeout = settings.server.drain_seconds + STOP_SLACK_SECONDS
    return config
