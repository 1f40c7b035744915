"""Files of the chat page at the front door: a browser without a cache requests fifty at once."""

import re
import time
from collections.abc import Mapping

from ..http.pages import File
from ..http.requests import SECURITY_HEADERS, log_answer, request_id_of
from ..metrics.numbers import Numbers
from .request_head import Head, Unusual
from .responses import REQUEST_ID, Responses, lines

_CODINGS = re.compile(rb"[a-z0-9-]+(?:, ?[a-z0-9-]+)*")
_ETAG = re.compile(r'"[0-9a-z-]+"')

_CHANGING = frozenset(
    (
        *(b"if-match", b"if-modified-since", b"if-range", b"if-unmodified-since", b"range"),
        *(b"content-length", b"expect", b"transfer-encoding", b"upgrade", b"origin", b"te"),
    )
)
"""Headers with which a request for a file is unusual; `Origin` requires CORS headers."""


class HotFiles:
    """Answers requests for files.

    Args:
        files: the files by path.
        numbers: the worker's counters.
        responses: makes the bytes of the answers.
        vary: the `Vary` of every answer, besides `Accept-Encoding`.
    """

    def __init__(
        self, files: Mapping[str, File], numbers: Numbers, responses: Responses, vary: str
    ) -> None:
        self._files = {path.encode(): file for path, file in files.items()}
        self._numbers = numbers
        self._responses = responses
        self._vary = vary

    def check(self, head: Head) -> None:
        """Raise `Unusual` unless `head` requests a file in a usual way."""
        if (
            head.path not in self._files
            or head.query
            or not head.keeps_alive
            or not _CHANGING.isdisjoint(head.headers)
        ):
            raise Unusual

    def answer(self, head: Head) -> bytes:
        """Return the response to a checked request.

        Raises:
            Unusual: the request is not hot.
        """
        began_at = time.monotonic()
        file = self._files[head.path]
        codings = head.headers.get(b"accept-encoding", b"")
        if codings and _CODINGS.fullmatch(codings) is None:
            raise Unusual
        compressed = b"gzip" in re.split(rb", ?", codings)
        headers = file.headers(compressed=compressed)
        if self._vary:
            headers["Vary"] += f", {self._vary}"
        known = head.get(b"if-none-match")
        if known is not None and _ETAG.fullmatch(known) is None:
            raise Unusual
        status, body = 200, file.compressed if compressed else file.body
        if known == headers["ETag"]:
            status, body = 304, b""
        else:
            headers["Content-Length"] = str(len(body))
        request_id = request_id_of(head.get(REQUEST_ID) or "")
        self._numbers.http_responses[status] += 1
        log_answer("GET", head.path.decode(), status, began_at, request_id)
        # In Quart's order; the file's own headers take precedence.
        headers = headers | SECURITY_HEADERS | headers
        begin = b"HTTP/1.1 %d \r\n%b" % (status, lines(headers))
        return self._responses.make(begin, body, request_id, {})
