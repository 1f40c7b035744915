"""The bytes of responses by the front door, RFC 9112, with what every response has."""

import time
from collections.abc import Mapping
from wsgiref.handlers import format_date_time

from ..http.requests import REQUEST_ID_HEADER, SECURITY_HEADERS
from ..realtime.drain import Drain


def lines(headers: Mapping[str, str]) -> bytes:
    """Return headers as they are sent."""
    return "".join(f"{name.lower()}: {value}\r\n" for name, value in headers.items()).encode()


SECURITY = lines(SECURITY_HEADERS)
REQUEST_ID = REQUEST_ID_HEADER.lower().encode()
"""The name of the header as heads and responses have it."""


class Responses:
    """Makes the bytes of a worker's responses.

    Args:
        drain: of the worker; once it is announced, a response is the last one of its connection.
    """

    def __init__(self, drain: Drain) -> None:
        self._drain = drain
        self._second = 0
        self._date = b""

    def make(self, begin: bytes, body: bytes, request_id: str, end: Mapping[str, str]) -> bytes:
        """Return a response.

        Args:
            begin: its status line and first headers, those of its length and for security included.
            body: of the response.
            request_id: as sent or made.
            end: its last headers.
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
