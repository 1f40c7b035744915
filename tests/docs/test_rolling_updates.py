"""Two servers restarted in turn behind the balancers of docs/proxies.md: nobody notices."""

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from chat_server.client import Message, connect
from chat_server.settings import load_settings

from ..rig.raw_client import request
from ..rig.redis_server import RedisServer, running
from ..rig.server import ServerProcess, mint
from ..rig.waiting import until, until_async
from .proxies import PROXIES, Proxy, running_proxy

TOPIC = "room:rolling"
PUBLISHERS = 3

# It judges time: checks and restarts have seconds that a busy machine could take from them.
pytestmark = [pytest.mark.timing]


@pytest.fixture(
    params=[
        "nginx",
        "HAProxy",
        "HAProxy, which does not try again",
        pytest.param("Caddy", marks=pytest.mark.extra),
        pytest.param("Envoy", marks=pytest.mark.extra),
    ]
)
def proxy(request: pytest.FixtureRequest) -> Proxy:
    name, _, hardened = request.param.partition(",")
    found = PROXIES[name]
    if hardened:
        # Then nothing but the time in which a server says that it leaves keeps requests from it.
        found = replace(found, changes=(("option redispatch", "retries 0"),))
    if found.path is None:
        pytest.skip(f"{found.program} is not installed")
    return found


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[tuple[ServerProcess, ServerProcess]]:
    production = load_settings(
        environ={
            "CHAT_ENVIRONMENT": "production",
            "CHAT_AUTH__SECRET": "0123456789abcdef" * 4,
        }
    )
    environ = {
        "CHAT_SERVER__LAME_DUCK_SECONDS": str(production.server.lame_duck_seconds),
        "CHAT_SERVER__TRUSTED_PROXY_HOPS": "1",
        "CHAT_LIMITS__MESSAGES_PER_SECOND": "100000",
        "CHAT_LIMITS__MESSAGE_BURST": "100000",
    }
    with ExitStack() as stack:
        redis = stack.enter_context(running(RedisServer(tmp_path)))
        flags = ("--redis-url", redis.url)
        first, second = (
            stack.enter_context(ServerProcess(*flags, environ=environ)) for _ in range(2)
        )
        yield first, second
        for server in (first, second):
            os.kill(server.pid, signal.SIGTERM)  # the second one, sent at the exit, makes it hurry


class Publishers:
    """Publish one message after the other, each on a connection of its own to the proxy."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.sent = 0
        self.failures: list[str] = []
        self.stop = False
        self._headers = {
            "Authorization": f"Bearer {mint('ada')}",
            "Content-Type": "application/json",
        }

    async def publish(self) -> None:
        target = f"/api/topics/{TOPIC}/messages"
        while not self.stop:
            self.sent += 1
            body = json.dumps({"data": self.sent}).encode()
            try:
                answer = await request(self.port, "POST", target, headers=self._headers, body=body)
                if answer.status != 201:
                    self.failures.append(f"{answer.status} {answer.body[:200]!r}")
            except (OSError, AssertionError) as error:
                self.failures.append(repr(error))
            await asyncio.sleep(0.01)


async def test_no_publication_fails_while_servers_are_restarted_in_turn(
    proxy: Proxy, servers: tuple[ServerProcess, ServerProcess], tmp_path: Path
) -> None:
    folder = tmp_path / "proxy"
    folder.mkdir()
    with running_proxy(proxy, folder, (servers[0].port, servers[1].port)) as port:

        async def is_ready() -> bool:
            return (await request(port, "GET", "/health/ready")).status == 200

        await until_async(is_ready)
        publishers = Publishers(port)
        seqs: list[int] = []
        async with (
            connect(f"http://127.0.0.1:{port}", token=mint("bob")) as client,
            client.subscribe(TOPIC) as room,
        ):

            async def follow() -> None:
                async for event in room:
                    assert isinstance(event, Message), event
                    seqs.append(event.seq)

            async with asyncio.TaskGroup() as group:
                following = group.create_task(follow())
                tasks = [group.create_task(publishers.publish()) for _ in range(PUBLISHERS)]
                await until(lambda: publishers.sent > 20)
                for server in servers:
                    assert await asyncio.to_thread(server.stop) == 0
                    await asyncio.to_thread(server.start)
                    seen = publishers.sent
                    await until(lambda seen=seen: publishers.sent > seen + 20)  # type: ignore[misc]
                publishers.stop = True
                await asyncio.wait(tasks)
                await until(lambda: len(seqs) >= publishers.sent - len(publishers.failures))
                following.cancel()
        assert publishers.failures == []
        assert seqs == list(range(1, publishers.sent + 1)), "a hole or a repeat"
