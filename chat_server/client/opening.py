"""The opening handshake, and one sentence for each kind of failure."""

import math
import ssl as tls
import time
from email.utils import parsedate_to_datetime
from errno import ECONNREFUSED
from http import HTTPStatus
from http.client import BadStatusLine
from ipaddress import ip_address
from socket import gaierror
from ssl import SSLContext
from urllib.parse import urljoin, urlsplit

import msgspec
from msgspec import Struct
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as websockets_connect
from websockets.exceptions import (
    InvalidHandshake,
    InvalidMessage,
    InvalidProxy,
    InvalidStatus,
    InvalidURI,
    ProxyError,
)
from websockets.http11 import Response
from websockets.proxy import get_proxy, parse_proxy
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from ..protocol.close_codes import CloseCode
from .ending import Ending
from .errors import ConnectFailed

MAX_MESSAGE_BYTES = 64 * 2**20
"""Bytes of the largest accepted message: a page of 300 stored messages of the usual limit has 20
MB.
"""

CLOSE_SECONDS = 2.0

MAX_REASON_CHARACTERS = 300
"""Characters shown of an answer that is not from a chat server."""

_CODES = {401: CloseCode.UNAUTHORIZED, 429: CloseCode.TOO_MANY}


async def open_websocket(
    url: str, token: str, subprotocol: str, ssl: SSLContext | None
) -> ClientConnection:
    """Open a WebSocket to the server at `url`.

    The client follows no redirects, so the token goes to no other address than the given one.

    Args:
        url: a ws:// or wss:// address.
        token: a JWT.
        subprotocol: the encoding to offer.
        ssl: the TLS context for wss://; None trusts the system's certificates.

    Raises:
        ConnectFailed: the handshake failed; the message describes the answer.
    """
    proxy = _proxy(url)
    try:
        return await _Opening(
            url,
            subprotocols=[Subprotocol(subprotocol)],
            additional_headers={"Authorization": f"Bearer {token}"},
            compression=None,
            open_timeout=None,
            close_timeout=CLOSE_SECONDS,
            max_size=MAX_MESSAGE_BYTES,
            ssl=(ssl or True) if urlsplit(url).scheme == "wss" else None,
            proxy=proxy,
        )
    except InvalidStatus as error:
        try:
            refused = _refused(url, error.response)
        except Exception as odd:  # any server may answer, with any content
            status = error.response.status_code
            refused = failed(url, f"HTTP {status}: an answer that cannot be read ({odd})")
        raise refused from error
    except ImportError as error:
        reason = f"{_place(proxy)} needs the package python-socks, which is not installed"
        raise failed(url, reason) from error
    except (OSError, InvalidHandshake, InvalidURI, InvalidProxy, LookupError, ValueError) as error:
        raise failed(url, _found(url, error, proxy)) from error


def failed(
    url: str,
    reason: str,
    code: int | None = None,
    retry_in_ms: int | None = None,
    *,
    announced: bool = False,
) -> ConnectFailed:
    """Return the error of a client that cannot connect to `url`."""
    where = urlsplit(url).netloc.rpartition("@")[2]
    # `reason` may quote the other side, and a line end in a log could begin a forged line.
    plain = "".join(c if c.isprintable() else "\ufffd" for c in reason)
    return ConnectFailed(Ending(f"{where}: {plain}", code, retry_in_ms, announced))


class _Opening(websockets_connect):
    """Opens a WebSocket and follows no redirect."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


# Proxies ----------------------------------------------------------------------------------------


def _proxy(url: str) -> str | None:
    """Return the environment's proxy for `url`.

    Raises:
        ConnectFailed: the environment's proxy is not valid.
    """
    if is_loopback(urlsplit(url).hostname or ""):
        return None  # the environment's proxy does not apply to this machine
    try:
        proxy = get_proxy(parse_uri(url))
        if proxy is not None and parse_proxy(proxy).port == 0:
            raise ValueError("port 0")
    except InvalidProxy as error:
        raise failed(url, f"the environment names a proxy that is none: {error.msg}") from None
    except ValueError as error:  # for example a port that is not a number
        raise failed(url, f"the environment names a proxy that is none: {error}") from None
    return proxy


def _place(proxy: str | None) -> str:
    """Name a proxy without the password in its address."""
    parts = urlsplit(proxy or "")
    return f"the proxy {parts.scheme}://{parts.netloc.rpartition('@')[2]} of the environment"


def is_loopback(host: str) -> bool:
    """Return True if a host is this machine."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


