"""What the log says of refused tokens and of floods: where they come from, and never the token."""

import logging
import sys
import time
from typing import Any

import jwt
import pytest

from chat_server.app import create_app
from chat_server.auth.denials import Denial
from chat_server.logs import SHOWN, TextFormatter
from tests.rig.chat_client import chat
from tests.rig.raw_client import RawClient, request
from tests.rig.rfc6455 import upgrade
from tests.rig.server import mint
from tests.server.inprocess import make_settings, serving

EVIL = "https://issuer.example/\u001b[2J\u202e" + "x" * 200


def lines(caplog: pytest.LogCaptureFixture, begin: str) -> list[dict[str, Any]]:
    records = [each for each in caplog.records if each.getMessage().startswith(begin)]
    for record in records:
        text = TextFormatter().format(record)
        assert text.isprintable(), "nothing of a client's acts on a terminal"
    return [vars(record) for record in records]


@pytest.mark.parametrize("way", ["handshake", "query", "request", "admin", "batch"])
async def test_a_refused_token_is_told_with_issuer_key_and_address(
    caplog: pytest.LogCaptureFixture, way: str
) -> None:
    caplog.set_level(logging.INFO, "chat_server")
    claims = {"sub": "ada", "exp": time.time() + 60, "iss": EVIL}
    token = jwt.encode(claims, "another" * 8, headers={"kid": "2025"})
    async with serving(make_settings()) as server:
        for _ in range(3):
            if way in ("handshake", "query"):
                asked: dict[str, Any] = {"headers": {"Authorization": f"Bearer {token}"}}
                if way == "query":
                    asked = {"path": f"/ws?token={token}"}
                async with await RawClient.connect(server.port) as client:
                    await client.send(upgrade(**asked))
                    await client.read_answer()
            else:
                path = {"admin": "/api/admin/nodes", "batch": "/api/messages"}.get(way)
                await request(
                    server.port,
                    "POST" if way != "admin" else "GET",
                    path or "/api/topics/room:a/messages",
                    headers={"Authorization": f"Bearer {token}"},
                    body=b"" if way == "admin" else b'{"data":1}',
                )
    refused = "a WebSocket handshake was refused with 401: token: its signature does not match"
    plain = "a token from 127.0.0.1 is not accepted: token: its signature does not match"
    [line] = lines(caplog, refused if way == "handshake" else plain)
    assert (line["address"], line["kid"]) == ("127.0.0.1", "2025")
    assert line["issuer"] == EVIL[:SHOWN] + "…"
    assert not any(part in str(vars(each)) for each in caplog.records for part in token.split("."))


async def test_a_flood_is_told_with_address_and_topic(caplog: pytest.LogCaptureFixture) -> None:
    limits = {"limits__messages_per_second": 0.01, "limits__message_burst": 1}
    async with serving(make_settings(**limits)) as server:
        async with await chat(server.ws_url, mint("eve")) as eve:
            for _ in range(3):
                await eve.call(type="publish", topic="room:flood", data="x")
        [line] = lines(caplog, "a user is refused by limits.messages_per_second")
        told = (line["user"], line["address"], line["topic"])
        assert told == ("eve", "127.0.0.1", "room:flood")


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_flood_of_requests_is_told_with_address_and_topic(
    caplog: pytest.LogCaptureFixture, method: str
) -> None:
    limits = {"limits__messages_per_second": 0.01, "limits__message_burst": 1}
    async with serving(make_settings(**limits, server__trusted_proxy_hops=1)) as server:
        for _ in range(3):
            answer = await request(
                server.port,
                method,
                "/api/topics/room:flood/messages",
                headers={
                    "Authorization": f"Bearer {mint('eve')}",
                    "X-Forwarded-For": "198.51.100.7",
                },
                body=b'{"data":1}' if method == "POST" else b"",
            )
        assert answer.status == 429
    [line] = lines(caplog, "a user is refused by limits.messages_per_second")
    told = (line["user"], line["address"], line["topic"])
    assert told == ("eve", "198.51.100.7", "room:flood")


async def test_a_page_that_may_ask_nothing_is_told_of_with_its_host(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As behind a proxy that forgets `Host`, of which the page's user sees nothing."""
    settings = make_settings(http__page=True)
    async with serving(settings, app=create_app(settings)) as served:
        headers = {"Origin": "http://chat.example"}
        for _ in range(2):
            answer = await request(served.port, "POST", "/dev/token", headers=headers)
            assert answer.status == 403
    [line] = lines(caplog, "a page's request was refused with 403: origin: is not allowed here")
    assert "the proxy must pass on Host: see docs/proxies.md" in line["message"]
    assert (line["origin"], line["host"]) == ("http://chat.example", "127.0.0.1")


async def test_a_blocked_user_is_named(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with serving(make_settings()) as served:
        headers = {"Authorization": f"Bearer {mint('eve')}"}
        served.node.denials.put("users", "eve", Denial(sys.maxsize, 0, "op", "spam"))
        answer = await request(served.port, "GET", "/api/topics/a/messages", headers=headers)
        assert answer.status == 403
    [line] = lines(caplog, "a token from 127.0.0.1 is not accepted: user: is blocked: spam")
    assert line["user"] == "eve"
