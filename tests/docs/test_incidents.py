"""The incidents of docs/incidents.md are staged, and show what the page says that one sees."""

import asyncio
import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from ..rig.chat_client import JSON, chat, open_websocket
from ..rig.proxy import RedisProxy
from ..rig.raw_client import RawClient, request
from ..rig.redis_server import RedisServer, running
from ..rig.rfc6455 import upgrade
from ..rig.server import ServerProcess, mint
from ..rig.tokens import forge
from ..rig.waiting import SECONDS, until_async
from .markdown import ROOT, blocks, section
from .proxies import PROXIES, running_proxy
from .walk import matches

PAGE = (ROOT / "docs/incidents.md").read_text("utf-8")
ALERTS = {
    rule["alert"]
    for group in yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())["groups"]
    for rule in group["rules"]
}
PANELS = {
    panel["title"]
    for panel in json.loads(
        (ROOT / "deploy/grafana/dashboards/chat-server.json").read_text("utf-8")
    )["panels"]
}
ENVIRON = {
    "CHAT_METRICS__ENABLED": "true",
    "CHAT_LOG__FORMAT": "json",
    "CHAT_LOG__LEVEL": "INFO",
    "CHAT_REDIS__CANARY_SECONDS": "0.5",
    "CHAT_REDIS__TIMEOUT_SECONDS": "1",
    "CHAT_SERVER__TRUSTED_PROXY_HOPS": "1",
}
OLD_KEY = "an-old-key-of-the-issuer-that-was-replaced"


class Signs(NamedTuple):
    """What the page shows of an incident: lines of /metrics, /health, and a line of the log."""

    metrics: str
    health: str
    log: str


def signs(incident: str) -> Signs:
    """Return the first three blocks of an incident's section."""
    found = [block.text for block in blocks(section(PAGE, incident)) if block.kind == "text"]
    return Signs(*found[:3])


async def seen(incident: str, server: ServerProcess) -> None:
    """Wait until a server shows all that the page says."""
    expected = signs(incident)

    async def shown() -> bool:
        metrics = (await request(server.port, "GET", "/metrics")).body.decode().splitlines()
        health = (await request(server.port, "GET", "/health")).body.decode()
        return (
            all(_has(line, metrics) for line in expected.metrics.splitlines())
            and matches(expected.health, health)
            and _has(expected.log, server.stderr.splitlines())
        )

    try:
        await until_async(shown)
    except TimeoutError:
        metrics = (await request(server.port, "GET", "/metrics")).body.decode()
        health = (await request(server.port, "GET", "/health")).body.decode()
        raise AssertionError(f"{expected}\n{metrics}\n{health}\n{server.stderr}") from None


async def diagnosed(incident: str, *arguments: str, **environ: str) -> None:
    """Check that `chat-server doctor` says what the page's fourth block has."""
    documented = [b.text for b in blocks(section(PAGE, incident)) if b.kind == "text"][3]
    inherited = {name: v for name, v in os.environ.items() if not name.startswith("CHAT_")}
    doctor = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "chat_server", "doctor", *arguments),
        env={**inherited, "CHAT_ENVIRONMENT": "testing", **environ},
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await asyncio.wait_for(doctor.communicate(), SECONDS)
    lines = output.decode().splitlines()
    assert all(_has(line, lines) for line in documented.splitlines()), lines
    assert doctor.returncode == 1


def _has(documented: str, lines: list[str]) -> bool:
    return any(matches(documented, line) for line in lines)


@contextmanager
def started(*flags: str, **environ: str) -> Iterator[ServerProcess]:
    with ServerProcess(*flags, environ={**ENVIRON, **environ}) as server:
        yield server


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with running(RedisServer(tmp_path)) as server:
        yield server


async def test_redis_is_full(redis: RedisServer) -> None:
    with started("--redis-url", redis.url) as server:
        async with await chat(server.ws_url, mint("ada")) as ada:
            await ada.ok(type="publish", topic="room:lobby", data="there is room")
            redis.run("CONFIG", "SET", "maxmemory", "1")
            refused = await ada.call(type="publish", topic="room:lobby", data="there is none")
            assert refused["code"] == "unavailable"
            await seen("Redis is full", server)
            await diagnosed("Redis is full", CHAT_REDIS__URL=redis.url)
            redis.run("CONFIG", "SET", "maxmemory", "0")

            async def ready() -> bool:
                return (await request(server.port, "GET", "/health/ready")).status == 200

            await until_async(ready)
            await ada.ok(type="publish", topic="room:lobby", data="there is room again")


async def test_a_proxy_forgets_host(tmp_path: Path) -> None:
    nginx = PROXIES["nginx"]
    if nginx.path is None:
        pytest.skip("nginx is not installed")
    line = "        proxy_set_header Host $http_host;\n"
    nginx = replace(nginx, changes=((line, ""),))
    with started() as server, running_proxy(nginx, tmp_path, (server.port, server.port)) as port:
        async with await RawClient.connect(port) as browser:
            headers = {"Host": f"127.0.0.1:{port}", "Origin": f"http://127.0.0.1:{port}"}
            await browser.send(upgrade(token=mint("ada"), headers=headers))
            assert (await browser.read_answer()).status == 403
        await seen("A proxy forgets Host", server)
        await diagnosed("A proxy forgets Host", "--url", f"http://127.0.0.1:{port}")


async def test_one_user_floods() -> None:
    with started() as server:
        async with await chat(server.ws_url, mint("eve")) as eve:
            refused = 0
            while refused < 50:
                answer = await eve.call(type="publish", topic="room:lobby", data="buy!")
                refused += answer.get("code") == "rate_limited"
        await seen("One user floods", server)


async def test_a_worker_is_deaf(redis: RedisServer) -> None:
    async with RedisProxy(redis.port) as proxy:
        with ExitStack() as stack:
            start = asyncio.to_thread
            deaf = await start(stack.enter_context, started("--redis-url", proxy.url))
            other = await start(stack.enter_context, started("--redis-url", redis.url))
            async with await chat(deaf.ws_url, mint("bob")) as bob:
                await bob.ok(type="subscribe", topic="room:lobby")
                proxy.muted = True
                async with await chat(other.ws_url, mint("ada")) as ada:
                    await ada.ok(type="publish", topic="room:lobby", data="are you there?")
                await seen("A worker is deaf", deaf)
                assert (await request(other.port, "GET", "/health/ready")).status == 200
                proxy.muted = False
                assert (await bob.next())["data"] == "are you there?"


async def test_tokens_are_signed_with_an_old_key() -> None:
    with started() as server:
        # As browsers show it: behind the handshake, whose status they could not read.
        protocols = [JSON, f"bearer.{forge(key=OLD_KEY)}"]
        async with await open_websocket(server.ws_url, protocols) as browser:
            await browser.wait_closed()
            assert browser.close_code == 4401
        await seen("Tokens are signed with an old key", server)


@pytest.mark.parametrize(
    "incident",
    [
        "Redis is full",
        "A proxy forgets Host",
        "One user floods",
        "A worker is deaf",
        "Tokens are signed with an old key",
    ],
)
def test_the_page_names_alerts_and_panels_that_exist(incident: str) -> None:
    text = section(PAGE, incident)
    alerts = set(re.findall(r"`(Chat\w+)`", text))
    assert alerts
    assert alerts <= ALERTS
    panels = set(re.findall(r'panel "([^"]+)"', text.replace("\n", " ")))
    assert panels
    assert panels <= PANELS
