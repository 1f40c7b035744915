"""Judges the proxies between clients and the server: Host, Upgrade, tokens, timeouts."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from http.client import HTTPException
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.typing import Origin, Subprotocol

from ...client.api import opener_for, reason_of
from ...client.credentials import in_thread
from ...client.url import api_url
from .findings import Finding, found
from .health import judge_health

LONG_TOKEN = "x" * 8_000
"""As long as the longest token. A proxy that answers 400 or 431 refuses headers of that length."""

LIVE = "/health/live"
"""A route that reads no header, and so neither refuses nor logs our test headers."""

SLOW_SECONDS = 1.0
"""Seconds after which an answer was probably buffered by a proxy."""

HINTS = {
    403: "Host is not passed on, or http.allowed_origins lacks this page: see docs/proxies.md",
    404: "there is no /ws here: does a proxy change the path?",
    426: "Upgrade is not passed on: see docs/proxies.md",
    400: "Upgrade or Connection is not passed on whole: see docs/proxies.md",
    502: "the proxy does not reach the server, or speaks HTTP/1.0 or 2 to it",
    503: "the server accepts no more connections, or the proxy knows no server that is ready",
    504: "the proxy waits in vain for the server",
}


async def judge(
    url: str, seconds: float, token: str | None = None, idle: float = 0.0
) -> AsyncGenerator[Finding, None]:
    """Yield findings about the path to a server.

    Args:
        url: the address of the server's WebSocket, as clients use the address.
        seconds: timeout of each answer, in seconds.
        token: the token to connect with; without a token only the handshake is tried.
        idle: seconds for which an idle connection should stay open.
    """
    live, reached = await _judge_live(url, seconds)
    yield live
    if not reached:
        return
    async for finding in judge_health(url, seconds):
        yield finding
    parts = urlsplit(url)
    page = f"{'https' if parts.scheme == 'wss' else 'http'}://{parts.netloc.rpartition('@')[2]}"
    async for finding in _judge_websocket(url, Origin(page), seconds, token, idle):
        yield finding
    yield await _judge_long_token(url, seconds)


async def _judge_live(url: str, seconds: float) -> tuple[Finding, bool]:
    address = api_url(url, LIVE)
    began = time.perf_counter()
    try:
        await _ask(address, seconds, {})
    except HTTPError as error:
        hint = HINTS.get(error.code, "is this the server's address?")
        return Finding("http", "error", f"{address} answers {error.code}: {hint}"), False
    except (OSError, HTTPException, ValueError) as error:
        why = f"{address} cannot be asked: {reason_of(url, error)}"
        return Finding("http", "error", why), False
    took = (time.perf_counter() - began) * 1000
    return Finding("http", "ok", f"{address} answers within {took:.0f} ms"), True


async def _ask(address: str, seconds: float, headers: dict[str, str]) -> None:
    request = Request(address, headers=headers)  # noqa: S310 - http or https, as `api_url` has it

    def ask() -> None:
        try:
            opener_for(address).open(request, timeout=seconds).close()
        except HTTPError as error:
            error.close()
            raise

    async with asyncio.timeout(seconds):
        await in_thread(ask, "doctor request")


async def _judge_websocket(
    url: str, page: Origin, seconds: float, token: str | None, idle: float
) -> AsyncIterator[Finding]:
    protocols = [Subprotocol("chat.v1.json")]
    if token is not None:
        protocols.append(Subprotocol(f"bearer.{token}"))
    try:
        async with connect(
            url, origin=page, subprotocols=protocols, open_timeout=seconds, proxy=None
        ) as socket:
            yield Finding("websocket", "ok", "Host and Upgrade are passed on")
            began = time.perf_counter()
            await socket.send('{"type":"ping","id":1}')
            async with asyncio.timeout(seconds):
                await socket.recv()
            took = time.perf_counter() - began
            yield found(
                "buffering",
                took < SLOW_SECONDS,
                f"the first message comes within {took * 1000:.0f} ms",
                "does a proxy keep answers back? see docs/proxies.md",
            )
            if idle and token is not None:
                yield await _stay(socket, idle)
    except InvalidStatus as error:
        status = error.response.status_code
        hint = HINTS.get(status, "see docs/proxies.md")
        yield Finding("websocket", "error", f"the handshake is answered by {status}: {hint}")
    except ConnectionClosed as error:
        yield Finding("websocket", "error", f"is closed at once: {_how(error)}")
    except (OSError, WebSocketException) as error:
        reason = str(error) or type(error).__name__
        yield Finding("websocket", "error", f"cannot be opened: {reason}")


async def _stay(socket: object, idle: float) -> Finding:
    began = time.perf_counter()
    try:
        async with asyncio.timeout(idle):
            while True:
                await socket.recv()  # type: ignore[attr-defined]
    except TimeoutError:
        return Finding("idle", "ok", f"a connection with nothing to do stays for {idle:g} s")
    except ConnectionClosed as error:
        stayed = time.perf_counter() - began
        text = f"is closed after {stayed:.0f} s: {_how(error)}"
        todo = "a proxy must wait longer than the heartbeat takes: see docs/proxies.md"
        return Finding("idle", "error", f"{text}; {todo}")


async def _judge_long_token(url: str, seconds: float) -> Finding:
    size = len(LONG_TOKEN)
    try:
        await _ask(api_url(url, LIVE), seconds, {"Authorization": f"Bearer {LONG_TOKEN}"})
    except HTTPError as error:
        text = f"a header of {size} bytes is answered by {error.code}"
        todo = "let the proxy take header lines of 16 KiB: see docs/proxies.md"
        return Finding("long tokens", "warning", f"{text}: {todo}")
    except (OSError, HTTPException, ValueError) as error:
        return Finding("long tokens", "warning", f"cannot be tried: {reason_of(url, error)}")
    return Finding("long tokens", "ok", f"a header of {size} bytes is passed on")


def _how(error: ConnectionClosed) -> str:
    if error.rcvd is None:
        return "the connection broke (1006)"
    return f"{error.rcvd.code} {error.rcvd.reason}".strip()
