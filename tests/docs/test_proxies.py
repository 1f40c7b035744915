"""Every configuration in docs/proxies.md, before a real server."""

import functools
import json
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from ..e2e.room import settle
from ..rig.chat_client import chat
from ..rig.raw_client import RawClient, request
from ..rig.rfc6455 import upgrade
from ..rig.server import ServerProcess, mint
from ..rig.waiting import until_async
from .markdown import prose, section, tables
from .proxies import PAGE, PROXIES, Proxy, running_proxy

PER_ADDRESS = 2
LONGEST_TOKEN = 8_192
FROM_REGISTRIES = {"Envoy"}
"""Those that no distribution has, and a wheel does."""


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, marks=[pytest.mark.extra] if name in FROM_REGISTRIES else [])
        for name in PROXIES
    ],
)
def proxy(request: pytest.FixtureRequest) -> Proxy:
    found = PROXIES[request.param]
    if found.path is None:
        pytest.skip(f"{found.program} is not installed")
    return found


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    environ = {
        "CHAT_SERVER__TRUSTED_PROXY_HOPS": "1",
        "CHAT_LIMITS__MAX_CONNECTIONS_PER_ADDRESS": str(PER_ADDRESS),
    }
    with ServerProcess(environ=environ) as running:
        yield running


@pytest.fixture(scope="module")
def port(
    proxy: Proxy, server: ServerProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[int]:
    """Where the proxy listens, configured as the page says."""
    folder: Path = tmp_path_factory.mktemp("proxy")
    with running_proxy(proxy, folder, (server.port, server.port)) as listening:
        yield listening


async def _asked_until_ready(port: int) -> None:
    """Wait for the proxy's own check of the server, if it has one."""

    async def ready() -> bool:
        return (await request(port, "GET", "/health/ready")).status == 200

    await until_async(ready)


async def test_the_page_and_its_files_come_through(port: int) -> None:
    await _asked_until_ready(port)
    page = await request(port, "GET", "/")
    assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert page.body.startswith(b"<!doctype html>")
    assert (await request(port, "GET", "/static/client.js")).status == 200


async def test_what_is_published_by_http_reaches_websockets(
    port: int, server: ServerProcess
) -> None:
    await _asked_until_ready(port)
    await settle(server, 0)
    async with await chat(f"ws://127.0.0.1:{port}/ws", mint("bob")) as bob:
        await bob.ok(type="subscribe", topic="room:proxied")
        for number in range(3):
            body = json.dumps({"data": number}).encode()
            headers = {"Authorization": f"Bearer {mint('ada')}", "Content-Type": "application/json"}
            target = "/api/topics/room:proxied/messages"
            assert (await request(port, "POST", target, headers=headers, body=body)).status == 201
            assert (await bob.next())["data"] == number


@functools.cache
def _long_token() -> str:
    """Return a token that is no more than a few bytes shorter than the longest there may be."""
    longest, size = "", 5_500
    while True:
        whole, rest = divmod(size, 200)
        padding = [f"room:{'x' * 190}:{number:03}" for number in range(whole)]
        try:
            token = mint("ada", subscribe=[*padding, "x" * (rest or 1), "room:**"])
        except ValueError:
            return longest
        longest, size = token, size + 1


async def test_the_longest_token_comes_through(port: int, server: ServerProcess) -> None:
    token = _long_token()
    assert LONGEST_TOKEN - 8 < len(token) <= LONGEST_TOKEN
    await _asked_until_ready(port)
    await settle(server, 0)
    async with await RawClient.connect(port) as wire:
        host = f"127.0.0.1:{port}"
        headers = {"Host": host, "Origin": f"http://{host}"}
        await wire.send(upgrade(token=token, headers=headers))
        assert (await wire.read_answer()).status == 101
        assert (await wire.read_message())["type"] == "welcome"


async def test_pages_of_the_same_host_may_connect_and_others_may_not(
    port: int, server: ServerProcess
) -> None:
    await _asked_until_ready(port)
    host = f"127.0.0.1:{port}"
    for origin, status in ((f"http://{host}", 101), ("http://elsewhere.example", 403)):
        await settle(server, 0)
        async with await RawClient.connect(port) as wire:
            headers = {"Host": host, "Origin": origin}
            await wire.send(upgrade(token=mint("ada"), headers=headers))
            assert (await wire.read_answer()).status == status, origin


async def test_a_client_cannot_choose_its_address(port: int, server: ServerProcess) -> None:
    await _asked_until_ready(port)
    url = f"ws://127.0.0.1:{port}/ws"
    await settle(server, 0)
    async with await chat(url, mint("ada")), await chat(url, mint("bob")):
        headers = {"X-Forwarded-For": "192.0.2.1"}
        async with await RawClient.open(port, token=mint("eve"), headers=headers) as wire:
            code, _ = await wire.read_to_close()
        assert code == 4429, "it was counted for the address that it named"


# Without a line ----------------------------------------------------------------------------------


async def _upgrade_status(port: int, token: str) -> int:
    host = f"127.0.0.1:{port}"
    async with await RawClient.connect(port) as wire:
        await wire.send(upgrade(token=token, headers={"Host": host, "Origin": f"http://{host}"}))
        return (await wire.read_answer()).status


@pytest.mark.extra
@pytest.mark.parametrize(
    ("name", "line", "short", "long"),
    [
        ("nginx", "        proxy_http_version 1.1;\n", 400, 400),
        ("nginx", "        proxy_set_header Upgrade $http_upgrade;\n", 400, 400),
        ("nginx", "        proxy_set_header Host $http_host;\n", 403, 403),
        ("nginx", "    large_client_header_buffers 4 16k;\n", 101, 400),
        ("Apache", 'ProxyPass "/ws" "ws://127.0.0.1:8001/ws"\n', 400, 400),
        ("Apache", "ProxyPreserveHost On\n", 403, 403),
        ("Apache", "LimitRequestFieldSize 16380\n", 101, 400),
        ("Varnish", "        set bereq.http.Upgrade = req.http.Upgrade;\n", 400, 400),
        ("Varnish", " -p http_req_hdr_len=16k", 101, 400),
        ("Envoy", "                upgrade_configs: [{upgrade_type: websocket}]\n", 403, 403),
    ],
)
async def test_a_line_that_matters_matters(
    server: ServerProcess, tmp_path: Path, name: str, line: str, short: int, long: int
) -> None:
    """Else the page could say less. The statuses are those that people report who lack the line."""
    proxy = _without(name, line)
    with running_proxy(proxy, tmp_path, (server.port, server.port)) as port:
        await _asked_until_ready(port)
        await settle(server, 0)
        statuses = [await _upgrade_status(port, token) for token in (mint("ada"), _long_token())]
        if short == 400:
            # Ours says 426 where it is asked for a WebSocket's address without an upgrade.
            statuses = [400 if status == 426 else status for status in statuses]
        assert statuses == [short, long]


@pytest.mark.extra
@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("HAProxy", "    option forwardfor\n"),
        ("Envoy", "                use_remote_address: true\n"),
    ],
)
async def test_a_proxy_that_adds_no_address_lets_clients_choose_theirs(
    server: ServerProcess, tmp_path: Path, name: str, line: str
) -> None:
    proxy = _without(name, line)
    with running_proxy(proxy, tmp_path, (server.port, server.port)) as port:
        await _asked_until_ready(port)
        await settle(server, 0)
        async with AsyncExitStack() as stack:
            for number in range(PER_ADDRESS + 1):
                headers = {"X-Forwarded-For": f"192.0.2.{number}"}
                wire = await RawClient.open(port, token=mint("eve"), headers=headers)
                await stack.enter_async_context(wire)
                assert (await wire.read_message())["type"] == "welcome"


def _without(name: str, line: str) -> Proxy:
    proxy = PROXIES[name]
    if proxy.path is None:
        pytest.skip(f"{proxy.program} is not installed")
    if line in proxy.arguments:
        return replace(proxy, arguments=proxy.arguments.replace(line, ""))
    return replace(proxy, changes=((line, ""),))


def test_every_proxy_of_the_table_has_a_section() -> None:
    page = PAGE.read_text("utf-8")
    [_, rows] = tables(section(page, "What happens without them"))
    for row in rows:
        assert "was tried" in prose(section(page, row["proxy"])) or "were tried" in prose(
            section(page, row["proxy"])
        )
    assert [row["proxy"] for row in rows] == [*PROXIES, "Traefik"]
