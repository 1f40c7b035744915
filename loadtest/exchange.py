"""The cheapest HTTP client with keep-alive: one request, its answer, the next request.

Its handler gets complete answers including status line and headers, as the handler of a
`wire.Socket` gets frames.
"""

import asyncio
import re

from .wire import Handler, Link

_REQUEST = (
    "POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n{headers}"
)
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE).search
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE).search
_LAST_CHUNK = b"\r\n0\r\n\r\n"


class Exchange(Link):
    """One connection that posts to one path.

    Args:
        host, port, path: the address.
        headers: more lines of each request, each with its end of line.
        handler: gets the events of the connection.
    """

    def __init__(self, host: str, port: int, path: str, headers: str, handler: Handler) -> None:
        super().__init__(handler)
        request = _REQUEST.format(path=path, host=host, port=port, headers=headers)
        self._head = request.encode() + b"Content-Length: %d\r\n\r\n"
        self._answer = b""

    def write(self, data: bytes) -> None:
        """Post a body."""
        self._transport.write(self._head % len(data) + data)

    def leave(self) -> None:
        """End the connection; HTTP has no other goodbye."""
        self.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._handler.on_open()

    def data_received(self, data: bytes) -> None:
        self._answer += data
        if _is_whole(self._answer):
            answer, self._answer = self._answer, b""
            self._handler.on_frames(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        self.fail(str(exc) if exc else "closed by the server")


def _is_whole(answer: bytes) -> bool:
    head, end, body = answer.partition(b"\r\n\r\n")
    if not end:
        return False
    if _CHUNKED(head):
        return answer.endswith(_LAST_CHUNK)
    length = _LENGTH(head)
    return len(body) >= (int(length[1]) if length else 0)
