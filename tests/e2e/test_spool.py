"""While Redis is away a namespace that spools takes publications, and answers them afterwards."""

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from tests.rig.chat_client import Chat, chat
from tests.rig.proxy import Proxy
from tests.rig.raw_client import RawClient, request
from tests.rig.redis_server import KEPT, RedisServer, running
from tests.rig.server import ServerProcess
from tests.rig.waiting import SECONDS

from .cluster import KeptAlive
from .differences import way
from .room import settle, token

ENVIRON = {
    "CHAT_AUTH__AUDIENCE": "chat",
    "CHAT_HTTP__REQUEST_TIMEOUT_SECONDS": "4",
    "CHAT_LOG__LEVEL": "INFO",
    "CHAT_NAMESPACES__ORDER__SPOOL_MESSAGES": "1000",
    "CHAT_NAMESPACES__SMALL__SPOOL_MESSAGES": "3",
    "CHAT_REDIS__TIMEOUT_SECONDS": "2",
}
AT_ONCE_SECONDS = 10.0
COUNT = 40


@pytest.fixture(scope="module")
def redis(transport: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis that forgets nothing when it is killed; another one for each transport."""
    with running(RedisServer(tmp_path_factory.mktemp("redis"), *KEPT)) as started:
        yield started


@pytest.fixture(scope="module")
def server(redis: RedisServer, transport: str) -> Iterator[ServerProcess]:
    environ = {**ENVIRON, **way(transport)}
    with ServerProcess("--redis-url", redis.url, environ=environ) as started:
        yield started


async def spooled(server: ServerProcess) -> int:
    """Return how many publications the server says that it keeps."""
    health = (await request(server.port, "GET", "/health")).json()
    count: int = health["checks"]["broker"]["spooled"]
    return count


async def until_spooled(server: ServerProcess, count: int) -> None:
    async with asyncio.timeout(SECONDS):
        while True:
            if await spooled(server) >= count:
                return
            await asyncio.sleep(0.02)


async def until_unavailable(server: ServerProcess) -> None:
    async with asyncio.timeout(SECONDS):
        while True:
            if (await request(server.port, "GET", "/health/ready")).status != 200:
                return
            await asyncio.sleep(0.02)


async def check_refused(client: Chat, topic: str) -> None:
    began = time.monotonic()
    answer = await client.call(type="publish", topic=topic, data="lost")
    assert (answer["type"], answer["code"]) == ("error", "unavailable"), answer
    assert answer["retry_in_ms"] > 0
    assert time.monotonic() - began < AT_ONCE_SECONDS


async def check_sign_of_life(client: Chat) -> list[dict[str, Any]]:
    """A client whose publications wait is told that the server is there.

    Returns:
        The answers to publications that were stored before the outage.
    """
    await client.send(type="ping", id=1_000)
    answered = []
    while (message := await client.next()) != {"type": "pong", "id": 1_000}:
        answered.append(message)
    assert len(answered) <= COUNT // 2
    return answered


@pytest.mark.parametrize("outage", ["killed", "frozen"])
async def test_publications_of_an_outage_are_answered_after_it(
    server: ServerProcess, redis: RedisServer, outage: str
) -> None:
    """Some are under way when it begins, and nobody can tell whether they were stored."""
    topic = f"order:{outage}"
    async with (
        await chat(server.ws_url, token("reader")) as reader,
        await chat(server.ws_url, token("writer")) as writer,
        await chat(server.ws_url, token("other")) as other,
    ):
        start = (await reader.ok(type="subscribe", topic=topic))["seq"]
        for number in range(COUNT // 2):
            await writer.send(type="publish", id=number + 1, topic=topic, data=number)
        (redis.kill if outage == "killed" else redis.pause)()
        for number in range(COUNT // 2, COUNT):
            await writer.send(type="publish", id=number + 1, topic=topic, data=number)
        try:
            await until_unavailable(server)
            await check_refused(other, "room:plain")
            await until_spooled(server, COUNT // 2)
            answers = await check_sign_of_life(writer)
        finally:
            await asyncio.to_thread(redis.start if outage == "killed" else redis.resume)
        while len(answers) < COUNT:
            answers.append(await writer.next())
        for number, answer in enumerate(answers):
            place = (answer["type"], answer["id"], answer.get("seq"), answer.get("duplicate"))
            assert place == ("ok", number + 1, start + number + 1, False), answer
        for number in range(COUNT):
            message = await reader.next()
            assert (message["seq"], message["data"]) == (start + number + 1, number)
        await other.ok(type="publish", topic=topic, data="last")
        assert (await reader.next())["data"] == "last"
    assert await spooled(server) == 0
    assert "Traceback" not in server.stderr


async def test_who_is_gone_is_published_all_the_same(
    server: ServerProcess, redis: RedisServer
) -> None:
    topic = "order:gone"
    async with await chat(server.ws_url, token("reader")) as reader:
        await reader.ok(type="subscribe", topic=topic)
        redis.pause()
        try:
            await until_unavailable(server)
            writer = await chat(server.ws_url, token("writer"))
            await writer.send(type="publish", topic=topic, data="farewell")
            await until_spooled(server, 1)
            writer.websocket.transport.abort()
            await settle(server, 1)
            async with await RawClient.connect(server.port) as wire:
                http = KeptAlive(wire)
                answer = await http.publish(topic, "by http", key="once")
                assert (answer.status, answer.json()["code"]) == (503, "unavailable")
                assert int(answer.headers["retry-after"]) >= 1
            assert await spooled(server) == 2
        finally:
            redis.resume()
        assert [(await reader.next())["data"] for _ in range(2)] == ["farewell", "by http"]
        async with await RawClient.connect(server.port) as wire:
            answer = await KeptAlive(wire).publish(topic, "by http", key="once")
            assert (answer.status, answer.json()["duplicate"]) == (200, True)


async def test_past_the_bound_it_is_refused_at_once(
    server: ServerProcess, redis: RedisServer
) -> None:
    async with (
        await chat(server.ws_url, token("writer")) as writer,
        await chat(server.ws_url, token("other")) as other,
    ):
        redis.pause()
        try:
            await until_unavailable(server)
            for number in range(3):
                topic = f"small:{number}"
                await writer.send(type="publish", id=number + 1, topic=topic, data=number)
            await until_spooled(server, 3)
            await check_refused(other, "small:0")
            await check_refused(other, "small:new")
        finally:
            redis.resume()
        for number in range(3):
            answer = await writer.next()
            assert (answer["type"], answer["id"]) == ("ok", number + 1)


async def test_a_stop_does_not_wait_for_redis(redis: RedisServer) -> None:
    environ = {**ENVIRON, "CHAT_SERVER__DRAIN_SECONDS": "1"}
    with ServerProcess("--redis-url", redis.url, environ=environ) as server:
        redis.pause()
        try:
            await until_unavailable(server)
            async with await chat(server.ws_url, token("writer")) as writer:
                await writer.send(type="publish", topic="order:stop", data="lost")
                await until_spooled(server, 1)
                assert await asyncio.to_thread(server.stop) == 0
        finally:
            redis.resume()
        assert "1 spooled publications were not stored" in server.stderr


async def test_what_was_let_in_is_stored_whatever_operators_order_meanwhile(
    redis: RedisServer,
) -> None:
    """A worker is cut off from Redis while another blocks its user, and closes its topic."""
    topic, closed = "order:blocked", "order:closed"
    operator = {"Authorization": f"Bearer {token('op', topics={'admin': ['**']})}"}

    async def order(server: ServerProcess, verb: str, **fields: object) -> None:
        body = json.dumps({**fields, "reason": "spam"}).encode()
        path = f"/api/admin/{verb}"
        answer = await request(server.port, "POST", path, headers=operator, body=body)
        assert answer.status == 200, answer

    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(Proxy(redis.port))
        url = f"redis://127.0.0.1:{proxy.port}/0"
        here = ServerProcess("--redis-url", url, environ=ENVIRON)
        there = ServerProcess("--redis-url", redis.url, environ=ENVIRON)
        for each in (here, there):
            # Not in this thread: the server wants to be answered by the proxy while it starts.
            await asyncio.to_thread(each.__enter__)
            stack.push_async_callback(asyncio.to_thread, each.__exit__, None, None, None)
        bob = await stack.enter_async_context(await chat(here.ws_url, token("bob")))
        ada = await stack.enter_async_context(await chat(here.ws_url, token("ada")))
        reader = await stack.enter_async_context(await chat(there.ws_url, token("reader")))
        await reader.ok(type="subscribe", topic=topic)
        with proxy.refusing():
            proxy.cut()
            await until_unavailable(here)
            await bob.send(type="publish", id=1, topic=topic, data="let in")
            await ada.send(type="publish", id=1, topic=closed, data="let in")
            await until_spooled(here, 2)
            await order(there, "block", user="bob", seconds=3_600)
            await order(there, "close", topic=closed, seconds=3_600)
        assert (await reader.next())["data"] == "let in"
        stored = await ada.next()
        assert (stored["type"], stored["topic"]) == ("ok", closed)
        assert await bob.closed() == 4403
        refused = await ada.call(type="publish", topic=closed, data="too late")
        assert (refused["type"], refused["code"]) == ("error", "forbidden")
