"""Accepts connections, and at the limit closes idle connections to make room."""

import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial

from ..addresses import client_address
from ..logs import LogThrottle
from ..metrics.numbers import Numbers
from .hypercorn import HttpConnection
from .overflow import Overflow

logger = logging.getLogger(__name__)

BACKLOG = 2048
"""Connections in the system's queue: many clients may reconnect at once and must not be refused."""

ACCEPTED_AT_ONCE = 64
"""Connections accepted per loop iteration, so the loop also serves open connections."""

SCARCE_DESCRIPTORS = 16
"""Descriptors: with so few left for connections, each new connection replaces an idle one."""

EXHAUSTED_SECONDS = 1.0
"""Seconds without accepting after the system had no descriptor for a connection."""

_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Peer:
    """An accepted socket, until its connection has ended or its WebSocket is open.

    Args:
        socket: the accepted socket.
        address: the client's address; peers are counted by the network of the address.
    """

    __slots__ = ("address", "connection", "served", "socket")

    def __init__(self, socket: socket.socket, address: str) -> None:
        self.socket = socket
        self.address = client_address(address, (), 0)
        self.served = False
        self.connection: HttpConnection | None = None  # None during a TLS handshake

    def hang_up(self) -> None:
        """Shut the socket down; the connection's reader then releases the connection."""
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)


class IdlePeers:
    """Peers without a request under way, by address; the longest idle peer of each comes first."""

    def __init__(self) -> None:
        self._addresses: dict[str, dict[Peer, None]] = {}

    def add(self, peer: Peer) -> None:
        """Add a peer without a request under way."""
        self._addresses.setdefault(peer.address, {})[peer] = None

    def remove(self, peer: Peer) -> None:
        """Remove a peer that has begun a request or has closed its connection."""
        peers = self._addresses.get(peer.address)
        if peers is not None:
            peers.pop(peer, None)
            if not peers:
                del self._addresses[peer.address]

    def pop_longest_idle(self) -> Peer | None:
        """Remove and return the longest idle peer of the address with most idle peers."""
        if not self._addresses:
            return None
        address = max(self._addresses, key=lambda each: len(self._addresses[each]))
        peer = next(iter(self._addresses[address]))
        self.remove(peer)
        return peer


