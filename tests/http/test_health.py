"""`/health`, `/health/live` and `/health/ready`."""

import asyncio
import os
import time
from typing import Any

import pytest
from quart import Response

from chat_server import ChatServer, __version__
from tests.auth.key_server import jwk, serve_keys
from tests.broker.helpers import draft
from tests.rig.chat_client import chat
from tests.rig.fakes import FakeBroker
from tests.rig.raw_client import request
from tests.rig.server import mint
from tests.rig.waiting import SECONDS
from tests.server.inprocess import make_settings, serving

from .client import client


async def _json(response: Response) -> dict[str, Any]:
    body: dict[str, Any] = await response.get_json()
    return body


async def test_tells_how_the_worker_is_doing() -> None:
    async with serving(make_settings()) as server, await chat(server.ws_url, mint("ada")) as ada:
        await ada.ok(type="subscribe", topic="room:a")
        await ada.ok(type="subscribe", topic="room:b")
        answer = await request(server.port, "GET", "/health")
        body = answer.json()
        assert answer.status == 200
        assert set(body) == {
            *("status", "version", "uptime_seconds", "node", "connections", "topics", "checks"),
            *("warnings", "workers"),
        }
        assert (body["status"], body["version"]) == ("ok", __version__)
        assert (body["connections"], body["topics"]) == (1, 2)
        assert body["node"] == ada.welcome["server"]
        assert body["uptime_seconds"] >= 0
        checks = {"broker": {"status": "ok", "latency_ms": 0.0, "deaf_seconds": 0.0}}
        assert (body["checks"], body["warnings"]) == (checks, [])
        [worker] = body["workers"]
        assert (worker["worker"], worker["pid"], worker["status"]) == (1, os.getpid(), "ok")
        assert (worker["node"], worker["checks"]) == (body["node"], checks)


async def test_a_worker_without_the_issuers_keys_is_not_ready_until_it_had_them_once() -> None:
    with serve_keys() as issuer:
        issuer.status = 500
        async with client(
            auth__algorithms=["RS256"],
            auth__secret="",
            auth__jwks_url=issuer.url,
            auth__jwks_min_refresh_seconds=0.05,
        ) as http:

            async def ready() -> tuple[int, str]:
                answer = await http.ask("GET", "/health/ready")
                return answer.status_code, (await _json(answer))["status"]

            assert await ready() == (503, "no_keys")
            health = await http.ask("GET", "/health")
            shown = await _json(health)
            assert (health.status_code, shown["status"]) == (503, "no_keys")
            assert shown["warnings"] == [
                "worker 1: no keys of auth.jwks_url have come yet, and no token is accepted"
            ]
            assert (await http.ask("GET", "/health/live")).status_code == 200
            issuer.publish(jwk("RSA"))
            async with asyncio.timeout(SECONDS):
                while await ready() != (200, "ok"):  # noqa: ASYNC110 - as a balancer asks
                    await asyncio.sleep(0.02)
            # Keys that are known outlive an issuer that is not there.
            issuer.status = 500
            assert await ready() == (200, "ok")


@pytest.mark.parametrize("path", ["/health", "/health/live", "/health/ready"])
async def test_needs_no_token_and_answers_head(path: str) -> None:
    async with client() as http:
        for method in ("GET", "HEAD"):
            assert (await http.ask(method, path)).status_code == 200


async def test_an_unreachable_store_is_told_but_the_process_is_alive() -> None:
    async with client() as http:
        await http.node.broker.stop()
        health = await http.ask("GET", "/health")
        assert health.status_code == 503
        body = await _json(health)
        assert body["status"] == "unavailable"
        check = {"status": "unavailable", "latency_ms": None, "deaf_seconds": 0.0}
        assert body["checks"] == {"broker": check}
        ready = await http.ask("GET", "/health/ready")
        assert (ready.status_code, await _json(ready)) == (503, {"status": "unavailable"})
        live = await http.ask("GET", "/health/live")
        assert (live.status_code, await _json(live)) == (200, {"status": "ok"})


