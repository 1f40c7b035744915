"""Sends HTTP requests to the server's `/api`, next to the client's `/ws`."""

from collections.abc import Callable
from http.client import HTTPException, HTTPMessage, IncompleteRead
from ssl import SSLContext
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import (
    BaseHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    build_opener,
)

import msgspec
from msgspec import Struct

from .credentials import in_thread
from .errors import BadServer, ClientError, CommandFailed, NotConnected
from .opening import is_loopback, sentence
from .url import api_url


class _Problem(Struct):
    """The fields of a problem document (RFC 9457) that the client needs."""

    code: str
    detail: str
    retry_in_ms: int | None = None


class _NoRedirects(HTTPRedirectHandler):
    """Follows no redirect, so the token goes to no other address than the given one."""

    def redirect_request(
        self,
        req: Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> None:
        """Return the redirect itself as the answer."""


class Api:
    """The HTTP API of a server, by the address of its WebSocket.

    Args:
        url: the server's ws:// or wss:// address.
        ssl: the TLS context for wss://; None trusts the system's certificates.
    """

    def __init__(self, url: str, ssl: SSLContext | None) -> None:
        self._url = url
        self._ssl = ssl

    async def ask(
        self, path: str, token: str, *, timeout: float, most: int, body: bytes | None = None
    ) -> bytes:
        """Return the body of the answer 200 to a GET, or to a POST of `body`.

        Args:
            path: begins with `/api/`.
            token: a JWT.
            timeout: seconds that each step of the exchange may take.
            most: bytes of the answer to read at most.
            body: JSON.

        Raises:
            CommandFailed: the server refused.
            NotConnected: the exchange failed. The server may have got the request.
            BadServer: the address does not have this API.
        """
        headers = {"Authorization": f"Bearer {token}"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        address = api_url(self._url, path)
        request = Request(address, body, headers)  # noqa: S310 - it is http(s)
        opener = opener_for(address, HTTPSHandler(context=self._ssl), _NoRedirects)

        def exchange() -> tuple[int, bytes]:
            try:
                with opener.open(request, timeout=timeout) as response:
                    answer = response.read(most)
                    if response.length and len(answer) < most:
                        raise IncompleteRead(answer, response.length)
                    return response.status, answer
            except HTTPError as error:
                with error:
                    return error.code, error.read(most)

        answer: bytes
        try:
            status, answer = await in_thread(exchange, "chat client request")
        except (OSError, HTTPException, ValueError) as error:
            reason = reason_of(self._url, error)
            # Of a URL the user and password are nobody's business.
            place = urlsplit(self._url).netloc.rpartition("@")[2]
            raise NotConnected(
                f"the server at {place} cannot be asked by HTTP: {reason}"
            ) from error
        if status == 200:
            return answer
        raise _refusal(answer) or no_api(path, status)


def opener_for(url: str, *handlers: BaseHandler | Callable[[], BaseHandler]) -> OpenerDirector:
    """Return an opener for `url`, with the environment's proxy except for a loopback address."""
    proxies = ProxyHandler({} if is_loopback(urlsplit(url).hostname or "") else None)
    return build_opener(proxies, *handlers)


def reason_of(url: str, error: Exception) -> str:
    """Return the cause of a failed exchange with the server at `url`, in words."""
    inner = error.reason if isinstance(error, URLError) else error
    return sentence(url, inner if isinstance(inner, Exception) else error)


def no_api(path: str, status: int = 200) -> BadServer:
    """Return the error for an answer that does not come from a chat server."""
    return BadServer(f"HTTP {status}: there is no chat server's API at {path}")


def _refusal(answer: bytes) -> ClientError | None:
    try:
        problem = msgspec.json.decode(answer, type=_Problem)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return CommandFailed(problem.code, problem.detail, problem.retry_in_ms)
