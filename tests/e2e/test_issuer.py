"""A server whose issuer changes its keys, is flooded with made-up ones, or hardly answers."""

import asyncio
import time
from collections.abc import Iterator

import pytest

from tests.auth.key_server import PRIVATE, KeyServer, jwk, serve_keys, sign
from tests.rig.raw_client import RawClient, request
from tests.rig.server import ServerProcess
from tests.rig.waiting import until

API = "/api/topics/room:lobby/messages"
CLAIMS = {"exp": 4_000_000_000, "topics": {"history": ["**"]}}


@pytest.fixture
def issuer() -> Iterator[KeyServer]:
    with serve_keys() as running:
        running.publish(jwk("RSA", kid="old"))
        yield running


def environ(issuer: KeyServer) -> dict[str, str]:
    return {
        "CHAT_AUTH__ALGORITHMS": "RS256",
        "CHAT_AUTH__JWKS_URL": issuer.url,
        "CHAT_AUTH__JWKS_MIN_REFRESH_SECONDS": "60",
    }


def bearer(key: str, kid: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {sign('RS256', PRIVATE[key], CLAIMS, kid=kid)}"}


async def test_a_new_key_is_taken_soon_while_made_up_ones_flood(issuer: KeyServer) -> None:
    with ServerProcess(environ=environ(issuer)) as server:
        assert (await request(server.port, "GET", API, headers=bearer("RSA", "old"))).status == 200
        for number in range(20):
            answer = await request(server.port, "GET", API, headers=bearer("RSA2", f"x{number}"))
            assert answer.status in (401, 503)
        issuer.publish(jwk("RSA", kid="old"), jwk("RSA2", kid="new"))
        answer = await request(server.port, "GET", API, headers=bearer("RSA2", "new"))
        assert answer.status == 503
        assert answer.json()["code"] == "unavailable"
        assert 0 < answer.json()["retry_in_ms"] <= 1000
        assert answer.headers["retry-after"] == "1"
        token = sign("RS256", PRIVATE["RSA2"], CLAIMS, kid="new2")
        headers = {"Sec-WebSocket-Protocol": f"chat.v1.json, bearer.{token}"}
        async with await RawClient.open(server.port, headers=headers) as client:
            code, [goodbye] = await client.read_to_close()
            assert (code, goodbye["code"]) == (1013, 1013)
            assert 0 < goodbye["reconnect_in_ms"] <= 1000
        began = time.monotonic()
        while answer.status != 200:
            assert time.monotonic() - began < 90
            await asyncio.sleep(answer.json()["retry_in_ms"] / 1000)
            answer = await request(server.port, "GET", API, headers=bearer("RSA2", "new"))
            assert answer.status in (200, 503)
        assert issuer.requests <= 10


async def test_an_issuer_that_drips_keeps_no_server_from_ending(issuer: KeyServer) -> None:
    issuer.drip_head = True
    issuer.pause_seconds = 0.2
    # A server is not ready before it has had keys.
    with ServerProcess(environ=environ(issuer), ready="/health/live") as server:
        await until(lambda: issuer.requests > 0)
        answer = await request(server.port, "GET", API, headers=bearer("RSA", "old"))
        assert answer.status == 503
        assert issuer.open_connections
        began = time.monotonic()
        assert await asyncio.to_thread(server.stop) == 0
        # A drip of the head would take hours; what is waited for is the drain of nobody.
        assert time.monotonic() - began < 90
