"""Two workers with Redis and a database tell an endpoint everything, whoever of them is killed."""

import asyncio
import os
import re
import signal
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from chat_server.client import connect
from tests.rig.ports import free_port
from tests.rig.redis_server import RedisServer
from tests.rig.server import ServerProcess, mint
from tests.rig.waiting import until
from tests.rig.webhook_receiver import WebhookReceiver

TOPICS = [f"room:{number}" for number in range(8)]
ROUNDS = 60
PORT = free_port()
LEADS = re.compile(r"(\d+)\] chat_server\.consumers\.runner: this worker")

ENVIRON = {
    "CHAT_DATABASE__MIGRATE": "true",
    "CHAT_LOG__LEVEL": "INFO",
    "CHAT_WEBHOOKS__ORDERS__URL": f"http://127.0.0.1:{PORT}/hook",
    "CHAT_WEBHOOKS__ORDERS__SECRETS": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "CHAT_WEBHOOKS__ORDERS__TOPICS": "room:**",
    "CHAT_WEBHOOKS__ORDERS__ALLOW_PRIVATE": "true",
    "CHAT_LIMITS__MESSAGES_PER_SECOND": "1000000",
    "CHAT_LIMITS__MESSAGE_BURST": "1000000",
}


@pytest.fixture
def workers(redis: RedisServer, tmp_path: Path) -> Iterator[ServerProcess]:
    environ = {**ENVIRON, "CHAT_DATABASE__URL": f"sqlite+aiosqlite:///{tmp_path / 'chat.db'}"}
    environ["CHAT_REDIS__PREFIX"] = tmp_path.name
    flags = ("--workers", "2", "--redis-url", redis.url)
    with ServerProcess(*flags, environ=environ) as running:
        yield running


async def publish(server: ServerProcess, rounds: int) -> None:
    token = mint("ada", subscribe=["**"], publish=["**"])
    async with connect(server.url, token=token) as chat:
        for number in range(rounds):
            await asyncio.gather(*(chat.publish(topic, number) for topic in TOPICS))


def seqs(receiver: WebhookReceiver) -> dict[str, list[int]]:
    found: dict[str, list[int]] = defaultdict(list)
    for event in receiver.events:
        assert event["type"] == "message", event
        found[event["topic"]].append(event["seq"])
    return found


def everything(count: int, topics: Sequence[str] = TOPICS) -> dict[str, list[int]]:
    return {topic: [*range(1, count + 1)] for topic in topics}


async def test_two_workers_send_everything_once_and_in_order(workers: ServerProcess) -> None:
    async with WebhookReceiver(port=PORT) as receiver:
        await publish(workers, ROUNDS)
        await until(lambda: sum(map(len, seqs(receiver).values())) >= ROUNDS * len(TOPICS))
        assert seqs(receiver) == everything(ROUNDS)
    # Nobody listens for a while: what is published meanwhile comes afterwards.
    await publish(workers, ROUNDS)
    async with receiver:
        await until(lambda: sum(map(len, seqs(receiver).values())) >= 2 * ROUNDS * len(TOPICS))
        assert seqs(receiver) == everything(2 * ROUNDS)


@pytest.mark.extra
async def test_nothing_is_lost_with_the_worker_that_sends(workers: ServerProcess) -> None:
    async with WebhookReceiver(port=PORT) as receiver:
        publishing = asyncio.create_task(publish(workers, ROUNDS))
        await until(lambda: len(receiver.events) > 3 * len(TOPICS))
        leaders = LEADS.findall(workers.stderr)
        os.kill(int(leaders[-1]), signal.SIGKILL)
        await publishing

        def has_all() -> bool:
            return {topic: sorted({*found}) for topic, found in seqs(receiver).items()} == (
                everything(ROUNDS)
            )

        await until(has_all, 120)
        for topic, found in seqs(receiver).items():
            # What was sent and not yet noted is sent again: from there on in order again.
            falls = [n for n in range(1, len(found)) if found[n] <= found[n - 1]]
            assert len(falls) <= 1, (topic, found)
    assert workers.stderr.count("this worker runs the consumers") >= 2
