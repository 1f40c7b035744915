"""Prometheus itself scrapes a server as deploy/prometheus says, and answers the dashboard."""

import asyncio
import json
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ..rig.chat_client import chat
from ..rig.ports import free_port
from ..rig.redis_server import RedisServer, running
from ..rig.server import ServerProcess, mint
from ..rig.waiting import until_async
from .test_monitoring import DEPLOY, dashboard_queries

pytestmark = [pytest.mark.extra]

QUIET = {"Hooks, by outcome", "Webhooks, by outcome", "Tokens refused, by reason",
         "Handshakes refused, by reason", "Errors of Redis, by kind",
         "Errors sent to WebSockets, by code", "Closed, by code", "Gaps, by reason",
         "Resumes, by outcome"}  # fmt: skip
"""Panels that have nothing to show while all is well."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    with running(RedisServer(tmp_path)) as redis:
        flags = ("--workers", "2", "--redis-url", redis.url)
        with ServerProcess(*flags, environ={"CHAT_METRICS__ENABLED": "true"}) as running_server:
            yield running_server


@pytest.fixture
def prometheus(server: ServerProcess, tmp_path: Path) -> Iterator[str]:
    """The address of a Prometheus that scrapes the server every second."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("prometheus is not installed")
    configuration = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text("utf-8"))
    configuration["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    configuration["scrape_configs"][0]["static_configs"] = [
        {"targets": [f"127.0.0.1:{server.port}"]}
    ]
    shutil.copy(DEPLOY / "prometheus/alerts.yml", tmp_path)
    file = tmp_path / "prometheus.yml"
    file.write_text(yaml.dump(configuration))
    address = f"127.0.0.1:{free_port()}"
    process = subprocess.Popen(
        [
            *(program, f"--config.file={file}", f"--web.listen-address={address}"),
            f"--storage.tsdb.path={tmp_path / 'data'}",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=tmp_path,
    )
    try:
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(60)


def ask(prometheus: str, expression: str) -> list[dict[str, Any]]:
    """Return the result of a query, or nothing while Prometheus starts."""
    query = urllib.parse.urlencode({"query": expression})
    try:
        with urllib.request.urlopen(f"{prometheus}/api/v1/query?{query}", timeout=60) as response:
            answer = json.load(response)
    except urllib.error.HTTPError as error:
        if error.code != 503:
            raise
        return []
    except OSError:
        return []
    result: list[dict[str, Any]] = answer["data"]["result"]
    return result


async def test_the_dashboard_shows_a_server_that_is_well(
    server: ServerProcess, prometheus: str
) -> None:
    async with await chat(server.ws_url, mint("ada")) as ada:
        await ada.ok(type="subscribe", topic="room:lobby")

        async def answered() -> bool:
            await ada.ok(type="publish", topic="room:lobby", data="hello")
            await ada.next()
            delivered = "rate(chat_deliveries_total[5m]) > 0"
            return bool(await asyncio.to_thread(ask, prometheus, delivered))

        await until_async(answered)
        empty = {
            title
            for title, target in dashboard_queries()
            if not await asyncio.to_thread(ask, prometheus, target["expr"])
        }
        assert empty <= QUIET
        firing = await asyncio.to_thread(ask, prometheus, 'ALERTS{alertstate="firing"}')
        assert firing == []