@pytest.mark.parametrize("word", ["full", "readonly", "misconfigured"])
async def test_a_store_that_takes_nothing_is_there_but_not_ready(word: str) -> None:
    broker = FakeBroker()
    async with serving(make_settings(), broker=broker) as server:
        broker.refusal = word
        ready = await request(server.port, "GET", "/health/ready")
        assert (ready.status, ready.json()) == (503, {"status": word})
        health = await request(server.port, "GET", "/health")
        assert (health.status, health.json()["status"]) == (503, word)
        check = health.json()["checks"]["broker"]
        assert (check["status"], check["latency_ms"]) == (word, 0.0), "it answers"


async def test_what_an_operator_should_look_at_is_told_in_words() -> None:
    broker = FakeBroker()
    async with serving(make_settings(), broker=broker) as server:
        broker.refusal, broker.reason = "full", "Redis is full; raise maxmemory"
        broker.clock_ahead = -2.5
        chat: ChatServer = server.app.extensions["chat_server"]
        chat.vitals.certificate_ends_at = time.time() + 13 * 86_400
        body = (await request(server.port, "GET", "/health")).json()
        assert body["checks"]["broker"]["reason"] == "Redis is full; raise maxmemory"
        assert body["checks"]["clock"] == {"status": "apart", "ahead_ms": -2500.0}
        ends_at = body["checks"]["certificate"]["ends_at"]
        assert body["checks"]["certificate"]["status"] == "ends_soon"
        assert body["warnings"] == [
            "worker 1: the store is full: Redis is full; raise maxmemory",
            "worker 1: the clock is 2.5 s behind the store's",
            f"worker 1: the certificate ends on {ends_at}",
        ]
        broker.refusal, broker.reason, broker.clock_ahead = "", "", 0.9
        chat.vitals.certificate_ends_at += 2 * 86_400
        answer = await request(server.port, "GET", "/health")
        assert (answer.status, answer.json()["warnings"]) == (200, [])


@pytest.mark.parametrize(
    ("worker", "status"), [("1", 200), ("2", 404), ("0", 404), ("", 400), ("-1", 400), ("x", 400)]
)
async def test_one_worker_can_be_asked_for(worker: str, status: int) -> None:
    async with client() as http:
        assert (await http.ask("GET", f"/health?worker={worker}")).status_code == status


async def test_a_deaf_worker_is_not_ready_and_says_for_how_long() -> None:
    broker = FakeBroker()
    async with serving(make_settings(), broker=broker) as server:
        broker.refusal, broker.deaf_seconds, broker.available = "deaf", 1.25, False
        ready = await request(server.port, "GET", "/health/ready")
        assert (ready.status, ready.json()) == (503, {"status": "deaf"})
        health = await request(server.port, "GET", "/health")
        check = {"status": "deaf", "latency_ms": None, "deaf_seconds": 1.25}
        assert (health.status, health.json()["status"]) == (503, "deaf")
        assert health.json()["checks"] == {"broker": check}
        warning = "worker 1: what is published does not come back from the store"
        assert health.json()["warnings"] == [warning]
        assert (await request(server.port, "GET", "/health/live")).status == 200


async def test_a_spool_tells_how_much_waits() -> None:
    spooling = make_settings(
        redis__url="redis://127.0.0.1", namespaces={"room": {"spool_messages": 9}}
    )
    broker = FakeBroker()
    async with serving(spooling, broker=broker) as server:
        outbox = server.node.outbox
        assert outbox is not None
        broker.available = False
        waiting = outbox.publish(draft(topic="room:a"))
        health = await request(server.port, "GET", "/health")
        assert health.json()["checks"]["broker"]["spooled"] == outbox.spooled == 1
        broker.available = True
        await waiting
        health = await request(server.port, "GET", "/health")
        assert health.json()["checks"]["broker"]["spooled"] == 0


async def test_a_draining_worker_is_not_ready() -> None:
    async with client() as http:
        await http.node.drain.run()
        for path in ("/health", "/health/ready"):
            response = await http.ask("GET", path)
            assert response.status_code == 503
            assert (await _json(response))["status"] == "draining"
        assert (await http.ask("GET", "/health/live")).status_code == 200
