"""What every HTTP request gets: an id, a place in the log, and headers that keep browsers safe."""

import logging
import re
import secrets
import time

from quart import Quart, Response, g, request

logger = logging.getLogger(__name__)

REQUEST_ID_HEADER = "X-Request-ID"

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)

SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; connect-src 'self' ws: wss:; object-src 'none'; base-uri 'none'; "
        "form-action 'self'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def register(app: Quart) -> None:
    """Add ids, headers and log lines to every request of `app`."""
    app.before_request(_begin)
    app.after_request(_end)


async def _begin() -> None:
    given = request.headers.get(REQUEST_ID_HEADER, "")
    g.request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
    g.started_at = time.monotonic()


async def _end(response: Response) -> Response:
    for name, value in SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
    # The path without its query, which may hold a token.
    if "request_id" in g:
        response.headers[REQUEST_ID_HEADER] = g.request_id
        logger.debug(
            "%s %s answered %d in %.1f ms",
            request.method,
            request.path,
            response.status_code,
            (time.monotonic() - g.started_at) * 1000,
            extra={"request_id": g.request_id},
        )
    return response
