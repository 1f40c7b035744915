"""Sends a command until its event is stored, exactly once.

The server remembers the key of a command for `welcome.limits.idempotency_seconds`. Within this time
the client simply resends a command whose answer was lost. Later the client resends a command only
after verifying that nothing was stored.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any, Generic, TypeVar

from msgspec import Struct

from ..protocol.commands import Command
from .connection import MAX_EXPIRIES, Connection
from .errors import CommandFailed, ConnectionLost, NotConnected, OutcomeUnknown
from .reconnector import Reconnector

SAFE_SHARE = 0.5
"""The share of the server's idempotency window in which a command is resent. The rest is for
commands in flight: a server may spool a publication for a minute while its store is down.
"""

MAX_REMEMBERED = 1_000
"""Deliveries with an unknown outcome, and topics with a known position: the bound of each."""

P = TypeVar("P", bound=Struct)


class Outcomes:
    """Records deliveries with an unknown outcome: the application may repeat them itself."""

    def __init__(self, reconnector: Reconnector) -> None:
        self._reconnector = reconnector
        self._unknown: OrderedDict[Hashable, Delivery[Any]] = OrderedDict()

    async def connection(self, *, wait: bool) -> Connection:
        """Return the connection; with `wait`, wait for a connection."""
        return await self._reconnector.wait() if wait else self._reconnector.connection()

    def earlier(self, name: Hashable) -> Any:
        """Return the delivery of this name if its outcome is unknown, or None."""
        return self._unknown.get(name)

    def mark_unknown(self, delivery: "Delivery[Any]") -> None:
        """Record a delivery whose outcome is unknown."""
        if delivery.name is not None:
            remember(self._unknown, delivery.name, delivery, MAX_REMEMBERED)

    def mark_known(self, delivery: "Delivery[Any]") -> None:
        """Forget a delivery whose outcome is known."""
        self._unknown.pop(delivery.name, None)


def remember(store: OrderedDict[Any, Any], key: Any, value: Any, most: int) -> None:
    """Add an item to a store; drop the oldest items beyond `most`."""
    store[key] = value
    store.move_to_end(key)
    while len(store) > most:
        store.popitem(last=False)


class Delivery(Generic[P]):
    """A command whose event is stored once, even if the client sends the command repeatedly.

    Args:
        outcomes: records the outcome.
        name: identifies repetitions of the same delivery; None for a delivery without a key.
        command: the command.
        kind: the type of the answer.

    Attributes:
        maybe_stored: True while the outcome of an attempt is unknown.
    """

    def __init__(
        self, outcomes: Outcomes, name: Hashable | None, command: Command, kind: type[P]
    ) -> None:
        self.name = name
        self.maybe_stored = False
        self._outcomes = outcomes
        self._command = command
        self._kind = kind
        self._first_sent = Stopwatch()
        self._user = ""

    async def deliver(self, *, wait: bool) -> P:
        """Send the command until its outcome is known, and return the answer.

        Args:
            wait: wait for a connection instead of raising `NotConnected`; also resend a command
                with a key if the connection breaks before the answer.

        Raises:
            ClientError: as of `attempt`.
        """
        expiries = 0
        while True:
            try:
                return await self.attempt(wait=wait)
            except NotConnected:
                if not wait:
                    raise
            except ConnectionLost:
                if not wait or self.name is None:
                    raise
            except CommandFailed as error:
                expiries += 1
                if not error.expired or expiries > MAX_EXPIRIES:
                    raise

    async def attempt(self, *, wait: bool = False) -> P:
        """Send the command if sending is safe, and return the answer.

        Args:
            wait: wait for a connection instead of raising `NotConnected`.

        Raises:
            CommandFailed: the server refused, or could not store anything now.
            NotConnected: there is no connection; nothing was sent.
            ConnectionLost: the connection broke before the answer.
            OutcomeUnknown: an event may have been stored, and resending the command is not safe.
        """
        connection = await self._outcomes.connection(wait=wait)
        if not self.begin(connection):
            stored = await self._look(connection)
            if stored is not None:
                return self.conclude(stored)
        try:
            return self.conclude(await connection.attempt(self._command, self._kind))
        except (ConnectionLost, asyncio.CancelledError):
            self.lose()
            raise
        except CommandFailed as error:
            self.refuse(error)
            raise

    def begin(self, connection: Connection) -> bool:
        """Note an attempt; return True if it is safe without searching the stored events."""
        if self.maybe_stored:
            return self._is_remembered(connection)
        self._begin(connection)
        return True

    def lose(self) -> None:
        """Note that the answer of an attempt will not come."""
        self.maybe_stored = True
        self._outcomes.mark_unknown(self)

    def refuse(self, error: CommandFailed) -> None:
        """Note that an attempt failed."""
        if not error.definite:
            self.lose()
        elif not self.maybe_stored:
            self._outcomes.mark_known(self)

    def conclude(self, stored: P) -> P:
        """Note that an attempt succeeded, and return the answer."""
        self._outcomes.mark_known(self)
        return stored

    def _begin(self, connection: Connection) -> None:
        """Note the circumstances of the first attempt."""
        self._first_sent = Stopwatch()
        self._user = connection.welcome.user

    async def _look(self, connection: Connection) -> P | None:
        """Search for the stored event; return its place, or None if no event was stored.

        Raises:
            OutcomeUnknown: the search has no result.
        """
        raise self.unknown("the server may have forgotten its key")

    def _is_remembered(self, connection: Connection) -> bool:
        """Return True if the server certainly still knows the key of the first attempt."""
        welcome = connection.welcome
        if self.name is None or welcome.user != self._user:
            return False
        return self._first_sent.age() < welcome.limits.idempotency_seconds * SAFE_SHARE

    def unknown(self, reason: str) -> OutcomeUnknown:
        """Return the error for an unknown outcome."""
        what = type(self._command).__name__.lower()
        return OutcomeUnknown(
            f"{what}: it may have been stored, and to send it again could store it twice: {reason}"
        )


class Stopwatch:
    """Measures the time since its creation, including time in which the machine sleeps."""

    def __init__(self) -> None:
        self._uptime = _uptime()
        self._wall = time.time()

    def age(self) -> float:
        """Return the seconds since creation, rather too many than too few."""
        return max(_uptime() - self._uptime, time.time() - self._wall)


def _uptime() -> float:
    """Return the seconds since the machine's start, with sleep where the system counts it."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)
