"""Prometheus itself scrapes a server as deploy/prometheus says, and answers the dashboard."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ..rig.chat_client import chat
from ..rig.prometheus import PROMETHEUS, Prometheus, running_prometheus
from ..rig.redis_server import RedisServer, running
from ..rig.server import ServerProcess, mint
from ..rig.waiting import until_async
from .test_monitoring import RULES, dashboard_queries

pytestmark = [
    pytest.mark.extra,
    pytest.mark.skipif(PROMETHEUS is None, reason="prometheus is not installed"),
]

QUIET = {"Hooks, by outcome", "Webhooks, by outcome", "Tokens refused, by reason",
         "Handshakes refused, by reason", "Errors of Redis, by kind",
         "Errors sent to WebSockets, by code", "Closed, by code", "Gaps, by reason",
         "Resumes, by outcome"}  # fmt: skip
"""Panels that have nothing to show while all is well."""


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with running(RedisServer(tmp_path)) as server:
        yield server


@pytest.fixture
def server(redis: RedisServer) -> Iterator[ServerProcess]:
    flags = ("--workers", "2", "--redis-url", redis.url)
    with ServerProcess(*flags, environ={"CHAT_METRICS__ENABLED": "true"}) as running_server:
        yield running_server


@pytest.fixture
def prometheus(server: ServerProcess, tmp_path: Path) -> Iterator[Prometheus]:
    with running_prometheus(tmp_path, [server.port]) as running_one:
        yield running_one


async def test_the_dashboard_shows_a_server_that_is_well_and_alerts_tell_of_one_that_is_not(
    redis: RedisServer, server: ServerProcess, prometheus: Prometheus
) -> None:
    async with await chat(server.ws_url, mint("ada")) as ada:
        await ada.ok(type="subscribe", topic="room:lobby")

        async def answered() -> bool:
            await ada.ok(type="publish", topic="room:lobby", data="hello")
            await ada.next()
            return bool(await prometheus.query("rate(chat_deliveries_total[5m]) > 0"))

        await until_async(answered)
        [target] = (await prometheus.get("targets"))["activeTargets"]
        assert (target["health"], target["lastError"]) == ("up", "")
        groups = (await prometheus.get("rules"))["groups"]
        loaded = {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}
        assert loaded == {rule["alert"]: "ok" for rule in RULES}
        empty = {
            title
            for title, target in dashboard_queries()
            if not await prometheus.query(target["expr"])
        }
        assert empty <= QUIET
        assert await prometheus.firing() == set()

        redis.run("CONFIG", "SET", "maxmemory", "1")

        async def told() -> bool:
            await ada.call(type="publish", topic="room:lobby", data="hello")
            return "ChatRedisFull" in await prometheus.firing()

        await until_async(told)
