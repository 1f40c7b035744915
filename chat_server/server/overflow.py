"""Answers connections beyond the worker's limit, including probes of `/health/live`."""

import asyncio
import logging
import socket
from contextlib import suppress

from ..metrics.numbers import Numbers

logger = logging.getLogger(__name__)

MAX_HEADS_READ = 16
"""Refused connections whose request is read at a time, so probes of `/health/live` get 200."""

REQUEST_SECONDS = 1.0
"""Seconds that such a connection may take for the head of its request."""

REPORT_SECONDS = 60.0
"""Seconds between two log lines with the number of refused connections; the first is immediate."""

LIVE_RESPONSE = (
    b"HTTP/1.1 200 OK\r\nConnection: close\r\nCache-Control: no-store\r\n"
    b"Content-Type: application/json\r\nContent-Length: 15\r\n\r\n"
    b'{"status":"ok"}'
)
FULL_RESPONSE = (
    b"HTTP/1.1 503 Service Unavailable\r\n"
    b"Connection: close\r\nContent-Length: 0\r\nRetry-After: 10\r\n\r\n"
)


HEAD_BYTES = 65_536
"""Bytes read of such a request at most."""


class Overflow:
    """Refuses connections, but answers `/health/live` with 200.

    Args:
        numbers: counts refused connections.
    """

    def __init__(self, numbers: Numbers) -> None:
        self._numbers = numbers
        self._listening: set[asyncio.Task[None]] = set()
        self._refused = 0
        self._reporting = False

    def refuse(self, refused: socket.socket, reason: str, *, secure: bool) -> None:
        """Answer a connection and close the connection.

        Args:
            refused: the accepted socket, non-blocking.
            reason: the reason for the log.
            secure: True for a TLS connection; the socket is then closed without an answer.
        """
        if not secure and len(self._listening) < MAX_HEADS_READ:
            task = asyncio.get_running_loop().create_task(self._listen(refused, reason))
            self._listening.add(task)
            task.add_done_callback(self._listening.discard)
            return
        self._count(reason)
        _answer(refused, b"" if secure else FULL_RESPONSE)

    async def stop(self) -> None:
        """Drop refused connections whose request has not come yet."""
        for task in self._listening:
            task.cancel()
        await asyncio.gather(*self._listening, return_exceptions=True)

    async def _listen(self, refused: socket.socket, reason: str) -> None:
        head = b""
        try:
            # Unread input would destroy the answer, so read the input first.
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
            _answer(refused, LIVE_RESPONSE if alive else FULL_RESPONSE)

    def _count(self, reason: str) -> None:
        self._refused += 1
        self._numbers.sockets_refused += 1
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
        # Unread bytes would turn the close into a reset, and the reset would overtake the answer.
        refused.recv(HEAD_BYTES)
