"""Clients that read slowly, not at all, or fall silent: they cost little, and only themselves."""

import asyncio
import math
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.rig import rfc6455
from tests.rig.chat_client import Chat, chat
from tests.rig.raw_client import RawClient
from tests.rig.rfc6455 import frame, text
from tests.rig.server import ServerProcess
from tests.server.processes import rss

from .differences import close_code, way
from .room import Room, settle, token

SLOW_SECONDS = 1.5
MEMORY = 24 * 2**20

ENVIRON = {
    "CHAT_AUTH__AUDIENCE": "chat",
    "CHAT_GATEWAY__HEARTBEAT_SECONDS": "0.5",
    "CHAT_GATEWAY__PONG_TIMEOUT_SECONDS": "3",
    "CHAT_GATEWAY__CLOSE_TIMEOUT_SECONDS": "30",
    "CHAT_LIMITS__MAX_CONNECTIONS_PER_USER": "10000",
    "CHAT_LIMITS__MESSAGES_PER_SECOND": "1000000",
    "CHAT_LIMITS__MESSAGE_BURST": "1000000",
    "CHAT_LIMITS__SLOW_TIMEOUT_SECONDS": str(SLOW_SECONDS),
    "CHAT_NAMESPACES__ROOM__HISTORY_SIZE": "100",
    "CHAT_NAMESPACES__LONG__HISTORY_SIZE": "1000",
}

SIZE = 20_000
"""Of one message: many of them fill every buffer there is on the way."""

FILLS_ALL = 300
"""Messages that are more than the kernel (4 MiB by default) and the server keep for a client."""

DEAF = 20
SLOW_BUFFER = 262_144
"""The default of `limits.slow_buffer_bytes`."""
SLACK = 524_288
"""What else a client that does not read may cost: the message that filled it, and its tasks."""

pytestmark = pytest.mark.usefixtures("quiet")


@contextmanager
def other_server(transport: str, **environ: str) -> Iterator[ServerProcess]:
    """Run one that differs from that of the module, and is as quiet."""
    environ = {**ENVIRON, **way(transport), **environ}
    with ServerProcess(environ=environ) as started:
        yield started
        assert " ERROR " not in started.stderr, started.stderr


@pytest.fixture(scope="module")
def patient(transport: str) -> Iterator[ServerProcess]:
    """A server that gives up on nobody, however long the machine takes."""
    with other_server(
        transport,
        CHAT_GATEWAY__HEARTBEAT_SECONDS="60",
        CHAT_LIMITS__SLOW_TIMEOUT_SECONDS="60",
    ) as started:
        yield started


@pytest.fixture
def hasty(transport: str) -> Iterator[ServerProcess]:
    """A server that waits a second for a client to take the reason why it is closed."""
    with other_server(transport, CHAT_GATEWAY__CLOSE_TIMEOUT_SECONDS="1") as started:
        yield started


async def subscribed(server: ServerProcess, topic: str) -> RawClient:
    """Return a client with a small receive buffer that has subscribed, and read nothing else."""
    client = await RawClient.open(server.port, token=token("slow"), receive_buffer=4096)
    await client.read_message()
    await client.send(text({"type": "subscribe", "id": 1, "topic": topic}))
    assert (await client.read_message())["type"] == "ok"
    return client


async def publish(sender: Chat, topic: str, first: int, count: int) -> list[float]:
    """Publish large messages and return how long each took to be answered, in seconds."""
    took = []
    for number in range(first, first + count):
        began = time.monotonic()
        await sender.ok(type="publish", topic=topic, data=f"{number}".ljust(SIZE))
        took.append(time.monotonic() - began)
    return took


async def latencies(sender: Chat, reader: Chat, topic: str, first: int, count: int) -> list[float]:
    """Publish large messages and return how long each took to reach a reader, in seconds."""
    took = []
    for number in range(first, first + count):
        began = time.monotonic()
        await sender.send(type="publish", topic=topic, data=f"{number}".ljust(SIZE))
        assert (await reader.next())["seq"] == number
        took.append(time.monotonic() - began)
    return took


def check_complete(messages: list[dict[str, Any]], last: int, *, gaps: bool) -> None:
    """Fail if a client missed something without being told."""
    seen = 0
    for message in messages:
        if message["type"] == "gap":
            assert gaps, message
            assert message["after"] == seen
            seen = message["before"] - 1
        elif message["type"] == "message":
            assert message["seq"] == seen + 1
            assert message["data"] == f"{message['seq']}".ljust(SIZE)
            seen = message["seq"]
    assert seen == last


async def read_to(client: RawClient, last: int) -> list[dict[str, Any]]:
    """Read pushes until the one with seq `last`, or a gap that covers it."""
    messages: list[dict[str, Any]] = []
    while not messages or _reached(messages[-1]) < last:
        messages.append(await client.read_message())
    return messages


def _reached(message: dict[str, Any]) -> int:
    return int(message["before"]) - 1 if message["type"] == "gap" else int(message["seq"])


