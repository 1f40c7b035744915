"""Ends a worker without a supervisor, even a suspended or hanging one, to free the port."""

import ctypes
import os
import select
import signal
import sys
import threading

NOTICE_SECONDS = 2.0
"""Seconds in which the event loop must react; a loop that does not counts as blocked."""

_PR_SET_PDEATHSIG = 1


def watch(heartbeat: int) -> threading.Event:
    """Kill this process if its supervisor ends and the returned event is not set in time.

    Args:
        heartbeat: a socket whose other end closes with the supervisor.
    """
    if sys.platform == "linux":
        # A suspended process runs no thread, so the kernel must wake the process.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGCONT)
    noticed = threading.Event()
    threading.Thread(target=_wait, args=(heartbeat, noticed), name="orphan", daemon=True).start()
    return noticed


def _wait(heartbeat: int, noticed: threading.Event) -> None:
    poll = select.poll()
    poll.register(heartbeat, 0)  # the event loop reads the bytes; only the end matters here
    poll.poll()
    if not noticed.wait(NOTICE_SECONDS):
        os.kill(os.getpid(), signal.SIGKILL)
