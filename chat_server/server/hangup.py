"""Tells the two meanings of SIGHUP apart: the terminal is gone, or workers are to be replaced."""

import asyncio
import logging
import os
import signal
from collections.abc import Callable

logger = logging.getLogger(__name__)

STDIN = 0

CHECK_SECONDS = 1.0
"""Seconds between two looks whether the terminal exists; its SIGHUP comes at once or never."""


class Terminal:
    """The terminal in which the server was started, if its end is to end the server.

    A server that survives its terminal (`disown`) is detached from then on. A SIGHUP that comes
    while the server is still being loaded is delivered by `watch` instead of ending the process.
    """

    def __init__(self) -> None:
        ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN  # as under nohup
        self._attached = os.isatty(STDIN) and not ignored
        self._early: list[int] = []
        if not ignored:
            signal.signal(signal.SIGHUP, lambda number, _: self._early.append(number))

    def watch(self, loop: asyncio.AbstractEventLoop, on_hang_up: Callable[[], None]) -> None:
        """Call `on_hang_up` at each SIGHUP, and look whether the terminal goes without one."""
        loop.add_signal_handler(signal.SIGHUP, on_hang_up)
        if self._early:
            loop.call_soon(on_hang_up)
        if self._attached:
            loop.call_later(CHECK_SECONDS, self._check, loop, False)

    @property
    def hangs_up(self) -> bool:
        """Whether a SIGHUP that comes now tells of the terminal's end; logged if so."""
        if not self._attached or os.isatty(STDIN):
            return False
        logger.warning(
            "SIGHUP: the terminal is gone; stopping (nohup or a service manager prevents that)"
        )
        return True

    def _check(self, loop: asyncio.AbstractEventLoop, was_gone: bool) -> None:
        gone = not os.isatty(STDIN)
        if gone and was_gone:
            self._attached = False
            logger.warning("the terminal is gone, but the server goes on; SIGHUP will not stop it")
        else:
            loop.call_later(CHECK_SECONDS, self._check, loop, gone)
