"""Accounts of two workers with Redis and PostgreSQL between them, asked by httpx and a client."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from chat_server.client import connect
from tests.rig.postgres_server import PostgresServer
from tests.rig.redis_server import RedisServer
from tests.rig.server import ServerProcess

PASSWORD = "correct horse"
LIFE = 3.0
"""Seconds of an access token."""


@pytest.fixture(scope="module")
def server(redis: RedisServer, postgres_server: PostgresServer) -> Iterator[ServerProcess]:
    environ = {
        "CHAT_SERVER__WORKERS": "2",
        "CHAT_REDIS__URL": redis.url,
        "CHAT_DATABASE__URL": postgres_server.create("e2e_accounts"),
        "CHAT_ACCOUNTS__ENABLED": "on",
        "CHAT_ACCOUNTS__SIGN_UP": "open",
        "CHAT_ACCOUNTS__ACCESS_SECONDS": str(LIFE),
        "CHAT_ACCOUNTS__ATTEMPTS_PER_NAME": "8",
        "CHAT_ACCOUNTS__HASH_MEMORY_KIB": "8",
    }
    with ServerProcess(environ=environ) as running:
        yield running


def post(server: ServerProcess, path: str, **body: object) -> httpx.Response:
    """Ask by a connection of its own, which may come to either worker."""
    return httpx.post(f"{server.url}{path}", json=body, timeout=240)


def sign_up(server: ServerProcess, name: str) -> httpx.Response:
    assert post(server, "/users", name=name, password=PASSWORD).status_code == 201
    return post(server, "/auth/login", name=name, password=PASSWORD)


async def test_a_client_stays_connected_by_refreshing(server: ServerProcess) -> None:
    answer = await asyncio.to_thread(sign_up, server, "Alice")
    tokens: list[str] = []
    enough = asyncio.Event()

    async def token() -> str:
        nonlocal answer
        if tokens:
            refresh = answer.json()["refresh_token"]
            answer = await asyncio.to_thread(post, server, "/auth/refresh", refresh_token=refresh)
        tokens.append(answer.json()["access_token"])
        if len(tokens) == 4:
            enough.set()
        return tokens[-1]

    states: list[str] = []
    chat = connect(server.url, token=token, on_state=lambda state, _: states.append(state))
    async with chat, asyncio.timeout(100):
        assert (await chat.wait_online()).user == "alice"
        await enough.wait()
        await chat.publish("room:lobby", {"text": "still here"})
    assert "reconnecting" not in states
    assert len(set(tokens)) == len(tokens)


def test_a_token_used_at_once_everywhere_gets_one_successor(server: ServerProcess) -> None:
    refresh = sign_up(server, "bob").json()["refresh_token"]
    with ThreadPoolExecutor(8) as pool:
        asked = [
            pool.submit(post, server, "/auth/refresh", refresh_token=refresh) for _ in range(8)
        ]
        answers = [each.result() for each in asked]
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["refresh_token"] for answer in answers}) == 1


def test_attempts_are_counted_by_both_workers_together(server: ServerProcess) -> None:
    assert sign_up(server, "carol").status_code == 200  # which is one
    with ThreadPoolExecutor(8) as pool:
        asked = [
            pool.submit(post, server, "/auth/login", name="carol", password=f"wrong {number}")
            for number in range(20)
        ]
        statuses = [each.result().status_code for each in asked]
    assert sorted(statuses) == [401] * 7 + [429] * 13
    assert post(server, "/auth/login", name="carol", password=PASSWORD).status_code == 429


def test_one_of_many_has_a_name(server: ServerProcess) -> None:
    names = ["dora", "Dora", "d0ra", "DORA", "dоrа"]  # the last with a mixed alphabet
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(post, server, "/users", name=n, password=PASSWORD) for n in names]
        statuses = [each.result().status_code for each in asked]
    assert sorted(statuses) == [201, 422, 422, 422, 422]
