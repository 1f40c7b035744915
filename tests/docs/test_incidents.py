"""The incidents of docs/incidents.md are staged, and show what the page says that one sees."""

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from ..deploy.test_monitoring import dashboard_queries
from ..rig.chat_client import JSON, chat, open_websocket
from ..rig.prometheus import PROMETHEUS, Prometheus, running_prometheus
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


class Scene(NamedTuple):
    """What an incident needs, before it happens.

    Args:
        server: shows it.
        cause: brings it about, and makes it felt; may be called again.
        doctor: arguments and variables with which `doctor` names it, if it can.
    """

    server: ServerProcess
    cause: Callable[[], Awaitable[None]]
    doctor: tuple[tuple[str, ...], dict[str, str]] | None = None


@asynccontextmanager
async def _redis_is_full(folder: Path) -> AsyncIterator[Scene]:
    with running(RedisServer(folder)) as redis, started("--redis-url", redis.url) as server:
        async with await chat(server.ws_url, mint("ada")) as ada:
            await ada.ok(type="publish", topic="room:lobby", data="there is room")

            async def cause() -> None:
                redis.run("CONFIG", "SET", "maxmemory", "1")
                refused = await ada.call(type="publish", topic="room:lobby", data="there is none")
                assert refused["code"] == "unavailable"

            yield Scene(server, cause, ((), {"CHAT_REDIS__URL": redis.url}))
            redis.run("CONFIG", "SET", "maxmemory", "0")

            await _until_ready(server)
            await ada.ok(type="publish", topic="room:lobby", data="there is room again")


async def _until_ready(server: ServerProcess) -> None:
    async def ready() -> bool:
        return (await request(server.port, "GET", "/health/ready")).status == 200

    await until_async(ready)


@asynccontextmanager
async def _a_proxy_forgets_host(folder: Path) -> AsyncIterator[Scene]:
    nginx = PROXIES["nginx"]
    if nginx.path is None:
        pytest.skip("nginx is not installed")
    line = "        proxy_set_header Host $http_host;\n"
    nginx = replace(nginx, changes=((line, ""),))
    with started() as server, running_proxy(nginx, folder, (server.port, server.port)) as port:

        async def cause() -> None:
            async with await RawClient.connect(port) as browser:
                headers = {"Host": f"127.0.0.1:{port}", "Origin": f"http://127.0.0.1:{port}"}
                await browser.send(upgrade(token=mint("ada"), headers=headers))
                assert (await browser.read_answer()).status == 403

        yield Scene(server, cause, (("--url", f"http://127.0.0.1:{port}"), {}))


@asynccontextmanager
async def _one_user_floods(_: Path) -> AsyncIterator[Scene]:
    # On a slow machine somebody who waits for each answer keeps within a higher rate.
    with started(CHAT_LIMITS__MESSAGES_PER_SECOND="1") as server:
        async with await chat(server.ws_url, mint("eve")) as eve:

            async def cause() -> None:
                refused = 0
                while refused < 50:
                    answer = await eve.call(type="publish", topic="room:lobby", data="buy!")
                    refused += answer.get("code") == "rate_limited"

            yield Scene(server, cause)


@asynccontextmanager
async def _a_worker_is_deaf(folder: Path) -> AsyncIterator[Scene]:
    with ExitStack() as stack:
        redis = stack.enter_context(running(RedisServer(folder)))
        async with RedisProxy(redis.port) as proxy:
            start = asyncio.to_thread
            deaf = await start(stack.enter_context, started("--redis-url", proxy.url))
            other = await start(stack.enter_context, started("--redis-url", redis.url))
            async with await chat(deaf.ws_url, mint("bob")) as bob:
                await bob.ok(type="subscribe", topic="room:lobby")

                async def cause() -> None:
                    proxy.muted = True
                    async with await chat(other.ws_url, mint("ada")) as ada:
                        await ada.ok(type="publish", topic="room:lobby", data="are you there?")

                yield Scene(deaf, cause)
                await _until_ready(other)
                proxy.muted = False
                assert (await bob.next())["data"] == "are you there?"


@asynccontextmanager
async def _tokens_are_signed_with_an_old_key(_: Path) -> AsyncIterator[Scene]:
    with started() as server:

        async def cause() -> None:
            # As browsers show it: behind the handshake, whose status they could not read.
            protocols = [JSON, f"bearer.{forge(key=OLD_KEY)}"]
            async with await open_websocket(server.ws_url, protocols) as browser:
                await browser.wait_closed()
                assert browser.close_code == 4401

        yield Scene(server, cause)


INCIDENTS: dict[str, Callable[[Path], AbstractAsyncContextManager[Scene]]] = {
    "Redis is full": _redis_is_full,
    "A proxy forgets Host": _a_proxy_forgets_host,
    "One user floods": _one_user_floods,
    "A worker is deaf": _a_worker_is_deaf,
    "Tokens are signed with an old key": _tokens_are_signed_with_an_old_key,
}


@pytest.mark.parametrize("incident", INCIDENTS)
async def test_an_incident_is_seen_as_the_page_says(incident: str, tmp_path: Path) -> None:
    async with INCIDENTS[incident](tmp_path) as (server, cause, doctor):
        await cause()
        await seen(incident, server)
        if doctor is not None:
            arguments, environ = doctor
            await diagnosed(incident, *arguments, **environ)


@pytest.mark.extra
@pytest.mark.skipif(PROMETHEUS is None, reason="prometheus is not installed")
@pytest.mark.parametrize("incident", INCIDENTS)
async def test_an_incident_is_seen_on_the_dashboard(incident: str, tmp_path: Path) -> None:
    async with INCIDENTS[incident](tmp_path) as (server, cause, _):
        with running_prometheus(tmp_path, [server.port], patient=False) as prometheus:
            await until_async(lambda: prometheus.query("up == 1"))

            async def told() -> bool:
                await cause()
                return named_alerts(incident) <= await prometheus.firing() and all(
                    [await shown(prometheus, *panel) for panel in named_panels(incident)]
                )

            await until_async(told)


async def shown(prometheus: Prometheus, panel: str, what: str) -> bool:
    """Return whether a panel shows something, or what the page says: a label, or less than all."""
    series = [
        (float(each["value"][1]), each["metric"].values())
        for title, target in dashboard_queries()
        if title == panel
        for each in await prometheus.query(target["expr"])
    ]
    if what == "below":
        return any(value < 1 for value, _ in series)
    return any(value > 0 and (not what or what in labels) for value, labels in series)


def named_alerts(incident: str) -> set[str]:
    """Return the alerts that the page names for an incident."""
    return set(re.findall(r"`(Chat\w+)`", section(PAGE, incident)))


def named_panels(incident: str) -> list[tuple[str, str]]:
    """Return the panels that the page names, each with the value of a label that it shows."""
    text = " ".join(section(PAGE, incident).split())
    found = re.finditer(r'"([^"`]+)" (?:shows `(\w+)`|shows which server|is (below) 100 %)', text)
    return [(panel[1], panel[2] or panel[3] or "") for panel in found]


@pytest.mark.parametrize("incident", INCIDENTS)
def test_the_page_names_alerts_and_panels_that_exist(incident: str) -> None:
    alerts = named_alerts(incident)
    assert alerts
    assert alerts <= ALERTS
    panels = {title for title, _ in named_panels(incident)}
    assert panels
    assert panels <= PANELS
