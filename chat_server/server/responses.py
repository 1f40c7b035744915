"""The bytes of the front door's responses, RFC 9112, with the headers of every response."""

import time
from collections.abc import Mapping
from wsgiref.handlers import format_date_time

from ..http.requests import REQUEST_ID_HEADER, SECURITY_HEADERS
from ..realtime.drain import Drain


def lines(headers: Mapping[str, str]) -> bytes:
    """Return the header lines as bytes."""
    return "".join(f"{name.lower()}: {value}\r\n" for name, value in headers.items()).encode()


SECURITY = lines(SECURITY_HEADERS)
REQUEST_ID = REQUEST_ID_HEADER.lower().encode()
"""The header's name in heads and responses."""


class Responses:
    """Makes the bytes of a worker's responses.

    Args:
        drain: the worker's drain; once announced, each response is the last one of its connection.
    """

    def __init__(self, drain: Drain) -> None:
        self._drain = drain
        self._second = 0
        self._date = b""

    def make(self, begin: bytes, body: bytes, request_id: str, end: Mapping[str, str]) -> bytes:
        """Return a response.

        Args:
            begin: the status line and the first headers, including those for length and security.
            body: the body of the response.
            request_id: the request id, sent or generated.
            end: the last headers.
        """
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._date = f"date: {format_date_time(second)}\r\n\r\n".encode()
        return b"%b%b: %b\r\n%b%b%b%b" % (
            begin,
            REQUEST_ID,
            request_id.encode(),
            lines(end),
            b"connection: close\r\n" if self._drain.announced else b"",
            self._date,
            body,
        )
