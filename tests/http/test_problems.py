"""Every error is a problem document (RFC 9457), whoever found it."""

import asyncio
import gzip
import json
import logging

import pytest

from tests.rig.raw_client import RawClient, request
from tests.rig.server import mint
from tests.rig.tokens import forge
from tests.server.inprocess import make_settings, serving

from ..rig.clock import ManualClock
from .client import MESSAGES, PROBLEM, client, problem

SECRET_DETAIL = "the password is hunter2"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "not_found"),
        ("POST", "/nothing", 404, "not_found"),
        ("GET", "/api/topics/room:lobby", 404, "not_found"),
        ("GET", "/static/nothing.js", 404, "not_found"),
        ("GET", "/static/docs.js", 404, "not_found"),  # of another page, which can be switched off
        ("GET", "/static/../settings/schema.py", 404, "not_found"),
        ("GET", "/ws", 426, "upgrade_required"),
    ],
)
async def test_what_is_not_there(method: str, path: str, status: int, code: str) -> None:
    async with client() as http:
        await problem(await http.ask(method, path), status, code)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/health", {"GET", "HEAD", "OPTIONS"}),
        ("POST", "/ws", {"GET", "HEAD", "OPTIONS"}),
        ("DELETE", MESSAGES, {"GET", "HEAD", "OPTIONS", "POST"}),
        ("PATCH", "/openapi.json", {"GET", "HEAD", "OPTIONS"}),
        ("BREW", "/health", {"GET", "HEAD", "OPTIONS"}),
    ],
)
async def test_a_wrong_method_is_told_the_right_ones(
    method: str, path: str, allowed: set[str]
) -> None:
    async with client() as http:
        response = await http.ask(method, path, token=mint("ada"))
        body = await problem(response, 405, "method_not_allowed")
        assert body["detail"] == "the address does not take this method; Allow names those it takes"
        assert {name.strip() for name in response.headers["Allow"].split(",")} == allowed


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer nonsense",
        "Basic YTpi",
        f"Bearer {forge(exp=1)}",
        f"Bearer {forge(key='another-secret-that-is-long-enough-for-hs256')}",
        f"Bearer {forge(algorithm='none')}",
        f"Bearer {forge(sub=None)}",
        "Bearer ü",
    ],
    ids=[
        "none",
        "empty",
        "no token",
        "no JWT",
        "another scheme",
        "expired",
        "another key",
        "unsigned",
        "no sub",
        "not ASCII",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_missing_or_bad_token(method: str, authorization: str | None) -> None:
    async with client() as http:
        headers = {} if authorization is None else {"Authorization": authorization}
        response = await http.ask(method, MESSAGES, headers=headers)
        body = await problem(response, 401, "unauthorized")
        assert response.headers["WWW-Authenticate"] == "Bearer"
        token = (authorization or "").partition(" ")[2]
        assert not token or token not in body["detail"]


async def test_a_token_that_does_not_allow_it() -> None:
    async with client() as http:
        news = MESSAGES.replace("room:lobby", "news")
        for method in ("GET", "POST"):
            response = await http.ask(method, news, token=mint("ada"), json={"data": 1})
            body = await problem(response, 403, "forbidden")
            assert body["topic"] == "news"
        reader = mint("ada", publish=[], history=["room:*"])
        await problem(await http.ask("POST", MESSAGES, token=reader), 403, "forbidden")
        assert (await http.ask("GET", MESSAGES, token=reader)).status_code == 200


async def test_too_many_requests_are_told_when_to_come_back() -> None:
    clock = ManualClock(wall=1e9)
    limits = {"limits__messages_per_second": 0.5, "limits__message_burst": 2}
    async with client(clock=clock, auth__require_expiry=False, **limits) as http:
        ada, bob = forge(sub="ada", exp=None), forge(sub="bob", exp=None)

        async def publish(token: str) -> int:
            response = await http.ask("POST", MESSAGES, token=token, json={"data": 1})
            if response.status_code == 429:
                body = await problem(response, 429, "rate_limited")
                assert body["retry_in_ms"] == 2000
                assert response.headers["Retry-After"] == "2"
            return response.status_code

        assert [await publish(ada) for _ in range(3)] == [201, 201, 429]
        assert await publish(bob) == 201
        clock.advance(2)
        assert [await publish(ada) for _ in range(2)] == [201, 429]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b'{"data"}',
        b'{"data":NaN}',
        b'{"data":1e999}',
        b'{"data":18446744073709551616}',
        b'{"data":"\xff"}',
        b'{"data":"\xed\xa0\x80"}',
        b'{"data":1,"key":""}',
        b'{"data":1,"key":7}',
        b'{"data":1,"key":"%s"}' % (b"k" * 65),
        b'{"data":' + b"[" * 101 + b"]" * 101 + b"}",
        b'{"data":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    ],
)
async def test_a_body_that_is_no_publication(body: bytes) -> None:
    async with client() as http:
        response = await http.ask("POST", MESSAGES, token=mint("ada"), data=body)
        await problem(response, 400, "bad_request")