@pytest.mark.parametrize("namespace", ["room", "long"])
async def test_a_client_that_pauses_gets_everything_or_is_told(
    patient: ServerProcess, namespace: str
) -> None:
    count = 400
    topic = f"{namespace}:pausing"
    async with (
        await Room.open(patient) as room,
        await subscribed(patient, topic) as slow,
        await chat(patient.ws_url, token("fast")) as sender,
    ):
        before = rss(patient.pid)
        took = await publish(sender, topic, 1, count)
        assert max(took) < 5, "the publisher felt it"
        if namespace == "room":
            assert rss(patient.pid) - before < MEMORY
        messages = await read_to(slow, count)
        check_complete(messages, count, gaps=namespace == "room")
        assert any(m["type"] == "gap" for m in messages) is (namespace == "room")
        # It is live again.
        await publish(sender, topic, count + 1, 3)
        live = [(await slow.read_message())["seq"] for _ in range(3)]
        assert live == [count + 1, count + 2, count + 3]
        await room.check_undisturbed()


@pytest.fixture
def pingless(transport: str) -> Iterator[ServerProcess]:
    """A server that pings nobody: a client that does not read answers no ping either."""
    with other_server(transport, CHAT_GATEWAY__HEARTBEAT_SECONDS="600") as started:
        yield started


async def test_a_client_that_stops_reading_is_closed_and_nobody_else_feels_it(
    pingless: ServerProcess,
) -> None:
    server, topic = pingless, "room:stopping"
    async with (
        await Room.open(server) as room,
        await subscribed(server, topic) as deaf,
        await chat(server.ws_url, token("fast")) as fast,
        await chat(server.ws_url, token("sender")) as sender,
    ):
        await fast.ok(type="subscribe", topic=topic)
        number, latencies, before, full = 0, [], 0, math.inf
        # The client is slow from when all buffers are full, and not from the beginning.
        while time.monotonic() - full < SLOW_SECONDS + 1:
            number += 1
            if number == FILLS_ALL:
                full = time.monotonic()
            sent_at = time.monotonic()
            await sender.send(type="publish", topic=topic, data=f"{number}".ljust(SIZE))
            message = await fast.next()
            latencies.append(time.monotonic() - sent_at)
            assert message["seq"] == number
            if number == 150:
                before = rss(server.pid)
        assert sorted(latencies)[len(latencies) * 95 // 100] < SLOW_SECONDS
        assert rss(server.pid) - before < MEMORY
        # What was written before it was given up on is still there to be read, then the reason.
        code, messages = await deaf.read_to_close()
        assert code == 4490
        assert messages[-1]["type"] == "goodbye"
        assert messages[-1]["code"] == 4490
        seen = [m["seq"] for m in messages[:-1]]
        assert seen == list(range(1, len(seen) + 1))
        await room.check_undisturbed()


async def test_a_client_that_never_reads_again_is_let_go(hasty: ServerProcess) -> None:
    topic = "room:never"
    async with (
        await Room.open(hasty) as room,
        await chat(hasty.ws_url, token("sender")) as sender,
        await chat(hasty.ws_url, token("reader")) as reader,
    ):
        await reader.ok(type="subscribe", topic=topic)
        # With these the history is full.
        usual = await latencies(sender, reader, topic, 1, 100)
        deaf = [await subscribed(hasty, topic) for _ in range(DEAF)]
        try:
            before = rss(hasty.pid)
            meanwhile = await latencies(sender, reader, topic, 101, 300)
            assert rss(hasty.pid) - before < DEAF * (SLOW_BUFFER + SLACK)
            # All that was to be written to them is: what comes now goes past them.
            limit = 25 * max(statistics.median(usual), 0.005)
            assert statistics.median(meanwhile[-100:]) < limit, "the reader feels them"
            await settle(hasty, 3)
            await room.check_undisturbed()
        finally:
            for client in deaf:
                client.reset()


# Heartbeats ------------------------------------------------------------------------------------


async def test_a_silent_client_is_pinged_and_its_pong_keeps_it(
    server: ServerProcess, transport: str
) -> None:
    if not close_code("a client that answers no ping", transport):
        pytest.skip("the ASGI transport has no pings")
    async with await RawClient.open(server.port, token=token()) as client:
        await client.read_message()
        for _ in range(2):
            got = await client.read_frame()
            assert got is not None
            assert got.opcode == rfc6455.PING
            await client.send(frame(rfc6455.PONG, got.payload))
        await client.send(text({"type": "ping", "id": 1}))
        assert await client.read_message() == {"type": "pong", "id": 1}


async def test_a_client_that_answers_no_ping_is_closed(
    server: ServerProcess, transport: str
) -> None:
    code = close_code("a client that answers no ping", transport)
    async with await RawClient.open(server.port, token=token()) as client:
        await client.read_message()
        if code:
            assert (await client.read_to_close())[0] == code
        else:
            await asyncio.sleep(5)
            await client.send(text({"type": "ping", "id": 1}))
            assert await client.read_message() == {"type": "pong", "id": 1}


async def test_a_busy_client_is_not_pinged(server: ServerProcess) -> None:
    async with await RawClient.open(server.port, token=token()) as client:
        await client.read_message()
        began = sent = time.monotonic()
        number = 0
        while time.monotonic() - began < 1.5:
            number += 1
            before, sent = sent, time.monotonic()
            await client.send(text({"type": "ping", "id": number}))
            got = await client.read_frame()
            if got is not None and got.opcode == rfc6455.PING:
                assert time.monotonic() - before > 0.25, "it was busy"
                got = await client.read_frame()
            assert got is not None
            assert got.opcode == rfc6455.TEXT
            await asyncio.sleep(0.02)
