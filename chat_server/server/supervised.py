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

logger = logging.getLogger(__name__)

HEARTBEATS_PER_HANG = 10
"""Heartbeats sent in each `server.hang_seconds`."""

GROUP_SIGNALS = (signal.SIGINT, signal.SIGHUP)
"""Signals that a terminal sends to the whole process group; only the supervisor acts on them."""


def run(
    number: int,
    settings: Settings,
    application: str,
    listener: socket.socket,
    heartbeat: socket.socket,
    report: socket.socket,
) -> None:
    """Be one of several workers, in a process that was started with `GROUP_SIGNALS` blocked.

    Args:
        number: tells the server's workers apart.
        settings: the server's.
        application: see `run_worker`.
        listener: a listening socket; closed at the end.
        heartbeat: a socket to the supervisor: each byte sent shows that this worker lives.
        report: a socket to the supervisor for numbers; see `totals.Report`.
    """
    for ignored in GROUP_SIGNALS:
        signal.signal(ignored, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, GROUP_SIGNALS)
    logs.configure(settings.log)
    logs.capture_stderr()
    # A supervisor that does not read for hours must not stop us.
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

    # Imported here: the supervisor, which imports this module, holds no application.
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
    except SettingsError as error:  # such as a file with a key that is gone
        for line in error.lines:
            logger.error("%s", line)
        sys.exit(2)
    except Exception:
        # Multiprocessing would write it to stderr in a form of its own.
        logger.critical("the worker fails", exc_info=True)
        sys.exit(1)
    finally:
        heartbeat.detach()  # that it is closed tells that the process has ended
