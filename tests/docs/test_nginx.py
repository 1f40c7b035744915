"""The configuration for nginx in the documentation, before a real server."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..e2e.room import settle
from ..support.ports import free_port
from ..support.server import ServerProcess, mint
from ..support.wire import Wire, chat, request, upgrade
from .markdown import ROOT, blocks
from .walk import DOCUMENTED_ADDRESS

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")

START_SECONDS = 20.0

CONFIGURATION = """
daemon off;
master_process off;
pid nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log access.log;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    {map}
    server {{
        listen 127.0.0.1:{port};
        {location}
    }}
}}
"""

PER_ADDRESS = 2

pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    environ = {
        "CHAT_SERVER__TRUSTED_PROXY_HOPS": "1",
        "CHAT_LIMITS__MAX_CONNECTIONS_PER_ADDRESS": str(PER_ADDRESS),
    }
    with ServerProcess(environ=environ) as running:
        yield running


@pytest.fixture(scope="module")
def port(server: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Where nginx listens, configured as the documentation says."""
    folder: Path = tmp_path_factory.mktemp("nginx")
    page = (ROOT / "docs/operations.md").read_text("utf-8")
    location, mapping = (block.text for block in blocks(page) if block.kind == "nginx")
    assert DOCUMENTED_ADDRESS in location
    port = free_port()
    configuration = CONFIGURATION.format(
        port=port,
        map=mapping,
        location=location.replace(DOCUMENTED_ADDRESS, f"127.0.0.1:{server.port}"),
    )
    (folder / "nginx.conf").write_text(configuration, "utf-8")
    assert NGINX is not None
    with (folder / "stderr").open("w") as errors:
        nginx = subprocess.Popen([NGINX, "-p", str(folder), "-c", "nginx.conf"], stderr=errors)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not (folder / "nginx.pid").exists():
            assert nginx.poll() is None, (folder / "stderr").read_text()
            assert time.monotonic() < deadline, "nginx does not start"
            time.sleep(0.02)
        yield port
    finally:
        nginx.terminate()
        nginx.wait(START_SECONDS)


async def test_people_talk_through_it(port: int) -> None:
    url = f"ws://127.0.0.1:{port}/ws"
    async with await chat(url, mint("ada")) as ada, await chat(url, mint("bob")) as bob:
        await bob.ok(type="subscribe", topic="room:proxied")
        await ada.ok(type="publish", topic="room:proxied", data="through nginx")
        assert (await bob.next())["data"] == "through nginx"


async def test_http_goes_through_it(port: int) -> None:
    assert (await request(port, "GET", "/health/ready")).status == 200


async def test_the_page_of_the_same_host_may_connect_and_others_may_not(port: int) -> None:
    host = f"127.0.0.1:{port}"
    for origin, status in ((f"http://{host}", 101), ("http://elsewhere.example", 403)):
        async with await Wire.connect(port) as wire:
            headers = {"Host": host, "Origin": origin}
            await wire.send(upgrade(token=mint("ada"), headers=headers))
            assert (await wire.read_answer()).status == status, origin


async def test_a_client_cannot_choose_its_address(port: int, server: ServerProcess) -> None:
    url = f"ws://127.0.0.1:{port}/ws"
    await settle(server, 0)
    async with await chat(url, mint("ada")), await chat(url, mint("bob")):
        headers = {"X-Forwarded-For": "192.0.2.1"}
        async with await Wire.open(port, token=mint("eve"), headers=headers) as wire:
            code, _ = await wire.read_to_close()
        assert code == 4429, "it was counted for the address that it named"
