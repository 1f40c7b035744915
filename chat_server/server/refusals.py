"""Connections for which there is no room: answered, counted in the log, and alive to a probe."""

import asyncio
import logging
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


class Refusals:
    """Refuses connections; /health/live it answers itself."""

    def __init__(self) -> None:
        self._listened_to = 0
        self._refused = 0
        self._reporting = False

    async def refuse(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, reason: str
    ) -> None:
        """Answer a connection and close it.

        Args:
            reader: what it sends.
            writer: closed at the end.
            reason: for the log.
        """
        answer = NO_ROOM
        if self._listened_to < LISTENED_TO:
            self._listened_to += 1
            try:
                # Reading also keeps the answer from being lost with what nobody has read.
                async with asyncio.timeout(REQUEST_SECONDS):
                    head = await reader.readuntil(b"\r\n\r\n")
                if head.startswith(b"GET /health/live "):
                    answer = ALIVE
            except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                pass
            finally:
                self._listened_to -= 1
        if answer is NO_ROOM:
            self._count(reason)
        with suppress(OSError):
            writer.write(answer)
        writer.close()

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
