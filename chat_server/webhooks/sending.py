"""Sends one request to an endpoint, and returns the outcome.

Only the status of the answer counts. `_skim` reads just enough of a body to reuse the connection.
httpcore is the HTTP layer of httpx. The client above would add features that a webhook must not
have: redirects, cookies, proxies and passwords of the environment.
"""

import asyncio
import ssl
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import unquote, urlsplit

import httpcore
from msgspec import Struct

from ..settings import Webhook
from ..version import __version__
from .connecting import CheckedBackend, ForbiddenAddress, LookUp, look_up

MAX_ANSWER_BYTES: Final = 65_536
"""Bytes of an answer's body that are read. A longer body closes the connection."""

KEEP_ALIVE_SECONDS: Final = 30.0
"""Seconds for which an idle connection is kept."""

HEADERS: Final = {
    "content-type": "application/json",
    "user-agent": f"chat_server/{__version__}",
    "accept": "*/*",
}


_FAILURES: Final = (OSError, httpcore.NetworkError, httpcore.ProtocolError, httpcore.ProxyError)


class SendingError(Exception):
    """No answer came; the text has the reason, without the address."""


class Answer(Struct, frozen=True):
    """The answer of an endpoint.

    Args:
        status: the status code.
        retry_after: seconds of `Retry-After`, without an upper bound; None without the header.
    """

    status: int
    retry_after: float | None = None

    @property
    def is_success(self) -> bool:
        """True if the endpoint has accepted the request."""
        return 200 <= self.status < 300


class Sender:
    """The connections to one endpoint.

    Args:
        settings: the endpoint's settings.
        tls: the TLS context with the trusted certificate authorities.
        look_up: replaces the system's resolver.
    """

    def __init__(
        self, settings: Webhook, tls: ssl.SSLContext, *, look_up: LookUp = look_up
    ) -> None:
        self._seconds = settings.timeout_seconds
        self._url = httpcore.URL(settings.url)
        # httpcore would leave out the brackets of an IPv6 address.
        self._headers = [("host", urlsplit(settings.url).netloc), *HEADERS.items()]
        self._pool = _make_pool(settings, tls, look_up)

    async def send(self, body: bytes, headers: Mapping[str, str], *, now: float) -> Answer:
        """POST a body.

        Args:
            body: JSON text.
            headers: the headers of the signature.
            now: seconds since 1970, for a date in `Retry-After`.

        Raises:
            SendingError: no answer came in time.
        """
        answer: Answer | None = None
        try:
            async with (
                asyncio.timeout(self._seconds),
                self._pool.stream(
                    "POST", self._url, headers=[*self._headers, *headers.items()], content=body
                ) as response,
            ):
                answer = Answer(response.status, _retry_after(response, now))
                await _skim(response)
        except TimeoutError:
            reason = f"no answer in {self._seconds:g} s"
        except httpcore.TimeoutException:
            reason = "no connection in time"
        except ForbiddenAddress as error:
            reason = str(error)
        except _FAILURES as error:
            reason = str(error) or type(error).__name__
        if answer is None:
            raise SendingError(reason)
        return answer

    async def close(self) -> None:
        """Close the connections."""
        await self._pool.aclose()


async def _skim(response: httpcore.Response) -> None:
    """Read a short body to its end; the connection is closed on a longer one."""
    size = 0
    async for chunk in response.aiter_stream():
        size += len(chunk)
        if size > MAX_ANSWER_BYTES:
            return


def _retry_after(response: httpcore.Response, now: float) -> float | None:
    for name, value in response.headers:
        if name.lower() == b"retry-after":
            return parse_retry_after(value.decode("latin-1"), now)
    return None


def parse_retry_after(text: str, now: float) -> float | None:
    """Return the seconds of a `Retry-After` header; None for an invalid value (RFC 9110)."""
    if text.isascii() and text.isdigit():
        return float(text[:10])
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    try:
        return max(0.0, (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now)
    except (ValueError, OverflowError):
        return None


def _make_pool(
    settings: Webhook, tls: ssl.SSLContext, look_up: LookUp
) -> httpcore.AsyncConnectionPool:
    # The operator chose the proxy's host. The proxy itself decides which targets are allowed.
    private = settings.allow_private or bool(settings.proxy_url)
    seconds = settings.timeout_seconds
    backend = CheckedBackend(seconds, allow_private=private, look_up=look_up)
    if not settings.proxy_url:
        return httpcore.AsyncConnectionPool(
            ssl_context=tls,
            max_connections=settings.max_requests,
            keepalive_expiry=KEEP_ALIVE_SECONDS,
            network_backend=backend,
        )
    parts = urlsplit(settings.proxy_url)
    user = (unquote(parts.username), unquote(parts.password or "")) if parts.username else None
    return httpcore.AsyncHTTPProxy(
        proxy_url=httpcore.URL(
            scheme=parts.scheme, host=parts.hostname or "", port=parts.port, target="/"
        ),
        proxy_auth=user,
        ssl_context=tls,
        max_connections=settings.max_requests,
        keepalive_expiry=KEEP_ALIVE_SECONDS,
        network_backend=backend,
    )
