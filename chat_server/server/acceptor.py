"""Accepts connections and, at the limit, decides which connection has to go."""

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
"""Connections that the system queues before we accept them: a reconnecting crowd must not be
refused."""

ACCEPTED_AT_ONCE = 64
"""Connections accepted per loop iteration, so that open connections get their turn."""

SCARCE_DESCRIPTORS = 16
"""When so few descriptors are left for connections, each new connection replaces an idle one."""

EXHAUSTED_SECONDS = 1.0
"""Seconds without accepting after the system had no descriptor for a connection."""

_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Peer:
    """An accepted socket until its connection has ended or its WebSocket is open.

    Args:
        socket: as it was accepted.
        address: of the client; peers are counted by their network.
    """

    __slots__ = ("address", "connection", "served", "socket")

    def __init__(self, socket: socket.socket, address: str) -> None:
        self.socket = socket
        self.address = client_address(address, (), 0)
        self.served = False
        self.connection: HttpConnection | None = None  # none yet during a handshake of TLS

    def hang_up(self) -> None:
        """End the connection as if the client had; its reader notices and releases it."""
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)


class IdlePeers:
    """Peers without a request under way, by address; those that are idle longest come first."""

    def __init__(self) -> None:
        self._addresses: dict[str, dict[Peer, None]] = {}

    def add(self, peer: Peer) -> None:
        """Add a peer that has no request under way."""
        self._addresses.setdefault(peer.address, {})[peer] = None

    def remove(self, peer: Peer) -> None:
        """Remove a peer that has a request under way, or is gone."""
        peers = self._addresses.get(peer.address)
        if peers is not None:
            peers.pop(peer, None)
            if not peers:
                del self._addresses[peer.address]

    def pop_longest_idle(self) -> Peer | None:
        """Remove and return the longest idle peer of the address that has most idle peers."""
        if not self._addresses:
            return None
        address = max(self._addresses, key=lambda each: len(self._addresses[each]))
        peer = next(iter(self._addresses[address]))
        self.remove(peer)
        return peer


class Acceptor:
    """Accepts connections and runs each in a task of its own.

    At the limit a new connection replaces the peer that is idle longest at the address with most
    idle peers: a client that opens thousands of connections closes its own. A new connection is
    refused only if every peer has a request under way.

    Args:
        listener: closed at the end.
        connect: returns the connection of a new peer, which reports whether the peer is idle.
        max_connections: peers at most.
        max_descriptor: the first descriptor that no peer may have.
        tls: spoken on every connection, if given.
        handshake_seconds: seconds that a TLS handshake may take.
        numbers: counts those that are refused.
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
        """Stop accepting; connections still queued by the system are left to other workers."""
        if self._exhausted is not None:
            self._exhausted.cancel()
        self._loop.remove_reader(self._listener)
        self._listener.close()

    def retire(self) -> None:
        """Let connections end once they have no request under way."""
        for peer in self._peers.values():
            if peer.connection is not None:
                peer.connection.retire()

    async def wait(self, seconds: float) -> bool:
        """Wait at most `seconds` for all connections to end, and return whether they have."""
        if self._peers:
            await asyncio.wait(self._peers, timeout=seconds)
        return not self._peers

    def hang_up(self) -> None:
        """End all connections as if the clients had."""
        for peer in self._peers.values():
            peer.hang_up()

    async def cancel(self) -> None:
        """Cancel what still serves a connection."""
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
        """Accept connections that the system has queued, `ACCEPTED_AT_ONCE` at most."""
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
        """Stop accepting for a while: the listener would stay readable, and the loop would spin."""
        if self._throttle.due("exhausted"):
            logger.warning("no connection can be accepted: %s", error.strerror)
        self._evict()
        self._loop.remove_reader(self._listener)
        self._exhausted = self._loop.call_later(EXHAUSTED_SECONDS, self.start)

    def _fullness(self, descriptor: int) -> str:
        """Return why there is no room for a new connection, or ""; may evict an idle peer."""
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
