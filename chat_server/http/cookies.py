"""The cookie that keeps a browser signed in, and its protection against CSRF."""

from typing import Final

from quart import Request, Response

from ..protocol.errors import Forbidden
from ..settings import is_same_host

NAME: Final = "chat_refresh"

SECURE_NAME: Final = f"__Host-{NAME}"
"""The prefix limits the cookie to this very host and https (RFC 6265bis, 4.1.3.2)."""


def check_own_page(request: Request) -> None:
    """Check that a request comes from a page of this server (CSRF).

    Browsers send `Origin` with every POST. Without `Origin`, `Sec-Fetch-Site` will do; all browsers
    of today send one of the two. `SameSite` is not enough, because browsers send the cookie for
    other pages of the same site, too.

    Raises:
        Forbidden: the request comes from another page, or names no origin.
    """
    origin = request.headers.get("Origin")
    host = request.headers.get("Host", "")
    if origin is None:
        own = request.headers.get("Sec-Fetch-Site") == "same-origin"
    else:
        own = is_same_host(origin, host)
    if not own:
        raise Forbidden("origin: cookies are for pages of this server; send refresh_token instead")


def read_cookie(request: Request) -> str | None:
    """Return the refresh token in the cookie, or None."""
    return request.cookies.get(SECURE_NAME if _is_secure(request) else NAME)


def set_cookie(request: Request, response: Response, token: str, seconds: int) -> None:
    """Let the browser keep a refresh token, where no script can read it."""
    secure = _is_secure(request)
    response.set_cookie(
        SECURE_NAME if secure else NAME,
        token,
        max_age=seconds,
        path="/",
        secure=secure,
        httponly=True,
        samesite="Lax",
    )


def delete_cookie(request: Request, response: Response) -> None:
    """Let the browser forget the refresh token."""
    set_cookie(request, response, "", 0)


def _is_secure(request: Request) -> bool:
    # Behind a proxy that ends TLS, only the browser knows about https.
    return request.scheme == "https" or request.headers.get("Origin", "").startswith("https://")
