"""A development server answers to the names of this machine only."""

import asyncio
from collections.abc import Iterator

import pytest

from chat_server.http.hosts import is_this_machine
from tests.rig.raw_client import RawClient, request
from tests.rig.rfc6455 import upgrade
from tests.rig.server import ServerProcess
from tests.rig.waiting import until

MINE = [
    *("localhost", "localhost:8000", "LOCALHOST", "localhost.", "localhost.:8000", "a.localhost"),
    *("127.0.0.1", "127.0.0.1:8000", "127.8.8.8", "[::1]", "[::1]:8000", "[0:0::1]:8000"),
]
OTHERS = [
    *("evil.example", "evil.example:8000", "evil.example.", "localhost.evil.example", "a"),
    *("127.0.0.1.evil.example", "evil-localhost", "0.0.0.0", "[::]:8000", "192.168.1.5"),
    *("localhost@evil.example", "evil.example@localhost", "localhost:8000@evil.example"),
    *("evil.example/localhost", "localhost evil.example", "[::1]evil", "[::1", "127.0.0.1,evil"),
]


@pytest.mark.parametrize("host", MINE)
def test_names_of_this_machine(host: str) -> None:
    assert is_this_machine(host)


@pytest.mark.parametrize(
    "host", [*OTHERS, "", ":", ":8000", "[]", "localhost:8000:1", "lo\u0441alhost"]
)
def test_names_of_others(host: str) -> None:
    assert not is_this_machine(host)


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess(environ={"CHAT_ENVIRONMENT": "development"}) as started:
        yield started


@pytest.mark.parametrize("path", ["/", "/health", "/openapi.json", "/docs", "/static/client.js"])
async def test_a_page_that_took_our_address_gets_nothing(server: ServerProcess, path: str) -> None:
    for host in ("evil.example", f"evil.example:{server.port}", "evil.example."):
        answer = await request(server.port, "GET", path, headers={"Host": host})
        assert answer.status == 403
        assert answer.json()["detail"].startswith("Host: a development server, whose secret is")
    answer = await request(server.port, "GET", path, headers={"Host": f"localhost:{server.port}"})
    assert answer.status == 200


async def test_neither_messages_nor_a_socket(server: ServerProcess) -> None:
    api = "/api/topics/room:lobby/messages"
    host = f"evil.example:{server.port}"
    assert (await request(server.port, "POST", api, headers={"Host": host})).status == 403
    for path in ("/ws", "/ws/echo"):
        async with await RawClient.connect(server.port) as client:
            await client.send(
                upgrade(path=path, headers={"Host": host, "Origin": f"http://{host}"})
            )
            assert (await client.read_answer()).status == 403
    own = {"Host": f"localhost:{server.port}", "Origin": f"http://localhost:{server.port}"}
    async with await RawClient.connect(server.port) as client:
        await client.send(upgrade(headers=own))
        assert (await client.read_answer()).status == 101
    # A thread of the server writes its lines.
    await until(lambda: "refused a request for the host 'evil.example" in server.stderr)


async def test_a_target_with_a_foreign_name_is_no_way_around(server: ServerProcess) -> None:
    path = "/api/topics/room:lobby/messages"
    for target, host, status in (
        (f"http://evil.example{path}", "localhost", 403),
        (f"http://evil.example{path}", "evil.example", 403),
        (f"http://localhost{path}", "localhost", 401),
    ):
        assert (await request(server.port, "GET", target, headers={"Host": host})).status == status


def test_a_secret_of_ones_own_serves_every_name() -> None:
    secret = "0123456789abcdef" * 2
    environ = {"CHAT_ENVIRONMENT": "development", "CHAT_AUTH__SECRET": secret}
    with ServerProcess(environ=environ) as server:
        answer = asyncio.run(request(server.port, "GET", "/", headers={"Host": "chat.example"}))
        assert answer.status == 200