# Answers -----------------------------------------------------------------------------------------


class _Problem(Struct):
    """The fields of a problem document (RFC 9457) that the client needs."""

    detail: str
    retry_in_ms: int | None = None


def _refused(url: str, response: Response) -> ConnectFailed:
    """Return the error for an HTTP response in place of an upgrade."""
    status = response.status_code
    problem = _problem(response)
    retry = problem.retry_in_ms if problem else None
    if retry is None:
        retry = _retry_after(response)
    if problem is not None and status not in (404, 405):
        code = _CODES.get(status)
        reason = problem.detail[:MAX_REASON_CHARACTERS]
        return failed(url, reason, code, retry, announced=status == HTTPStatus.UNAUTHORIZED)
    name = f"HTTP {status} {response.reason_phrase[:MAX_REASON_CHARACTERS]}".strip()
    location = _header(response, "Location")
    if 300 <= status < 400 and location:
        target = _target(url, location)[:MAX_REASON_CHARACTERS]
        reason = f"{name}: it redirects to {target}; give the address of the chat server itself"
    elif status == HTTPStatus.TOO_MANY_REQUESTS:
        return failed(url, name, CloseCode.TOO_MANY, retry)
    elif status >= 500:
        reason = name  # most likely a proxy whose server is down
    else:
        reason = f"{name}: there is no chat server at {urlsplit(url).path}"
    return failed(url, reason, None, retry)


def _header(response: Response, name: str) -> str:
    """Return the first value of a header; proxies may have added further values."""
    return next(iter(response.headers.get_all(name)), "")


def _target(url: str, location: str) -> str:
    """Return the target of a redirect, unchanged if the target is not a valid address."""
    try:
        return urljoin(url, location)
    except ValueError:
        return location


def _problem(response: Response) -> _Problem | None:
    """Return the problem document of a chat server, or None for another body."""
    if not _header(response, "Content-Type").startswith("application/problem+json"):
        return None
    try:
        return msgspec.json.decode(response.body or b"", type=_Problem)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _retry_after(response: Response) -> int | None:
    """Return the milliseconds of a `Retry-After`, RFC 9110 section 10.2.3."""
    value = _header(response, "Retry-After").strip()
    if value.isascii() and value.isdigit():
        return int(value[:9]) * 1000
    try:
        seconds = parsedate_to_datetime(value).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError, OSError):
        return None
    return max(0, math.ceil(seconds * 1000))


def _found(url: str, error: Exception, proxy: str | None) -> str:
    through = f" (through {_place(proxy)})" if proxy else ""
    return f"{sentence(url, error)[:MAX_REASON_CHARACTERS]}{through}"


def sentence(url: str, error: Exception) -> str:
    """Return the cause of a failed request to the server at `url`, in words."""
    match error:
        case tls.SSLError():
            return _tls_sentence(error)
        case gaierror():
            return f"the name {urlsplit(url).hostname} is not known: {error.strerror}"
        case BadStatusLine() if not isinstance(error, OSError):
            return "what answers does not speak HTTP"
        case TimeoutError():
            return "timed out"
        case OSError():
            return _network_sentence(error)
        case InvalidMessage() if isinstance(error.__cause__, EOFError | OSError):
            return "the connection was closed before an answer came"
        case ProxyError():
            return f"the proxy did not let it through: {error}"
        case InvalidHandshake():
            return f"what answers is no chat server: {error}"
    return str(error) or type(error).__name__


def _tls_sentence(error: tls.SSLError) -> str:
    if isinstance(error, tls.SSLCertVerificationError):
        return f"its TLS certificate is not trusted: {error.verify_message}"
    if error.reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"):
        return "what answers does not speak TLS; is it http:// instead of https://?"
    return f"TLS failed: {error.reason or error}"


def _network_sentence(error: OSError) -> str:
    by_all = str(error).startswith(f"Multiple exceptions: [Errno {ECONNREFUSED}]")
    if by_all or isinstance(error, ConnectionRefusedError):  # one address, or all of a name
        return "connection refused"
    if isinstance(error, ConnectionError):
        return "the connection was reset"
    return str(error) or type(error).__name__
