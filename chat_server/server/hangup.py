"""Distinguishes the two meanings of SIGHUP: the terminal has closed, or a reload is requested."""

import asyncio
import logging
import os
import signal
from collections.abc import Callable

logger = logging.getLogger(__name__)

STDIN = 0

CHECK_SECONDS = 1.0
"""Seconds between two checks of the terminal; a terminal sends SIGHUP immediately or never."""


class Terminal:
    """The terminal of the server's start, if closing the terminal ends the server.

    A server that outlives its terminal (`disown`) is detached from then on. `watch` delivers a
    SIGHUP that came during loading; without `Terminal` such a signal would end the process.
    """

    def __init__(self) -> None:
        ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN  # as under nohup
        self._attached = os.isatty(STDIN) and not ignored
        self._early: list[int] = []
        if not ignored:
            signal.signal(signal.SIGHUP, lambda number, _: self._early.append(number))

    def watch(self, loop: asyncio.AbstractEventLoop, on_hang_up: Callable[[], None]) -> None:
        """Call `on_hang_up` at each SIGHUP, and detect a terminal that closes without SIGHUP."""
        loop.add_signal_handler(signal.SIGHUP, on_hang_up)
        if self._early:
            loop.call_soon(on_hang_up)
        if self._attached:
            loop.call_later(CHECK_SECONDS, self._check, loop, False)

    @property
    def hangs_up(self) -> bool:
        """True if a SIGHUP at this moment means that the terminal has closed; this is logged."""
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
