"""Parses the head of a request whose bytes are unambiguous, RFC 9112."""

import re

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

MAX_HEAD_BYTES = 16_384
"""Bytes of a head; a longer head is unusual. Hypercorn has the same bound for a head in pieces."""

MAX_DIGITS = 9
"""Digits of a length; a longer number is unusual."""

_LENGTH = re.compile(rb"\r\ncontent-length: ?([0-9]{1,%d})\r\n" % MAX_DIGITS, re.IGNORECASE)

_USUAL = bytes(range(0x20, 0x7F)) + b"\t\r\n"


class Unusual(Exception):
    """A request for Hypercorn: an error, or a rare or unknown form."""


class Head:
    """The head of a request by HTTP/1.1.

    Attributes:
        method: the method of the request.
        path: the path of the target, not decoded.
        query: the query of the target, without the question mark.
        headers: the headers by name in lower case; each name occurs once.
        end: the number of bytes of the head.
    """

    __slots__ = ("_repeats", "end", "headers", "method", "path", "query")

    def __init__(self, data: bytes) -> None:
        self.headers: dict[bytes, bytes] = {}
        self.path = self.query = b""
        self.end = len(data)
        self._repeats = False
        parser = HttpRequestParser(self)
        try:
            parser.feed_data(data)
        except HttpParserUpgrade:
            pass
        except HttpParserError:
            raise Unusual from None
        self.method: bytes = parser.get_method()
        if self._repeats:
            raise Unusual

    def on_url(self, target: bytes) -> None:
        """Note the target; called by the parser."""
        self.path, _, self.query = target.partition(b"?")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note a header; called by the parser."""
        name = name.lower()
        if name in self.headers:
            self._repeats = True
        self.headers[name] = value.strip(b" \t")

    @property
    def keeps_alive(self) -> bool:
        """True if the client keeps its connection, and `Connection` has no other value."""
        return self.headers.get(b"connection", b"keep-alive").lower() == b"keep-alive"

    def get(self, name: bytes) -> str | None:
        """Return a header, or None."""
        value = self.headers.get(name)
        return None if value is None else value.decode("ascii")

    def all(self, name: bytes) -> list[str]:
        """Return every value of a header."""
        value = self.headers.get(name)
        return [] if value is None else [value.decode("ascii")]


def read_head(data: bytes) -> Head | None:
    """Return the head at the start of `data`, or None for an incomplete head.

    The parser is stricter than Hypercorn's in some points and less strict in others. Therefore
    input that both could read differently is refused first: bytes other than printable ASCII, line
    breaks other than CRLF, continued lines, repeated headers, and more than two spaces in the
    request line.

    Raises:
        Unusual: the request is not a usual one.
    """
    end = data.find(b"\r\n\r\n") + 4
    if end < 4:
        if len(data) > MAX_HEAD_BYTES:
            raise Unusual
        return None
    head = data[:end]
    first = head.find(b"\r\n")
    lines = head.count(b"\r\n")
    if (
        end > MAX_HEAD_BYTES
        or head.translate(None, _USUAL)
        or head.count(b"\n") != lines
        or head.count(b"\r") != lines
        or b"\n " in head
        or b"\n\t" in head
        or not head.startswith((b"GET /", b"POST /"))
        or not head.startswith(b" HTTP/1.1", first - 9)
        or head.count(b" ", 0, first) != 2
    ):
        raise Unusual
    return Head(head)


class HeadPattern:
    """Recognises a parsed head again, with any `Content-Length`.

    Two heads that differ only in the digits of this length have the same meaning except for the
    length. Comparing heads costs a tenth of parsing one.

    Args:
        head: a head that `read_head` has accepted, so each header occurs once.

    Raises:
        ValueError: the head has no length, or an unusual length.
    """

    __slots__ = ("_before", "_behind", "_end", "_start")

    def __init__(self, head: bytes) -> None:
        found = _LENGTH.search(head)
        if found is None:
            raise ValueError("there is no length")
        self._start, end = found.span(1)
        self._before, self._behind = head[: self._start], head[end:]
        self._end = len(self._behind)

    def match(self, data: bytes) -> tuple[int, int] | None:
        """Return the bytes of the body and of the head; None for another head."""
        if not data.startswith(self._before):
            return None
        end = data.find(b"\r\n", self._start, self._start + MAX_DIGITS + 2)
        digits = data[self._start : end]
        if end < 0 or not digits.isdigit() or not data.startswith(self._behind, end):
            return None
        return int(digits), end + self._end
