"""Every configuration in docs/proxies.md, before a real server."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..e2e.room import settle
from ..support.server import ServerProcess, mint
from ..support.wire import Wire, chat, request, until_async, upgrade
from .markdown import prose, section, tables
from .proxies import PAGE, PROXIES, Proxy, running_proxy

PER_ADDRESS = 2
LONGEST_TOKEN = 8_192
FROM_REGISTRIES = {"Caddy", "Envoy"}
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


def _long_token() -> str:
    """Return about the longest token that there may be."""
    longest, count = "", 1
    while True:
        padding = [f"room:{str(number).zfill(100)}" for number in range(count)]
        try:
            token = mint("ada", subscribe=[*padding, "room:**"], publish=["room:**"])
        except ValueError:
            return longest
        longest, count = token, count + 1


async def test_the_longest_token_comes_through(port: int, server: ServerProcess) -> None:
    token = _long_token()
    assert LONGEST_TOKEN - 300 < len(token) <= LONGEST_TOKEN
    await _asked_until_ready(port)
    await settle(server, 0)
    async with await Wire.connect(port) as wire:
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
        async with await Wire.connect(port) as wire:
            headers = {"Host": host, "Origin": origin}
            await wire.send(upgrade(token=mint("ada"), headers=headers))
            assert (await wire.read_answer()).status == status, origin


async def test_a_client_cannot_choose_its_address(port: int, server: ServerProcess) -> None:
    await _asked_until_ready(port)
    url = f"ws://127.0.0.1:{port}/ws"
    await settle(server, 0)
    async with await chat(url, mint("ada")), await chat(url, mint("bob")):
        headers = {"X-Forwarded-For": "192.0.2.1"}
        async with await Wire.open(port, token=mint("eve"), headers=headers) as wire:
            code, _ = await wire.read_to_close()
        assert code == 4429, "it was counted for the address that it named"


def test_every_proxy_of_the_table_has_a_section() -> None:
    page = PAGE.read_text("utf-8")
    [rows] = tables(section(page, "What every proxy must do"))
    for row in rows:
        assert "was tried" in prose(section(page, row["proxy"])) or "were tried" in prose(
            section(page, row["proxy"])
        )
    assert [row["proxy"] for row in rows] == [*PROXIES, "Traefik"]
