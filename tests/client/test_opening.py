"""What a handshake that fails says: one sentence about what was found instead of a chat server."""

import asyncio
import math
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from email.utils import formatdate
from http import HTTPStatus
from pathlib import Path

import pytest

from chat_server.client import ConnectFailed, TokenRejected, connect
from chat_server.client.url import websocket_url
from chat_server.protocol.close_codes import CloseCode
from tests.client.conftest import Connect
from tests.client.test_reconnect import Delays
from tests.rig.certificates import make_certificate
from tests.rig.fake_server import FakeServer
from tests.rig.waiting import until


async def failure(url: str, **options: object) -> str:
    """Return why a client cannot connect."""
    with pytest.raises(ConnectFailed) as caught:
        async with connect(url, **{"token": "t0ken", **options}):  # type: ignore[arg-type]
            pass
    return str(caught.value)


@asynccontextmanager
async def answering(answer: bytes, *, read: bool = True) -> AsyncIterator[str]:
    """Listen, and give everybody the same answer."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if read:
            await reader.read(4096)
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def response(status: str, *headers: str, body: str = "<html>hello</html>") -> bytes:
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "", body]
    return "\r\n".join(lines).encode()


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (
            response("301 Moved Permanently", "Location: https://chat.example.org/ws"),
            "HTTP 301 Moved Permanently: it redirects to https://chat.example.org/ws; give the"
            " address of the chat server itself",
        ),
        (
            response("302 Found", "Location: /login"),
            "HTTP 302 Found: it redirects to ws://{place}/login; give the address of the chat"
            " server itself",
        ),
        (
            response("302 Found", "Location: http://[portal/login"),
            "HTTP 302 Found: it redirects to http://[portal/login; give the address of the chat"
            " server itself",
        ),
        (response("503 Busy", "Retry-After: 1", "Retry-After: 1"), "HTTP 503 Busy"),
        (
            response("502 Bad", "Content-Type: text/html", "Content-Type: text/html"),
            "HTTP 502 Bad",
        ),
        (response("200 OK"), "HTTP 200 OK: there is no chat server at /ws"),
        (response("404 Not Found"), "HTTP 404 Not Found: there is no chat server at /ws"),
        (
            response(
                "404 Not Found",
                "Content-Type: application/problem+json",
                body='{"detail": "please check your spelling and try again"}',
            ),
            "HTTP 404 Not Found: there is no chat server at /ws",
        ),
        (response("502 Bad Gateway"), "HTTP 502 Bad Gateway"),
        (response("401 Unauthorized"), "HTTP 401 Unauthorized: there is no chat server at /ws"),
        (
            b"220 smtp.example.org\r\n",
            "what answers is no chat server: did not receive a valid HTTP response",
        ),
        (b"", "the connection was closed before an answer came"),
        (
            response(
                "503 Busy",
                "Content-Type: application/problem+json",
                body='{"detail": "one\\nERROR another"}',
            ),
            "one\ufffdERROR another",
        ),
    ],
)
async def test_what_was_found(answer: bytes, sentence: str) -> None:
    async with answering(answer) as url:
        place = url.removeprefix("http://")
        told = await failure(url)
    assert told == f"cannot connect: {place}: {sentence.replace('{place}', place)}"


async def test_a_redirect_does_not_take_the_token_along(server: FakeServer) -> None:
    answer = response("307 Temporary Redirect", f"Location: {server.url}/ws")
    async with answering(answer) as url:
        assert f"it redirects to {server.url}/ws" in await failure(url)
    assert server.tokens == []


async def test_no_tls_where_it_is_expected() -> None:
    async with answering(response("400 Bad Request")) as url:
        told = await failure(url.replace("http", "https"))
    assert told.endswith("what answers does not speak TLS; is it http:// instead of https://?")


async def test_a_certificate_that_nobody_knows(tmp_path: Path) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(make_certificate(tmp_path))
    server = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0, ssl=context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        told = await failure(f"https://127.0.0.1:{port}")
    assert "its TLS certificate is not trusted: self" in told


async def test_a_name_that_nobody_knows() -> None:
    told = await failure("http://nowhere.invalid:8000")
    assert "nowhere.invalid:8000: the name nowhere.invalid is not known" in told


async def test_all_addresses_of_a_name_refuse(server: FakeServer) -> None:
    port = server.port
    await server.stop()
    assert await failure(f"http://localhost:{port}") == (
        f"cannot connect: localhost:{port}: connection refused"
    )


@pytest.mark.parametrize("url", ["http://h:99999", "http://h:no", "http://[::1", "http://h:0", "x"])
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(ValueError, match="not an http://, https://, ws:// or wss:// address"):
        websocket_url(url)


def test_a_password_in_an_address_is_not_shown() -> None:
    with pytest.raises(ValueError, match="address: h:no") as caught:
        websocket_url("http://bob:secret@h:no")
    assert "secret" not in str(caught.value)


# Proxies of the environment --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("proxy", "words"),
    [
        ("socks5://127.0.0.1:1", "needs the package python-socks, which is not installed"),
        ("socks5h://bob:secret@proxy:1", "proxy socks5h://proxy:1 of the environment needs the"),
        ("http://127.0.0.1:99999", "the environment names a proxy that is none: Port out of range"),
        ("http://127.0.0.1:port", "the environment names a proxy that is none: Port could not"),
        ("http://127.0.0.1:0", "connection refused"),
        ("ftp://127.0.0.1:1", "a proxy that is none: scheme ftp isn't supported"),
        ("127.0.0.1:1", "a proxy that is none: "),
        ("http://", "a proxy that is none: hostname isn't provided"),
        ("http://[::1", "a proxy that is none: "),
        ("http://bob@h:1", "a proxy that is none: username provided without password"),
        ("http://bob:%ff@h:1", "a proxy that is none: "),
        ("http://h:1/path?query", "a proxy that is none: "),
        ("http://\udcff:1", "a proxy that is none: "),
        ("http://" + "a" * 70 + ":1", ""),
        ("http://127.0.0.1:1", "connection refused (through the proxy http://127.0.0.1:1 of the"),
        ("https://127.0.0.1:1", "connection refused (through the proxy https://127.0.0.1:1 of"),
    ],
)
@pytest.mark.parametrize("variable", ["https_proxy", "HTTPS_PROXY", "wss_proxy"])
async def test_proxies_that_do_not_work(
    monkeypatch: pytest.MonkeyPatch, proxy: str, words: str, variable: str
) -> None:
    monkeypatch.setenv(variable, proxy)
    told = await failure("https://chat.example.org")
    assert told.startswith("cannot connect: chat.example.org: ")
    assert words in told
    assert "secret" not in told
    assert "\n" not in told


async def test_a_proxy_that_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    async with answering(response("407 Proxy Authentication Required")) as url:
        monkeypatch.setenv("http_proxy", url)
        told = await failure("http://chat.example.org")
    assert "chat.example.org: the proxy did not let it through: " in told
    assert "407" in told


def test_on_the_command_line_it_is_one_line() -> None:
    command = [sys.executable, "-m", "chat_server", "publish", "room:a", "x"]
    done = subprocess.run(
        [*command, "--url", "https://chat.example.org", "--token", "t"],
        env={"https_proxy": "socks5://127.0.0.1:1", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 1
    assert done.stderr == (
        "chat-server: cannot connect: chat.example.org: the proxy socks5://127.0.0.1:1 of the"
        " environment needs the package python-socks, which is not installed\n"
    )


# When to come back -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "headers", "least", "most"),
    [
        (503, {"Retry-After": "7"}, 7000, 7000),
        (429, {"Retry-After": " 2 "}, 2000, 2000),
        (503, {"Retry-After": "in a while"}, None, None),
        (503, {"Retry-After": "-1"}, None, None),
        (503, {"Retry-After": "9" * 500}, 999_999_999_000, 999_999_999_000),
        (503, {}, None, None),
        (503, {"Retry-After": lambda: formatdate(time.time() + 60, usegmt=True)}, 30_000, 60_000),
        (503, {"Retry-After": "Sun, 06 Nov 1994 08:49:37 GMT"}, 0, 0),
    ],
)
async def test_retry_after_is_heard(
    server: FakeServer,
    client: Connect,
    status: int,
    headers: dict[str, str | Callable[[], str]],
    least: int | None,
    most: int | None,
) -> None:
    delays = Delays()
    async with client(backoff=delays) as chat:
        server.status = HTTPStatus(status)
        server.headers = {n: v if isinstance(v, str) else v() for n, v in headers.items()}
        server.drop()
        await until(lambda: len(delays.endings) >= 2)
        server.status = None
        await chat.wait_online()
    ending = delays.endings[1]
    assert ending.code == (CloseCode.TOO_MANY if status == 429 else None)
    if least is None or most is None:
        assert ending.retry_in_ms is None
    else:
        assert least <= (ending.retry_in_ms or 0) <= most


async def test_the_servers_own_words_and_time(server: FakeServer, client: Connect) -> None:
    delays = Delays()
    async with client(backoff=delays) as chat:
        server.status = HTTPStatus.SERVICE_UNAVAILABLE
        server.headers = {"Content-Type": "application/problem+json", "Retry-After": "1"}
        server.body = '{"detail": "the keys cannot be fetched", "retry_in_ms": 250}'
        server.drop()
        await until(lambda: len(delays.endings) >= 2)
        server.status = None
        await chat.wait_online()
    assert delays.endings[1].reason.endswith(": the keys cannot be fetched")
    assert delays.endings[1].retry_in_ms == 250


async def test_a_proxys_401_does_not_end_a_client(server: FakeServer, client: Connect) -> None:
    async with client() as chat:
        server.status = HTTPStatus.UNAUTHORIZED
        server.drop()
        await until(lambda: len(server.tokens) >= 5)
        server.status = None
        await chat.wait_online()


# Waiting for a server that is not there yet ----------------------------------------------------


@pytest.mark.parametrize("seconds", [60.0, math.inf])
async def test_a_bot_that_is_started_before_its_server(
    server: FakeServer, client: Connect, seconds: float
) -> None:
    reasons: list[str] = []
    await server.stop()
    chat = client(start_wait=seconds, on_state=lambda state, reason: reasons.append(reason))
    task = asyncio.create_task(chat.__aenter__())
    await until(lambda: len(reasons) >= 3)
    await server.start()
    await task
    assert await chat.ping() > 0
    await chat.close()
    assert "connection refused; next attempt in" in reasons[0]


async def test_the_wait_ends(server: FakeServer, client: Connect) -> None:
    await server.stop()
    began = time.monotonic()
    with pytest.raises(ConnectFailed, match="connection refused"):
        async with client(start_wait=0.5):
            pass
    assert 0.3 <= time.monotonic() - began <= 60


async def test_a_token_that_is_refused_is_not_waited_for(
    server: FakeServer, client: Connect
) -> None:
    server.accept = lambda token: False
    with pytest.raises(TokenRejected):
        async with client(start_wait=60):
            pass
    assert len(server.tokens) == 1


# Forgotten `async with` ------------------------------------------------------------------------


@pytest.mark.parametrize("wait", [True, False])
async def test_a_client_that_was_not_entered_says_so(client: Connect, *, wait: bool) -> None:
    chat = client()
    with pytest.raises(RuntimeError, match="enter it first, as in `async with connect"):
        await chat.publish("room:a", 1, key="k", wait=wait)
    with pytest.raises(RuntimeError, match="enter it first"):
        await chat.wait_online()
    with pytest.raises(RuntimeError, match="enter it first"):
        async with chat.subscribe("room:a"):
            pass


async def test_a_subscription_that_was_not_entered_says_so(client: Connect) -> None:
    async with client() as chat:
        with pytest.raises(
            RuntimeError, match=r"enter it first, as in `async with chat\.subscribe"
        ):
            async for _ in chat.subscribe("room:a"):
                pass
