"""Accepts connections, and decides who has to go when there are as many as there may be."""

import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial

from ..logs import LogThrottle
from ..transports.handshake import client_address
from .hypercorn import HttpConnection
from .refusals import Refusals

logger = logging.getLogger(__name__)

BACKLOG = 2048
"""Connections the system accepts ahead of us: a reconnecting crowd must not be refused."""

ACCEPTED_AT_ONCE = 64
"""Connections accepted in one turn of the loop; then everybody else has a turn."""

SCARCE_DESCRIPTORS = 16
"""So many before the last that connections may have, each newcomer takes another's place."""

EXHAUSTED_SECONDS = 1.0
"""Pause after the system had no descriptor for a connection."""

_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Guest:
    """An accepted socket until its connection has ended or its WebSocket is open.

    Args:
        socket: as it was accepted.
        address: of the other side; it is counted by its network.
    """

    __slots__ = ("address", "connection", "served", "socket")

    def __init__(self, socket: socket.socket, address: str) -> None:
        self.socket = socket
        self.address = client_address(address, (), 0)
        self.served = False
        self.connection: HttpConnection | None = None  # none yet during a handshake of TLS

    def hang_up(self) -> None:
        """End the connection as if the client had; what serves it finds out and lets go of it."""
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)


class Waiting:
    """Guests without a request under way, by address; those that wait longest come first."""

    def __init__(self) -> None:
        self._addresses: dict[str, dict[Guest, None]] = {}

    def add(self, guest: Guest) -> None:
        """Note that a guest waits."""
        self._addresses.setdefault(guest.address, {})[guest] = None

    def remove(self, guest: Guest) -> None:
        """Note that a guest has a request under way, or is gone."""
        guests = self._addresses.get(guest.address)
        if guests is not None:
            guests.pop(guest, None)
            if not guests:
                del self._addresses[guest.address]

    def take_longest(self) -> Guest | None:
        """Remove the guest who waits longest at the address that has most of them."""
        if not self._addresses:
            return None
        address = max(self._addresses, key=lambda each: len(self._addresses[each]))
        guest = next(iter(self._addresses[address]))
        self.remove(guest)
        return guest


class Acceptor:
    """Accepts connections and runs each in a task of its own.

    Where there are as many as there may be, a newcomer takes the place of the guest who has waited
    longest without a request, at the address that has most of these: who opens thousands of them
    closes his own. Only if every guest has a request under way the newcomer is refused.

    Args:
        listener: closed at the end.
        connect: returns the connection of a newcomer, which tells whether it waits for a request.
        max_connections: guests at most.
        max_descriptor: the first descriptor that no guest may have.
        tls: spoken with everybody, if any.
        handshake_seconds: what a handshake of TLS may take.
    """

    def __init__(
        self,
        listener: socket.socket,
        connect: Callable[[Callable[[bool], None]], HttpConnection],
        *,
        max_connections: int,
        max_descriptor: int,
        tls: ssl.SSLContext | None,
        handshake_seconds: float,
    ) -> None:
        self._listener = listener
        self._connect = connect
        self._max_connections = max_connections
        self._max_descriptor = max_descriptor
        self._tls = tls
        self._handshake_seconds = handshake_seconds if tls else None
        self._loop = asyncio.get_running_loop()
        self._guests: dict[asyncio.Task[None], Guest] = {}
        self._waiting = Waiting()
        self._exhausted: asyncio.TimerHandle | None = None
        self._refusals = Refusals()
        self._throttle = LogThrottle(60.0)

    def start(self) -> None:
        """Begin to accept."""
        self._listener.setblocking(False)
        self._listener.listen(BACKLOG)
        self._loop.add_reader(self._listener, self._accept)

    def stop(self) -> None:
        """Accept nobody more; those whom the system has let wait are left to other workers."""
        if self._exhausted is not None:
            self._exhausted.cancel()
        self._loop.remove_reader(self._listener)
        self._listener.close()

    def retire(self) -> None:
        """Let connections end once they have no request under way."""
        for guest in self._guests.values():
            if guest.connection is not None:
                guest.connection.retire()

    async def wait(self, seconds: float) -> bool:
        """Wait so long for all connections to end, and return whether they have."""
        if self._guests:
            await asyncio.wait(self._guests, timeout=seconds)
        return not self._guests

    def hang_up(self) -> None:
        """End all connections as if the clients had."""
        for guest in self._guests.values():
            guest.hang_up()

    async def cancel(self) -> None:
        """Cancel what still serves a connection."""
        for task in self._guests:
            task.cancel()
        await asyncio.gather(*self._guests, return_exceptions=True)
        await self._refusals.stop()

    # Accepting -----------------------------------------------------------------------------

    def _accept(self) -> None:
        for accepted, address in self._accepted():
            accepted.setblocking(False)
            guest = Guest(accepted, address)
            if reason := self._fullness(accepted.fileno()):
                self._refusals.refuse(accepted, reason, secure=self._tls is not None)
                continue
            task = self._loop.create_task(self._serve(guest))
            self._guests[task] = guest
            self._waiting.add(guest)
            task.add_done_callback(self._forget)

    def _accepted(self) -> Iterator[tuple[socket.socket, str]]:
        """Accept those who are there, not all at once."""
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                accepted, address = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    continue  # that one is gone already
                self._pause(error)
                return
            yield accepted, address[0]

    def _pause(self, error: OSError) -> None:
        """Leave newcomers waiting: the system would say that they are there, again and again."""
        if self._throttle.due("exhausted"):
            logger.warning("no connection can be accepted: %s", error.strerror)
        self._evict()
        self._loop.remove_reader(self._listener)
        self._exhausted = self._loop.call_later(EXHAUSTED_SECONDS, self.start)

    def _fullness(self, descriptor: int) -> str:
        """Return why there is no room for a newcomer, for whom another may go, or nothing."""
        crowded = len(self._guests) >= self._max_connections
        scarce = descriptor >= self._max_descriptor - SCARCE_DESCRIPTORS
        evicted = (crowded or scarce) and self._evict()
        if crowded and not evicted:
            return f"{self._max_connections} connections are open (http.max_connections)"
        if descriptor >= self._max_descriptor:
            return f"{self._max_descriptor} file descriptors are in use (ulimit -n)"
        return ""

    def _evict(self) -> bool:
        guest = self._waiting.take_longest()
        if guest is None:
            return False
        if self._throttle.due("evicted"):
            logger.warning(
                "there are as many connections as there may be: those that ask nothing are closed,"
                " the oldest first and first of the address with most of them, now %s",
                guest.address,
            )
        guest.hang_up()
        return True

    # One connection ------------------------------------------------------------------------

    async def _serve(self, guest: Guest) -> None:
        guest.served = True
        connection = self._connect(partial(self._note, guest))
        try:
            await self._loop.connect_accepted_socket(
                lambda: connection,
                guest.socket,
                ssl=self._tls,
                ssl_handshake_timeout=self._handshake_seconds,
            )
            guest.connection = connection
            await connection.run()
        except OSError as error:
            logger.debug("%s: the connection failed: %s", guest.address, error)
        except Exception:
            logger.exception("a connection failed")
        finally:
            guest.connection = None

    def _note(self, guest: Guest, waiting: bool) -> None:
        if waiting:
            self._waiting.add(guest)
        else:
            self._waiting.remove(guest)

    def _forget(self, task: asyncio.Task[None]) -> None:
        guest = self._guests.pop(task)
        self._waiting.remove(guest)
        if not guest.served:
            guest.socket.close()
