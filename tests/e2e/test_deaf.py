"""Two workers whose connections to Redis stand and answer, but bring no messages."""

import asyncio
from pathlib import Path

from tests.rig.chat_client import chat
from tests.rig.proxy import RedisProxy
from tests.rig.raw_client import request
from tests.rig.redis_server import RedisServer
from tests.rig.server import ServerProcess

from .cluster import health, one_on_each, until_health
from .room import token

TOPIC = "room:deaf"
ENVIRON = {
    "CHAT_AUTH__AUDIENCE": "chat",
    "CHAT_REDIS__CANARY_SECONDS": "0.5",
    "CHAT_REDIS__TIMEOUT_SECONDS": "2",
}


async def test_deaf_workers_say_so_and_repair_what_they_missed(tmp_path: Path) -> None:
    redis = RedisServer(tmp_path)
    redis.start()
    try:
        async with RedisProxy(redis.port) as proxy:
            flags = ("--workers", "2", "--redis-url", proxy.url)
            pair = ServerProcess(*flags, environ=ENVIRON)
            other = ServerProcess("--redis-url", redis.url, environ=ENVIRON)
            for server in (pair, other):
                await asyncio.to_thread(server.__enter__)
            try:
                await _go_deaf_and_recover(proxy, pair, other)
            finally:
                for server in (pair, other):
                    await asyncio.to_thread(server.__exit__, None, None, None)
    finally:
        redis.stop()


async def _go_deaf_and_recover(
    proxy: RedisProxy, pair: ServerProcess, other: ServerProcess
) -> None:
    one, two = await one_on_each(pair)
    async with one, two, await chat(other.ws_url, token("sender")) as sender:
        for client in (one, two):
            await client.ok(type="subscribe", topic=TOPIC)
        await sender.ok(type="publish", topic=TOPIC, data="heard")
        assert [(await client.next())["seq"] for client in (one, two)] == [1, 1]

        proxy.muted = True
        for number in range(5):
            await sender.ok(type="publish", topic=TOPIC, data=number)
        await until_health(pair, "deaf")
        ready = await request(pair.port, "GET", "/health/ready")
        assert (ready.status, ready.json()) == (503, {"status": "deaf"})
        assert (await request(other.port, "GET", "/health/ready")).status == 200
        refused = await one.call(type="publish", topic=TOPIC, data="refused")
        assert refused.get("code") == "unavailable", (refused, pair.stderr)

        proxy.muted = False
        await until_health(pair, "ok")
        for worker in (await health(pair)).values():
            assert worker["checks"]["broker"]["deaf_seconds"] > 0
        await sender.ok(type="publish", topic=TOPIC, data="heard again")
        for client in (one, two):
            messages = [await client.next() for _ in range(6)]
            assert [m["data"] for m in messages] == [0, 1, 2, 3, 4, "heard again"]
            assert [m["seq"] for m in messages] == [*range(2, 8)]
    deaf = [line for line in pair.stderr.splitlines() if "does not deliver" in line]
    assert len(deaf) == 2, "once for each worker"