async def test_a_body_that_is_too_large_by_what_it_says_and_by_what_it_is() -> None:
    async with client(limits__max_message_bytes=1000) as http:
        token = mint("ada")
        fits = b'{"data":"%s"}' % (b"x" * (1000 - 11))
        assert len(fits) == 1000
        assert (await http.ask("POST", MESSAGES, token=token, data=fits)).status_code == 201
        response = await http.ask("POST", MESSAGES, token=token, data=fits + b" ")
        await problem(response, 413, "too_large")


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("size", [1001, 500_000])
async def test_a_body_that_is_too_large_on_the_wire(framing: str, size: int) -> None:
    settings = make_settings(limits__max_message_bytes=1000)
    async with serving(settings) as server, await RawClient.connect(server.port) as wire:
        head = f"POST {MESSAGES} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {mint('ada')}\r\n"
        if framing == "length":
            head += f"Content-Length: {size}\r\n\r\n"
            body = b"x" * size
        else:
            head += "Transfer-Encoding: chunked\r\n\r\n"
            body = b"%x\r\n%s\r\n0\r\n\r\n" % (size, b"x" * size)
        # The server may well answer and close before all of it is there.
        await asyncio.gather(wire.send(head.encode(), body), return_exceptions=True)
        answer = await wire.read_answer()
        assert answer.status == 413
        assert answer.headers["content-type"] == PROBLEM
        assert answer.json()["code"] == "too_large"


@pytest.mark.parametrize("coding", ["gzip", "br", "gzip, identity", "nonsense"])
async def test_a_body_that_is_compressed(coding: str) -> None:
    async with client() as http:
        response = await http.ask(
            "POST",
            MESSAGES,
            token=mint("ada"),
            headers={"Content-Encoding": coding},
            data=gzip.compress(b'{"data":1}'),
        )
        detail = await problem(response, 415, "bad_request")
        assert detail["detail"].startswith("Content-Encoding: ")
        assert response.headers["Accept-Encoding"] == "identity"


@pytest.mark.parametrize("coding", ["identity", " Identity ", ""])
async def test_a_body_that_is_said_to_be_as_it_is(coding: str) -> None:
    async with client() as http:
        response = await http.ask(
            "POST",
            MESSAGES,
            token=mint("ada"),
            headers={"Content-Encoding": coding},
            data=b'{"data":1}',
        )
        assert response.status_code == 201


async def test_a_body_that_does_not_come() -> None:
    settings = make_settings(http__request_timeout_seconds=0.2)
    async with serving(settings) as server:
        async with await RawClient.connect(server.port) as wire:
            head = f"POST {MESSAGES} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {mint('ada')}\r\n"
            await wire.send(head.encode(), b'Content-Length: 10\r\n\r\n{"da')
            answer = await wire.read_answer()
            assert (answer.status, answer.json()["code"]) == (408, "bad_request")
        assert (await request(server.port, "GET", "/health")).status == 200


async def test_a_fault_is_logged_and_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    async with client() as http:

        @http.app.get("/fault")
        async def fault() -> str:
            raise RuntimeError(SECRET_DETAIL)

        with caplog.at_level(logging.ERROR):
            response = await http.ask("GET", "/fault")
        body = await problem(response, 500, "internal")
        assert "hunter2" not in json.dumps(body)
        assert "Traceback" not in json.dumps(body)
        [record] = caplog.records
        assert body["request_id"] in record.getMessage()
        assert record.exc_info
        assert SECRET_DETAIL in str(record.exc_info[1])


async def test_a_fault_in_our_own_routes_is_none_of_the_clients_business(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with client() as http:

        def fail(*_: object) -> None:
            raise RuntimeError(SECRET_DETAIL)

        monkeypatch.setattr(http.node.broker, "publish", fail)
        with caplog.at_level(logging.ERROR):
            response = await http.publish("x")
        assert "hunter2" not in json.dumps(await problem(response, 500, "internal"))
        assert len(caplog.records) == 1


async def test_an_unreachable_store() -> None:
    async with client() as http:
        await http.node.broker.stop()
        for response in (await http.publish("x"), await http.history()):
            body = await problem(response, 503, "unavailable")
            assert int(response.headers["Retry-After"]) >= 1
            assert body["retry_in_ms"] > 0


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"Origin": "https://evil.example"}, 403, "forbidden"),
        ({"Sec-WebSocket-Protocol": "chat.v2.json"}, 400, "bad_request"),
        ({"Authorization": "Bearer nonsense"}, 401, "unauthorized"),
        ({"Sec-WebSocket-Key": "short"}, 400, "bad_request"),
    ],
)
async def test_a_refused_handshake_is_a_response_like_any_other(
    headers: dict[str, str], status: int, code: str
) -> None:
    settings = make_settings()
    async with serving(settings) as server:
        upgrade = {
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
            "X-Request-ID": "mine",
        }
        answer = await request(server.port, "GET", "/ws", headers=upgrade | headers)
        assert (answer.status, answer.json()["code"]) == (status, code)
        assert answer.headers["content-type"] == PROBLEM
        assert answer.headers["x-request-id"] == answer.json()["request_id"] == "mine"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert ("www-authenticate" in answer.headers) == (status == 401)
        missing = await request(server.port, "GET", "/ws/none", headers=upgrade)
        assert (missing.status, missing.json()["code"]) == (404, "not_found")
        assert missing.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("host", [".", "a..b", "a" * 64, "ä.example", "[::1", "a b", "a:b:c"])
async def test_a_host_that_is_none_is_no_fault_of_ours(
    host: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(make_settings()) as server:
        upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
        for headers in ({}, {**upgrade, "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}):
            async with await RawClient.connect(server.port) as wire:
                fields = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
                await wire.send(f"GET /ws HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n".encode())
                answer = await wire.read_answer()
                assert answer.status in (101, 400, 426)
                wire.reset()
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
