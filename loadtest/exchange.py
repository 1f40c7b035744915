"""The cheapest HTTP client that keeps its connection: one request, its answer, the next request.

Its handler takes whole answers, status line and headers included, as that of a `wire.Socket` takes
frames.
"""

import asyncio
import re
from typing import cast

from .wire import Handler

_REQUEST = (
    "POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n{headers}"
)
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE).search
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE).search
_LAST_CHUNK = b"\r\n0\r\n\r\n"


class Exchange(asyncio.Protocol):
    """One connection that posts to one path.

    Args:
        host, port, path: where to.
        headers: more lines of each request, each with its end of line.
        handler: what is told of it.
    """

    def __init__(self, host: str, port: int, path: str, headers: str, handler: Handler) -> None:
        request = _REQUEST.format(path=path, host=host, port=port, headers=headers)
        self._head = request.encode() + b"Content-Length: %d\r\n\r\n"
        self._handler = handler
        self._transport: asyncio.Transport
        self._ended = False
        self._answer = b""

    def write(self, data: bytes) -> None:
        """Post a body."""
        self._transport.write(self._head % len(data) + data)

    def stall(self) -> None:
        """Stop reading."""
        self._transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        self._transport.resume_reading()

    def leave(self) -> None:
        """End the connection; HTTP has no other goodbye."""
        self.close()

    def close(self) -> None:
        """End the connection."""
        self._ended = True
        if hasattr(self, "_transport"):
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not isinstance: uvloop's transports do not derive from asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        self._handler.on_open()

    def data_received(self, data: bytes) -> None:
        self._answer += data
        if _is_whole(self._answer):
            answer, self._answer = self._answer, b""
            self._handler.on_frames(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._ended:
            self._ended = True
            self._handler.on_lost(str(exc) if exc else "closed by the server")


def _is_whole(answer: bytes) -> bool:
    head, end, body = answer.partition(b"\r\n\r\n")
    if not end:
        return False
    if _CHUNKED(head):
        return answer.endswith(_LAST_CHUNK)
    length = _LENGTH(head)
    return len(body) >= (int(length[1]) if length else 0)
