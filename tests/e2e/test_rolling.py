"""Workers are replaced while people talk: nobody misses a message, and nobody sees one twice."""

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from chat_server.client import Client, ClientState, Message, connect
from chat_server.protocol.close_codes import CloseCode
from tests.rig.redis_server import RedisServer
from tests.rig.server import ServerProcess
from tests.rig.waiting import until
from tests.server.processes import ready_workers, runs

from .differences import way
from .room import token

SUBSCRIBERS = 20
ROLLS = 2
TOPIC = "room:rolling"


@pytest.fixture
def server(transport: str, redis: RedisServer) -> Iterator[ServerProcess]:
    environ = {
        "CHAT_AUTH__AUDIENCE": "chat",
        **way(transport),
        "CHAT_LIMITS__MESSAGES_PER_SECOND": "1000000",
        "CHAT_LIMITS__MESSAGE_BURST": "1000000",
        # However long somebody is away, what the bot publishes meanwhile can be had.
        "CHAT_LIMITS__MAX_REPLAY": "1000000",
        "CHAT_NAMESPACES__DEFAULT__HISTORY_SIZE": "1000000",
        "CHAT_NAMESPACES__DEFAULT__HISTORY_BYTES": "1000000000",
        "CHAT_REDIS__PREFIX": f"rolling-{transport}",
    }
    flags = ("--workers", "2", "--redis-url", redis.url)
    with ServerProcess(*flags, environ=environ) as running:
        yield running


class Subscriber:
    """Follows the topic with the client that is shipped."""

    def __init__(self, server: ServerProcess, number: int) -> None:
        self.seqs: list[int] = []
        self.lost: list[str] = []
        self.state = ClientState.CLOSED
        self.client: Client = connect(
            server.url, token=token(f"user-{number}"), on_state=self._on_state
        )

    def _on_state(self, state: ClientState, reason: str) -> None:
        self.state = state
        if state is ClientState.RECONNECTING:
            self.lost.append(reason)

    async def follow(self, entered: asyncio.Semaphore, last: "asyncio.Future[int]") -> None:
        """Receive until the message whose seq `last` will tell."""
        async with self.client, self.client.subscribe(TOPIC) as room:
            entered.release()
            async for event in room:
                assert isinstance(event, Message), event
                self.seqs.append(event.seq)
                if last.done() and event.seq >= last.result():
                    return


async def _publish(client: Client, stop: asyncio.Event, last: "asyncio.Future[int]") -> None:
    number = 0
    while not last.done():
        number += 1
        if stop.is_set():
            # Known before the message is, so that nobody waits for one more.
            last.set_result(number)
        await client.publish(TOPIC, number, key=f"key-{number}", wait=True)


async def _replace(server: ServerProcess) -> None:
    old = await ready_workers(server, 2)
    os.kill(server.pid, signal.SIGHUP)
    await until(lambda: not any(runs(pid) for pid in old))


@pytest.mark.usefixtures("quiet")
async def test_nothing_is_lost_while_workers_are_replaced(server: ServerProcess) -> None:
    subscribers = [Subscriber(server, number) for number in range(SUBSCRIBERS)]
    entered = asyncio.Semaphore(0)
    last: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()
    async with (
        asyncio.timeout(380),
        connect(server.url, token=token("bot")) as publisher,
        asyncio.TaskGroup() as group,
    ):
        for subscriber in subscribers:
            group.create_task(subscriber.follow(entered, last))
        for _ in subscribers:
            await entered.acquire()
        group.create_task(_publish(publisher, stop, last))
        for _ in range(ROLLS):
            # Who is still away because the last roll told it to wait would not notice this one.
            await until(lambda: all(s.state is ClientState.ONLINE for s in subscribers))
            await _replace(server)
        stop.set()
    for subscriber in subscribers:
        assert subscriber.seqs == list(range(1, last.result() + 1)), "a hole or a repeat"
        # Whoever has left the first worker may have come to the second just before it leaves too.
        assert ROLLS <= len(subscriber.lost) <= 2 * ROLLS
        for reason in subscriber.lost:
            assert f"({int(CloseCode.RESTART)})" in reason, "refused, or closed for another reason"
