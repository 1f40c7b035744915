"""HTTP/1.1 and nothing else: answers that arrive, connections that are kept, input that is odd."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chat_server.app import create_app
from tests.rig import waiting
from tests.rig.certificates import make_certificate
from tests.rig.raw_client import RawClient, request
from tests.rig.rfc6455 import upgrade
from tests.rig.server import ServerProcess, mint

from .inprocess import Served, make_settings, serving

MESSAGES = "/api/topics/room:lobby/messages"
GET = b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture
async def server() -> AsyncIterator[Served]:
    async with serving(make_settings(limits__max_message_bytes=1_000)) as served:
        yield served


def post(size: int, *, token: str = "", path: str = MESSAGES, more: str = "") -> bytes:
    """Return the head of a publication."""
    authorization = f"Authorization: Bearer {token}\r\n" if token else ""
    fields = f"Host: a\r\n{authorization}{more}Content-Length: {size}\r\n\r\n"
    return f"POST {path} HTTP/1.1\r\n{fields}".encode()


# Answers before the body ------------------------------------------------------------------------


REFUSED = {
    "no token": (post(10), 401),
    "a bad token": (post(10, token="nonsense"), 401),
    "a forbidden topic": (post(10, token=mint("ada"), path="/api/topics/news/messages"), 403),
    "no such page": (post(10, path="/nothing"), 404),
    "a wrong method": (post(10, path="/health"), 405),
    "too large by what it says": (post(500_000, token=mint("ada")), 413),
}


@pytest.mark.parametrize("case", list(REFUSED))
async def test_who_is_answered_before_the_body_came_is_told_that_the_connection_ends(
    server: Served, case: str
) -> None:
    head, status = REFUSED[case]
    async with await RawClient.connect(server.port) as client:
        await client.send(head)
        answer = await client.read_answer()
        assert (answer.status, answer.headers.get("connection")) == (status, "close")
        # Neither the rest of the body nor another request is met by a reset.
        await client.send(b"x" * 10, GET)
        assert await client.read_to_end() == b""


@pytest.mark.parametrize("case", list(REFUSED)[:-1])
async def test_a_connection_is_kept_when_the_body_came_with_the_head(
    server: Served, case: str
) -> None:
    head, status = REFUSED[case]
    size = int(head.rpartition(b"Content-Length: ")[2])
    async with await RawClient.connect(server.port) as client:
        await client.send(head, b"x" * size)
        answer = await client.read_answer()
        assert (answer.status, answer.headers.get("connection")) == (status, None)
        await client.send(GET)
        assert (await client.read_answer()).status == 200


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_who_sends_far_too_much_sees_the_answer(server: Served, framing: str) -> None:
    """All of it is taken, however much the client sends before it looks."""
    size = 3_000_000
    head, body = post(size, token=mint("ada")), b"x" * size
    if framing == "chunked":
        head = head.replace(f"Content-Length: {size}".encode(), b"Transfer-Encoding: chunked")
        body = b"%x\r\n%s\r\n0\r\n\r\n" % (size, body)
    async with await RawClient.connect(server.port) as client:
        await client.send(head)
        await client.send(body)
        answer = await client.read_answer()
        assert (answer.status, answer.json()["code"]) == (413, "too_large")
        assert answer.headers["connection"] == "close"
        assert await client.read_to_end() == b""


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("behind", [b"\r\n", b"\n", GET], ids=["line", "feed", "request"])
async def test_what_comes_behind_the_last_request_spoils_no_answer(
    server: Served, behind: bytes, version: str
) -> None:
    """A message that was stored and answered with an error would be sent again."""
    head = post(10, token=mint("ada"), more="Connection: close\r\n")
    async with await RawClient.connect(server.port) as client:
        await client.send(head.replace(b"HTTP/1.1", f"HTTP/{version}".encode()))
        await client.send(b'{"data":1}' + behind)
        answer = await client.read_answer()
        assert (answer.status, answer.headers["connection"]) == (201, "close")
        assert await client.read_to_end() == b""


async def test_empty_lines_around_requests_are_passed_over(server: Served) -> None:
    publish = post(10, token=mint("ada")) + b'{"data":1}'
    async with await RawClient.connect(server.port) as client:
        await client.send(b"\r\n" + publish + b"\r\n" + GET + b"\r\n\n")
        assert (await client.read_answer()).status == 201
        assert (await client.read_answer()).status == 200
        await client.send(b"\r\n")
        await client.send(GET)
        assert (await client.read_answer()).status == 200


@pytest.mark.parametrize("case", ["both", "1.0"])
async def test_a_body_whose_end_is_doubtful_is_refused(server: Served, case: str) -> None:
    head = post(5, token=mint("ada"), more="Transfer-Encoding: chunked\r\n")
    if case == "1.0":
        head = head.replace(b"HTTP/1.1", b"HTTP/1.0").replace(b"Content-Length: 5\r\n", b"")
    async with await RawClient.connect(server.port) as client:
        await client.send(head, b"0\r\n\r\n")
        answer = await client.read_answer()
        assert (answer.status, answer.headers["connection"]) == (400, "close")
        assert "Transfer-Encoding" in answer.json()["detail"]


async def test_who_is_rate_limited_before_the_body_came_is_told_that_the_connection_ends() -> None:
    flags = {"limits__messages_per_second": 0.001, "limits__message_burst": 1}
    async with serving(make_settings(**flags)) as server:
        headers = {"Authorization": f"Bearer {mint('ada')}"}
        first = await request(server.port, "POST", MESSAGES, headers=headers, body=b'{"data":1}')
        assert first.status == 201
        async with await RawClient.connect(server.port) as client:
            await client.send(post(10, token=mint("ada")))
            answer = await client.read_answer()
            assert (answer.status, answer.headers["connection"]) == (429, "close")


async def test_a_refused_handshake_says_that_the_connection_ends(server: Served) -> None:
    async with await RawClient.connect(server.port) as client:
        await client.send(upgrade(token="nonsense"))
        answer = await client.read_answer()
        assert (answer.status, answer.headers.get("connection")) == (401, "close")
        assert await client.read_to_end() == b""


async def test_who_goes_on_sending_for_ever_is_cut() -> None:
    """Neither silence nor a body without end holds the connection."""
    settings = make_settings(http__head_timeout_seconds=1, limits__max_message_bytes=1_000)
    async with serving(settings) as server:
        async with await RawClient.connect(server.port) as silent:
            await silent.send(post(10))
            assert (await silent.read_answer()).status == 401
            await waiting.until(lambda: len(asyncio.all_tasks()) <= 4)
        async with await RawClient.connect(server.port) as endless:
            await endless.send(post(10**12))
            with pytest.raises(ConnectionError):
                await endless.send(b"x" * 2**27)


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    certificate = make_certificate(tmp_path_factory.mktemp("tls"))
    environ = {"CHAT_LIMITS__MAX_MESSAGE_BYTES": "1000"}
    with ServerProcess(environ=environ, certificate=certificate) as running:
        yield running


async def test_below_tls_the_answer_arrives_too(secure: ServerProcess) -> None:
    async with asyncio.timeout(waiting.SECONDS):
        reader, writer = await asyncio.open_connection("localhost", secure.port, ssl=secure.tls)
        writer.write(post(3_000_000, token=mint("ada")) + b"x" * 3_000_000)
        await writer.drain()
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b"connection: close" in answer.lower()
        writer.close()
        await writer.wait_closed()


# HTTP/2 -----------------------------------------------------------------------------------------


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0" * 2


async def test_http_2_is_refused_in_http_1(server: Served) -> None:
    async with await RawClient.connect(server.port) as client:
        await client.send(PREFACE)
        answer = await client.read_answer()
        assert (answer.status, answer.headers["connection"]) == (505, "close")
        assert answer.json()["detail"] == "only HTTP/1.1 is spoken here"
        assert await client.read_to_end() == b""


async def test_a_head_that_is_too_large_is_told_so(server: Served) -> None:
    async with await RawClient.connect(server.port) as client:
        await client.send(b"GET /metrics?" + b"x" * 200_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n")
        answer = await client.read_answer()
    assert (answer.status, answer.headers["connection"]) == (431, "close")
    assert re.fullmatch(
        "the request's line and its headers may have [0-9]+ bytes together", answer.json()["detail"]
    )


@pytest.mark.parametrize(
    "head",
    [b"HEAD / HTTP/2.0\r\nHost: a\r\n\r\n", b"HEAD a HTTP/1.1\r\nHost: a\r\n\r\n"],
)
async def test_what_cannot_be_read_of_a_head_request_is_refused_without_a_body(
    server: Served, head: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with await RawClient.connect(server.port) as client:
        await client.send(head)
        fields, end, rest = (await client.read_to_end()).partition(b"\r\n\r\n")
        assert fields.startswith((b"HTTP/1.1 505 ", b"HTTP/1.1 400 "))
        assert b"content-length: " in fields
        assert (end, rest) == (b"\r\n\r\n", b"")
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_http_2_is_refused_below_tls(secure: ServerProcess) -> None:
    async with asyncio.timeout(waiting.SECONDS):
        reader, writer = await asyncio.open_connection("localhost", secure.port, ssl=secure.tls)
        writer.write(PREFACE)
        assert (await reader.readline()).startswith(b"HTTP/1.1 505 ")
        await reader.read()
        writer.close()
        await writer.wait_closed()


async def test_an_upgrade_to_http_2_is_ignored(server: Served) -> None:
    async with await RawClient.connect(server.port) as client:
        settings = "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMA\r\n"
        for _ in range(2):
            await client.send(GET.replace(b"\r\n\r\n", f"\r\n{settings}\r\n".encode()))
            answer = await client.read_answer()
            assert (answer.status, answer.json()) == (200, {"status": "ok"})


# Connections that are kept ----------------------------------------------------------------------


async def test_a_connection_is_kept_longer_than_a_head_may_take() -> None:
    settings = make_settings(http__head_timeout_seconds=1.5, http__keep_alive_seconds=60)
    async with serving(settings) as server, await RawClient.connect(server.port) as client:
        await client.send(GET)
        assert (await client.read_answer()).status == 200
        await asyncio.sleep(2.0)
        await client.send(GET)
        assert (await client.read_answer()).status == 200
        # A request that has begun to come has no longer than any other.
        await client.send(GET[:20])
        assert await client.read_to_end() == b""


async def test_a_connection_nobody_uses_is_closed() -> None:
    settings = make_settings(http__head_timeout_seconds=60, http__keep_alive_seconds=1.5)
    async with serving(settings) as server, await RawClient.connect(server.port) as client:
        await client.send(GET)
        assert (await client.read_answer()).status == 200
        assert await client.read_to_end() == b""


async def test_requests_that_come_together_are_answered_one_by_one(server: Served) -> None:
    async with await RawClient.connect(server.port) as client:
        await client.send(GET * 20)
        for _ in range(20):
            assert (await client.read_answer()).json() == {"status": "ok"}


# What strangers send ----------------------------------------------------------------------------


ODD = bytes(range(0x80, 0x100)).decode("latin-1") + "\x01\x7f\t,;=\"'\\ %ü"

READ_HERE = [
    "Authorization",
    "Connection",
    "Content-Length",
    "Cookie",
    "Expect",
    "Host",
    "Origin",
    "Sec-WebSocket-Extensions",
    "Sec-WebSocket-Key",
    "Sec-WebSocket-Protocol",
    "Sec-WebSocket-Version",
    "Transfer-Encoding",
    "Upgrade",
    "X-Forwarded-For",
    "X-Request-ID",
]


ALLOWED = {0, 101, 200, 308, *range(400, 432), 501}
"""0 is a connection that ends without an answer: an end in the middle of a head is none."""


def head(target: bytes, fields: list[tuple[str, bytes]]) -> bytes:
    """Return the head of a handshake with some fields replaced."""
    usual = {
        "Host": b"a",
        "Connection": b"Upgrade",
        "Upgrade": b"websocket",
        "Sec-WebSocket-Version": b"13",
        "Sec-WebSocket-Key": b"dGhlIHNhbXBsZSBub25jZQ==",
    }
    usual |= dict(fields)
    lines = [b"GET %s HTTP/1.1" % target]
    lines += [name.encode() + b": " + value for name, value in usual.items()]
    return b"\r\n".join(lines) + b"\r\n\r\n"


async def ask(port: int, data: bytes) -> int:
    """Send bytes and an end, and return the status of the first answer, 0 if there is none."""
    async with await RawClient.connect(port) as client:
        try:
            await client.send(data)
            answer = await client.read_answer(head_only=True)
        except (AssertionError, ConnectionError):
            return 0
        return answer.status


@pytest.mark.parametrize("transport", ["direct", "asgi"])
@pytest.mark.parametrize(
    "name", ["Connection", "Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions"]
)
async def test_bytes_that_are_not_ascii_where_they_are_read(
    name: str, transport: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(make_settings(gateway__transport=transport)) as server:
        with caplog.at_level(logging.DEBUG):
            data = head(b"/ws", [(name, b"Upgrade, bearer.\xe9")])
            assert await ask(server.port, data) == 400
    lines = [record for record in caplog.records if "must be ASCII" in record.getMessage()]
    assert [record.levelname for record in lines] == ["DEBUG"]
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_nothing_a_stranger_sends_is_a_fault_of_ours(
    caplog: pytest.LogCaptureFixture,
) -> None:
    values = st.binary(max_size=12) | st.text(ODD, max_size=12).map(lambda s: s.encode("latin-1"))
    fields = st.lists(st.tuples(st.sampled_from(READ_HERE), values), max_size=3)
    paths = st.sampled_from(
        [b"/ws", b"/", b"//", b"/health", MESSAGES.encode(), b"", b"*", b"/ws/"]
    )
    targets = st.tuples(paths, st.sampled_from([b"", b"%", b"?", b"?token="]), values).map(b"".join)
    apps = {
        transport: await asyncio.to_thread(create_app, make_settings(gateway__transport=transport))
        for transport in ("direct", "asgi")
    }

    async with (
        serving(make_settings(), app=apps["direct"]) as direct,
        serving(make_settings(), app=apps["asgi"]) as asgi,
    ):
        loop = asyncio.get_running_loop()

        @settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
        @given(target=targets, fields=fields, plain=st.booleans())
        def strange(target: bytes, fields: list[tuple[str, bytes]], plain: bool) -> None:
            data = head(target, [*fields, *([("Upgrade", b"")] if plain else [])])
            for server in (direct, asgi):
                asked = asyncio.run_coroutine_threadsafe(ask(server.port, data), loop)
                assert asked.result(waiting.SECONDS) in ALLOWED, data
            bad = [record for record in caplog.records if record.levelno >= logging.ERROR]
            assert not bad, (data, bad[0].getMessage(), bad[0].exc_info)

        await asyncio.to_thread(strange)
