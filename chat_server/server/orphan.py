"""A worker whose supervisor is gone must let go of the port, even if it is stopped or hangs."""

import ctypes
import os
import select
import signal
import sys
import threading

NOTICE_SECONDS = 2.0
"""How long the event loop may take to notice; one that does not is blocked."""

_PR_SET_PDEATHSIG = 1


def watch(pulse: int) -> threading.Event:
    """Kill this process if its supervisor ends and nobody sets the event that is returned.

    Args:
        pulse: a socket whose other end closes with the supervisor.
    """
    if sys.platform == "linux":
        # A process that is stopped runs no thread of ours; this the kernel does.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGCONT)
    noticed = threading.Event()
    threading.Thread(target=_wait, args=(pulse, noticed), name="orphan", daemon=True).start()
    return noticed


def _wait(pulse: int, noticed: threading.Event) -> None:
    poll = select.poll()
    poll.register(pulse, 0)  # bytes are for the event loop: only the end is of interest
    poll.poll()
    if not noticed.wait(NOTICE_SECONDS):
        os.kill(os.getpid(), signal.SIGKILL)
