"""Asks by HTTP where a topic stands: no command of the WebSocket tells it."""

from http.client import HTTPException, HTTPMessage
from ssl import SSLContext
from typing import IO
from urllib.error import HTTPError
from urllib.parse import quote, urlsplit
from urllib.request import (
    HTTPRedirectHandler,
    HTTPSHandler,
    ProxyHandler,
    Request,
    build_opener,
)

import msgspec
from msgspec import Struct

from ..events import Position, Seq
from .credentials import in_thread
from .errors import BadServer, CommandFailed, NotConnected
from .opening import is_loopback
from .url import api_url

MAX_ANSWER_BYTES = 65_536


class _Answer(Struct):
    epoch: str
    seq: Seq


class _Problem(Struct):
    """The fields of a problem document that matter here, RFC 9457."""

    code: str
    detail: str
    retry_in_ms: int | None = None


class _NoRedirects(HTTPRedirectHandler):
    """Follows no redirect: a token is sent to no other address than the one given."""

    def redirect_request(
        self,
        req: Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> None:
        """Let the redirect be the answer."""


async def read_position(
    url: str, token: str, topic: str, *, ssl: SSLContext | None, timeout: float
) -> Position:
    """Return the position of `topic` on the server of the WebSocket `url`.

    Args:
        url: the server's ws:// or wss:// address.
        token: a JWT.
        topic: the topic.
        ssl: for wss://, if the system's certificates are not the right ones.
        timeout: seconds that each step of the exchange may take.

    Raises:
        CommandFailed: the server refused.
        NotConnected: the server cannot be reached.
        BadServer: what answers has no such API.
    """
    path = f"/api/topics/{quote(topic, safe=':@')}/position"
    headers = {"Authorization": f"Bearer {token}"}
    request = Request(api_url(url, path), headers=headers)  # noqa: S310 - it is http(s)
    proxies = ProxyHandler({} if is_loopback(urlsplit(url).hostname or "") else None)
    opener = build_opener(proxies, HTTPSHandler(context=ssl), _NoRedirects)

    def exchange() -> tuple[int, bytes]:
        try:
            with opener.open(request, timeout=timeout) as response:
                return response.status, response.read(MAX_ANSWER_BYTES)
        except HTTPError as error:
            with error:
                return error.code, error.read(MAX_ANSWER_BYTES)

    try:
        status, body = await in_thread(exchange, "chat client position")
    except (OSError, HTTPException, ValueError) as error:
        raise NotConnected(f"the server cannot be asked by HTTP: {error}") from error
    try:
        if status == 200:
            answer = msgspec.json.decode(body, type=_Answer)
            return Position(answer.epoch, answer.seq)
        problem = msgspec.json.decode(body, type=_Problem)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadServer(f"HTTP {status}: there is no chat server's API at {path}") from None
    raise CommandFailed(problem.code, problem.detail, problem.retry_in_ms)
