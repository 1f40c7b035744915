"""Notices on stderr about lost connections and delayed messages."""

import asyncio

from ..client import ClientState, CommandFailed
from .terminal import print_error


class Notices:
    """Prints on stderr, once for each cause, the reason why a command waits.

    Args:
        deadline: set to `timeout` seconds from the loss of the connection until its return.
        timeout: seconds without a connection after which the command gives up; None never does.
    """

    def __init__(
        self, deadline: asyncio.Timeout | None = None, timeout: float | None = None
    ) -> None:
        self._deadline = deadline
        self._timeout = timeout
        self._was_online = False
        self._lost = False
        self._told: set[str] = set()

    def on_state(self, state: ClientState, reason: str) -> None:
        """Print that the connection is lost or back, and move the deadline."""
        if state is ClientState.RECONNECTING and not self._lost:
            self._lost = True
            print_error(f"{'reconnecting' if self._was_online else 'waiting'}: {reason}")
            if self._deadline is not None and self._timeout is not None and self._was_online:
                self._deadline.reschedule(asyncio.get_running_loop().time() + self._timeout)
        elif state is ClientState.ONLINE:
            if self._lost:
                print_error("connected again" if self._was_online else "connected")
            if self._deadline is not None and not self._deadline.expired():
                self._deadline.reschedule(None)
            self._was_online, self._lost = True, False

    def on_refusal(self, error: CommandFailed) -> None:
        """Print the first refusal of each code."""
        if error.code not in self._told:
            self._told.add(error.code)
            print_error(f"waiting: {error}")
