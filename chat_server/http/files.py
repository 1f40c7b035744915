"""The files of web/, read when the application is made: serving them never waits for a disk."""

import hashlib
from pathlib import Path

from msgspec import Struct
from quart import Response, request

WEB = Path(__file__).parent.parent / "web"

CONTENT_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
}
"""By suffix: a system's own table may be wrong, and browsers are told not to guess."""


class File(Struct, frozen=True):
    """A file as it is sent."""

    body: bytes
    content_type: str
    etag: str


def read_file(name: str) -> File:
    """Read a file of web/."""
    return make_file((WEB / name).read_bytes(), CONTENT_TYPES[Path(name).suffix])


def make_file(body: bytes, content_type: str) -> File:
    """Return what `send_file` sends."""
    return File(body, content_type, hashlib.sha256(body).hexdigest()[:16])


async def send_file(file: File) -> Response:
    """Answer the current request with `file`, or with 304 if the browser has it."""
    response = Response(file.body, content_type=file.content_type)
    # A new server must not meet an old script, so the browser always asks.
    response.headers["Cache-Control"] = "no-cache"
    response.set_etag(file.etag)
    await response.make_conditional(request)
    return response