class Acceptor:
    """Accepts connections and runs each connection in its own task.

    At the limit a new connection replaces an idle peer: the longest idle peer of the address with
    most idle peers. A client that opens thousands of connections therefore closes its own. A new
    connection is refused only if every peer has a request under way.

    Args:
        listener: the listening socket; closed at the end.
        connect: returns the connection of a new peer; the connection reports when the peer is idle.
        max_connections: peers at most.
        max_descriptor: the lowest descriptor that peers must not use.
        tls: the TLS context of every connection; None for plain HTTP.
        handshake_seconds: seconds that a TLS handshake may take.
        numbers: counts refused connections.
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
        numbers: Numbers,
    ) -> None:
        self._listener = listener
        self._connect = connect
        self._max_connections = max_connections
        self._max_descriptor = max_descriptor
        self.tls = tls
        self._handshake_seconds = handshake_seconds if tls else None
        self._loop = asyncio.get_running_loop()
        self._peers: dict[asyncio.Task[None], Peer] = {}
        self._idle = IdlePeers()
        self._exhausted: asyncio.TimerHandle | None = None
        self._overflow = Overflow(numbers)
        self._throttle = LogThrottle(60.0)

    def start(self) -> None:
        """Begin to accept."""
        self._listener.setblocking(False)
        self._listener.listen(BACKLOG)
        self._loop.add_reader(self._listener, self._accept)

    def stop(self) -> None:
        """Accept what the system has queued, which it would reset, and stop accepting."""
        self._end_pause()
        self._accept()
        self._end_pause()  # which may have begun just now
        self._loop.remove_reader(self._listener)
        self._listener.close()

    def retire(self) -> None:
        """Let connections end as soon as they have no request under way."""
        for peer in self._peers.values():
            if peer.connection is not None:
                peer.connection.retire()

    async def wait(self, seconds: float) -> bool:
        """Wait at most `seconds` for the end of all connections; return True if all have ended."""
        if self._peers:
            await asyncio.wait(self._peers, timeout=seconds)
        return not self._peers

    def hang_up(self) -> None:
        """Shut all connections down, like a disconnect of every client."""
        for peer in self._peers.values():
            peer.hang_up()

    async def cancel(self) -> None:
        """Cancel the tasks of all connections."""
        for task in self._peers:
            task.cancel()
        await asyncio.gather(*self._peers, return_exceptions=True)
        await self._overflow.stop()

    # Accepting -----------------------------------------------------------------------------

    def _accept(self) -> None:
        for accepted, address in self._accepted():
            accepted.setblocking(False)
            peer = Peer(accepted, address)
            if reason := self._fullness(accepted.fileno()):
                self._overflow.refuse(accepted, reason, secure=self.tls is not None)
                continue
            task = self._loop.create_task(self._serve(peer))
            self._peers[task] = peer
            self._idle.add(peer)
            task.add_done_callback(self._forget)

    def _accepted(self) -> Iterator[tuple[socket.socket, str]]:
        """Accept connections from the system's queue, `ACCEPTED_AT_ONCE` at most."""
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                accepted, address = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    continue  # the client has closed this connection already
                self._pause(error)
                return
            yield accepted, address[0]

    def _pause(self, error: OSError) -> None:
        """Pause accepting: otherwise the listener stays readable, and the loop spins."""
        if self._throttle.due("exhausted"):
            logger.warning("no connection can be accepted: %s", error.strerror)
        self._evict()
        self._loop.remove_reader(self._listener)
        self._exhausted = self._loop.call_later(EXHAUSTED_SECONDS, self.start)

    def _end_pause(self) -> None:
        if self._exhausted is not None:
            self._exhausted.cancel()

    def _fullness(self, descriptor: int) -> str:
        """Return the reason to refuse a new connection, or ""; may evict an idle peer."""
        crowded = len(self._peers) >= self._max_connections
        scarce = descriptor >= self._max_descriptor - SCARCE_DESCRIPTORS
        evicted = (crowded or scarce) and self._evict()
        if crowded and not evicted:
            return f"{self._max_connections} connections are open (http.max_connections)"
        if descriptor >= self._max_descriptor:
            return f"{self._max_descriptor} file descriptors are in use (ulimit -n)"
        return ""

    def _evict(self) -> bool:
        peer = self._idle.pop_longest_idle()
        if peer is None:
            return False
        if self._throttle.due("evicted"):
            logger.warning(
                "there are as many connections as there may be: those that ask nothing are closed,"
                " the oldest first and first of the address with most of them, now %s",
                peer.address,
            )
        peer.hang_up()
        return True

    # One connection ------------------------------------------------------------------------

    async def _serve(self, peer: Peer) -> None:
        peer.served = True
        connection = self._connect(partial(self._note, peer))
        try:
            await self._loop.connect_accepted_socket(
                lambda: connection,
                peer.socket,
                ssl=self.tls,
                ssl_handshake_timeout=self._handshake_seconds,
            )
            peer.connection = connection
            await connection.run()
        except OSError as error:
            logger.debug("%s: the connection failed: %s", peer.address, error)
        except Exception:
            logger.exception("a connection failed")
        finally:
            peer.connection = None

    def _note(self, peer: Peer, waiting: bool) -> None:
        if waiting:
            self._idle.add(peer)
        else:
            self._idle.remove(peer)

    def _forget(self, task: asyncio.Task[None]) -> None:
        peer = self._peers.pop(task)
        self._idle.remove(peer)
        if not peer.served:
            peer.socket.close()
