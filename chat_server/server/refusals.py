"""Connections for which there is no room: answered, counted in the log, and alive to a probe."""

import asyncio
import logging
import socket
from contextlib import suppress

logger = logging.getLogger(__name__)

LISTENED_TO = 16
"""Refused connections whose request is read, so that a probe learns that the process is alive."""

REQUEST_SECONDS = 1.0
"""How long such a connection may take for its request."""

REPORT_SECONDS = 60.0
"""How often the log says how many were refused; it says so at once when it begins."""

ALIVE = (
    b"HTTP/1.1 200 OK\r\nConnection: close\r\nCache-Control: no-store\r\n"
    b"Content-Type: application/json\r\nContent-Length: 15\r\n\r\n"
    b'{"status":"ok"}'
)
NO_ROOM = (
    b"HTTP/1.1 503 Service Unavailable\r\n"
    b"Connection: close\r\nContent-Length: 0\r\nRetry-After: 10\r\n\r\n"
)


HEAD_BYTES = 65_536
"""Read of such a request at most."""


class Refusals:
    """Refuses connections; /health/live it answers itself."""

    def __init__(self) -> None:
        self._listening: set[asyncio.Task[None]] = set()
        self._refused = 0
        self._reporting = False

    def refuse(self, refused: socket.socket, reason: str, *, secure: bool) -> None:
        """Answer a connection and close it.

        Args:
            refused: as it was accepted, not blocking.
            reason: for the log.
            secure: whether it is to speak TLS; then it is closed without an answer.
        """
        if not secure and len(self._listening) < LISTENED_TO:
            task = asyncio.get_running_loop().create_task(self._listen(refused, reason))
            self._listening.add(task)
            task.add_done_callback(self._listening.discard)
            return
        self._count(reason)
        _answer(refused, b"" if secure else NO_ROOM)

    async def stop(self) -> None:
        """End those that are still listened to."""
        for task in self._listening:
            task.cancel()
        await asyncio.gather(*self._listening, return_exceptions=True)

    async def _listen(self, refused: socket.socket, reason: str) -> None:
        head = b""
        try:
            # Reading also keeps the answer from being lost with what nobody has read.
            async with asyncio.timeout(REQUEST_SECONDS):
                while b"\r\n\r\n" not in head and len(head) < HEAD_BYTES:
                    more = await asyncio.get_running_loop().sock_recv(refused, HEAD_BYTES)
                    if not more:
                        break
                    head += more
        except (TimeoutError, OSError):
            pass
        finally:
            alive = head.startswith(b"GET /health/live ")
            if not alive:
                self._count(reason)
            _answer(refused, ALIVE if alive else NO_ROOM)

    def _count(self, reason: str) -> None:
        self._refused += 1
        if not self._reporting:
            self._report(reason)

    def _report(self, reason: str) -> None:
        self._reporting = self._refused > 0
        if self._reporting:
            logger.warning("refusing connections, %d so far: %s", self._refused, reason)
            self._refused = 0
            asyncio.get_running_loop().call_later(REPORT_SECONDS, self._report, reason)


def _answer(refused: socket.socket, answer: bytes) -> None:
    with refused, suppress(OSError):
        refused.send(answer)
        refused.shutdown(socket.SHUT_WR)
        # What is unread would turn the end into a reset, which overtakes the answer.
        refused.recv(HEAD_BYTES)
