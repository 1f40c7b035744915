"""The process of a worker that a supervisor started."""

import asyncio
import logging
import os
import signal
import socket
import sys
from contextlib import suppress

from .. import logs
from ..settings import Settings, SettingsError
from .late_signals import ignore_in_finalization

logger = logging.getLogger(__name__)

HEARTBEATS_PER_HANG = 10
"""Heartbeats sent in each `server.hang_seconds`."""

GROUP_SIGNALS = (signal.SIGINT, signal.SIGHUP)
"""Signals that a terminal sends to the whole process group; only the supervisor handles them."""


def run(
    number: int,
    settings: Settings,
    application: str,
    listener: socket.socket,
    heartbeat: socket.socket,
    report: socket.socket,
) -> None:
    """Run one of several workers, in a process that was started with `GROUP_SIGNALS` blocked.

    Args:
        number: the number of the worker within the server.
        settings: the server's settings.
        application: see `run_worker`.
        listener: a listening socket; closed at the end.
        heartbeat: a socket to the supervisor: each byte shows that this worker is alive.
        report: a socket to the supervisor for numbers; see `totals.Report`.
    """
    _handle_signals()
    logs.configure(settings.log)
    logs.capture_stderr()
    # A supervisor that does not read for hours must not block this worker.
    heartbeat.setblocking(False)

    def on_ready() -> None:
        logger.info("worker %d accepts connections", os.getpid())
        beat()

    def beat() -> None:
        with suppress(OSError):
            heartbeat.send(b".")
        if settings.server.hang_seconds:
            asyncio.get_running_loop().call_later(
                settings.server.hang_seconds / HEARTBEATS_PER_HANG, beat
            )

    # Imported late: the supervisor imports this module, and must not hold an application.
    from .worker import run_worker

    try:
        run_worker(
            *(settings, application, listener),
            stop_on=frozenset(),
            parent=heartbeat.fileno(),
            on_ready=on_ready,
            report=report,
            number=number,
        )
    except SettingsError as error:  # for example a key file that no longer exists
        for line in error.lines:
            logger.error("%s", line)
        sys.exit(2)
    except Exception:
        # Otherwise multiprocessing writes the traceback to stderr in its own format.
        logger.critical("the worker fails", exc_info=True)
        sys.exit(1)
    finally:
        heartbeat.detach()  # the closing of this socket signals the end of the process


def _handle_signals() -> None:
    for ignored in GROUP_SIGNALS:
        signal.signal(ignored, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, GROUP_SIGNALS)
    ignore_in_finalization((signal.SIGTERM,))
