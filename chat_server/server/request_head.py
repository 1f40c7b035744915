"""Reads the head of a request whose bytes leave no doubt what it is, RFC 9112."""

import re

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

MAX_HEAD_BYTES = 16_384
"""A longer head is unusual. Hypercorn has the same bound for one that comes in pieces."""

MAX_DIGITS = 9
"""Digits of a length; a longer one is unusual."""

_LENGTH = re.compile(rb"\r\ncontent-length: ?([0-9]{1,%d})\r\n" % MAX_DIGITS, re.IGNORECASE)

_USUAL = bytes(range(0x20, 0x7F)) + b"\t\r\n"


class Unusual(Exception):
    """A request that is left to Hypercorn: it is an error, or rare, or not understood here."""


class Head:
    """The head of a request by HTTP/1.1.

    Attributes:
        method: of the request.
        path: of its target, as it came.
        query: of its target, without the question mark.
        headers: by name in lower case; each name came once.
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
        """Whether the client keeps its connection, and says nothing else of it."""
        return self.headers.get(b"connection", b"keep-alive").lower() == b"keep-alive"

    def get(self, name: bytes) -> str | None:
        """Return a header, or None."""
        value = self.headers.get(name)
        return None if value is None else value.decode("ascii")

    def all(self, name: bytes) -> list[str]:
        """Return every header of a name."""
        value = self.headers.get(name)
        return [] if value is None else [value.decode("ascii")]


def read_head(data: bytes) -> Head | None:
    """Return the head at the start of `data`, or None while it is not whole.

    The parser is stricter than Hypercorn's in some things and less strict in others. So whatever
    the two could take differently is refused before: bytes other than printable ASCII, line breaks
    other than CRLF, continued lines, headers that come twice, and more spaces than two in the
    request line.

    Raises:
        Unusual: the request is no usual one.
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
    """Finds a head again that was read before, whatever its `Content-Length`.

    Two heads that differ in the digits of that length alone mean the same but for the length. To
    compare them costs a tenth of reading one.

    Args:
        head: as `read_head` has taken it, so that no header comes twice.

    Raises:
        ValueError: it has no length, or an unusual one.
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
        """Return the length of the body and the number of bytes of the head, if it is this one."""
        if not data.startswith(self._before):
            return None
        end = data.find(b"\r\n", self._start, self._start + MAX_DIGITS + 2)
        digits = data[self._start : end]
        if end < 0 or not digits.isdigit() or not data.startswith(self._behind, end):
            return None
        return int(digits), end + self._end
