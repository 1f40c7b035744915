"""Clients that want to hurt: each costs bounded memory and time, and nobody else feels it.

The fixture `bystanders` has two clients talk, from before the attack until after it. The test fails
unless each of their messages arrives once, in order and within `LATENCY`.
"""

import asyncio
import os
import resource
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest

from tests.rig import rfc6455, waiting
from tests.rig.chat_client import Chat, chat
from tests.rig.raw_client import RawClient, request
from tests.rig.rfc6455 import frame, text, upgrade
from tests.rig.server import ServerProcess
from tests.rig.waiting import SECONDS
from tests.server.processes import rss

from .differences import way
from .room import Room, count_connections, settle, token

HEAD_SECONDS = 5.0
PER_ADDRESS = 30
MAX_WEBSOCKETS = 60
MAX_HTTP = 80
RATE = 100
BURST = 200

ENVIRON = {
    "CHAT_AUTH__AUDIENCE": "chat",
    "CHAT_GATEWAY__CLOSE_TIMEOUT_SECONDS": "1",
    "CHAT_HTTP__HEAD_TIMEOUT_SECONDS": str(HEAD_SECONDS),
    "CHAT_HTTP__MAX_CONNECTIONS": str(MAX_HTTP),
    "CHAT_HTTP__REQUEST_TIMEOUT_SECONDS": "3",
    "CHAT_LIMITS__MAX_CONNECTIONS": str(MAX_WEBSOCKETS),
    "CHAT_LIMITS__MAX_CONNECTIONS_PER_ADDRESS": str(PER_ADDRESS),
    "CHAT_LIMITS__MAX_CONNECTIONS_PER_USER": "10000",
    "CHAT_LIMITS__MESSAGES_PER_SECOND": str(RATE),
    "CHAT_LIMITS__MESSAGE_BURST": str(BURST),
    "CHAT_LIMITS__SLOW_TIMEOUT_SECONDS": "60",
    "CHAT_SERVER__TRUSTED_PROXY_HOPS": "1",
}

MEMORY = 32 * 2**20
LATENCY = 10.0
"""What somebody else's message may take meanwhile: the machine may be busy."""

pytestmark = pytest.mark.usefixtures("quiet")


class Bystanders:
    """A publisher and a subscriber who go on talking, from before an attack until after it."""

    def __init__(self, topic: str, sender: Chat, receiver: Chat) -> None:
        self.topic = topic
        self.sender = sender
        self.receiver = receiver
        self.latencies: list[float] = []
        self._stop = asyncio.Event()

    async def talk(self) -> None:
        """Publish, and expect each message once and in order, until told to stop."""
        number = 0
        while not self._stop.is_set():
            number += 1
            began = time.monotonic()
            await self.sender.ok(type="publish", topic=self.topic, data=number)
            message = await self.receiver.next()
            self.latencies.append(time.monotonic() - began)
            assert (message["type"], message["data"]) == ("message", number)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), 0.02)

    def stop(self) -> None:
        """Let the present message be the last."""
        self._stop.set()


@pytest.fixture
async def bystanders(server: ServerProcess) -> AsyncIterator[Bystanders]:
    """Two who must not notice what the test does."""
    topic = f"room:bystanders:{time.monotonic_ns()}"
    async with (
        await chat(server.ws_url, token("sender")) as sender,
        await chat(server.ws_url, token("receiver")) as receiver,
    ):
        await receiver.ok(type="subscribe", topic=topic)
        pair = Bystanders(topic, sender, receiver)
        talking = asyncio.create_task(pair.talk())
        try:
            yield pair
        finally:
            pair.stop()
            await asyncio.gather(talking, return_exceptions=True)
        await talking
        assert pair.latencies
        assert max(pair.latencies) < LATENCY


def sockets(server: ServerProcess) -> int:
    """Return how many sockets the server has open."""
    found = 0
    for descriptor in Path(f"/proc/{server.pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            found += os.readlink(descriptor).startswith("socket:")
    return found


async def until_sockets(server: ServerProcess, at_most: int) -> None:
    """Wait until the server has no more sockets open than that."""
    await waiting.until(lambda: sockets(server) <= at_most)


@asynccontextmanager
async def crowd(server: ServerProcess, count: int) -> AsyncIterator[list[RawClient]]:
    """Connect by TCP so many times, and hang up at the end."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(await RawClient.connect(server.port))
            for _ in range(count)
        ]


def from_address(number: int) -> dict[str, str]:
    """Return what the proxy in front says of an address."""
    return {"X-Forwarded-For": f"10.0.0.{number}"}


# Connections -------------------------------------------------------------------------------------


async def test_a_flood_from_one_address_is_refused_past_its_limit(
    server: ServerProcess, bystanders: Bystanders
) -> None:
    connections = await count_connections(server)
    async with AsyncExitStack() as stack:
        codes = []
        for _ in range(PER_ADDRESS + 10):
            client = await RawClient.open(server.port, token=token(), headers=from_address(1))
            stack.push_async_exit(client)
            first = await client.read_message()
            codes.append(first.get("code"))
            if first["type"] == "goodbye":
                assert await client.read_to_close() == (4429, [])
        assert codes == [None] * PER_ADDRESS + [4429] * 10
        async with await RawClient.open(
            server.port, token=token(), headers=from_address(2)
        ) as other:
            assert (await other.read_message())["type"] == "welcome"
    await settle(server, connections)
    async with await RawClient.open(server.port, token=token(), headers=from_address(1)) as again:
        assert (await again.read_message())["type"] == "welcome"


async def test_past_the_limit_of_all_a_connection_is_told_to_come_back_later(
    server: ServerProcess, bystanders: Bystanders
) -> None:
    connections = await count_connections(server)
    async with AsyncExitStack() as stack:
        for number in range(MAX_WEBSOCKETS - connections):
            headers = from_address(number % 4)
            client = await RawClient.open(server.port, token=token(), headers=headers)
            stack.push_async_exit(client)
            assert (await client.read_message())["type"] == "welcome"
        async with await RawClient.open(
            server.port, token=token(), headers=from_address(9)
        ) as late:
            assert await late.read_to_close() == (1013, [GOODBYE])
        # Whoever looks after the server must still find it alive.
        assert (await request(server.port, "GET", "/health/live")).status == 200
    await settle(server, connections)


GOODBYE = {
    "type": "goodbye",
    "code": 1013,
    "reason": "the server has reached its limit of connections",
    "reconnect_in_ms": 0,
}


@pytest.mark.parametrize("how", ["tcp", "handshake", "websocket"])
async def test_connections_that_are_dropped_at_once_leave_nothing(
    server: ServerProcess, bystanders: Bystanders, how: str
) -> None:
    connections, open_before = await count_connections(server), sockets(server)
    head = upgrade(token=token())

    async def come_and_go(times: int) -> None:
        for _ in range(times):
            client = await RawClient.connect(server.port)
            if how != "tcp":
                await client.send(head)
            if how == "websocket":
                await client.read_answer()
            client.reset()

    await come_and_go(300)
    await settle(server, connections)
    before = rss(server.pid)
    await come_and_go(1_000)
    await settle(server, connections)
    await until_sockets(server, open_before)
    assert rss(server.pid) - before < 16 * 2**20


# Heads of requests -------------------------------------------------------------------------------


@pytest.mark.timing  # which of them end early, and which in time
async def test_connections_that_say_nothing_are_few_and_short(
    server: ServerProcess, bystanders: Bystanders, transport: str
) -> None:
    """Of more than there may be the oldest go, so that others still find room."""
    open_before = sockets(server)
    most = MAX_HTTP + (MAX_WEBSOCKETS if transport == "asgi" else 0)
    began = time.monotonic()
    async with crowd(server, most + 50) as clients:
        assert (await request(server.port, "GET", "/health/live")).status == 200
        async with await RawClient.open(server.port, token=token()) as client:
            assert (await client.read_message())["type"] == "welcome"

        async def end(client: RawClient) -> float:
            assert await client.read_to_end() == b""
            return time.monotonic() - began

        ends = await asyncio.gather(*(end(client) for client in clients))
    assert max(ends[:40]) < HEAD_SECONDS * 0.9 < min(ends[-40:])
    assert max(ends) < HEAD_SECONDS + SECONDS / 2
    await until_sockets(server, open_before)


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"

DRIPS: dict[str, tuple[bytes, Callable[[int], bytes]]] = {
    "a byte of a header": (b"GET /ws HTTP/1.1\r\nHost: a\r\nX: ", lambda _: b"x"),
    "headers": (b"GET / HTTP/1.1\r\nHost: a\r\n", lambda n: b"X-%d: y\r\n" % n),
    "line breaks": (b"", lambda _: b"\r\n"),
    "a second request": (
        b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nX: ",
        lambda _: b"x",
    ),
    "what follows the preface of HTTP/2": (PREFACE, lambda _: b"\0"),
}


async def test_a_head_that_never_ends_is_cut(server: ServerProcess, bystanders: Bystanders) -> None:
    """What comes meanwhile does not prolong the time."""
    open_before = sockets(server)
    await asyncio.gather(*(cut(server, drip) for drip in DRIPS))
    await until_sockets(server, open_before)


async def cut(server: ServerProcess, drip: str) -> None:
    """Drip until the server hangs up."""
    beginning, more = DRIPS[drip]
    async with await RawClient.connect(server.port) as client:
        await client.send(beginning)
        ending = asyncio.create_task(client.read_to_end())
        began = time.monotonic()
        number = 0
        while not ending.done():
            number += 1
            assert time.monotonic() - began < HEAD_SECONDS + SECONDS / 2, f"{drip}: not cut"
            with suppress(ConnectionError):
                await client.send(more(number))
            await asyncio.wait({ending}, timeout=0.1)
        await ending


# Clients that never read -------------------------------------------------------------------------


async def test_answers_of_http_that_nobody_reads(
    server: ServerProcess, bystanders: Bystanders
) -> None:
    """The connection ends although its answers can never be sent."""
    open_before, before = sockets(server), rss(server.pid)
    asked = b"GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n"
    async with await RawClient.connect(server.port, receive_buffer=4096) as client:
        await client.send(b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n")
        await client.take(1)
        # More than the kernels on both sides hold.
        await client.send_what_fits(asked * 900, patience=0.05)
        assert sockets(server) > open_before
        await waiting.until(lambda: sockets(server) <= open_before, 3 * SECONDS)
        assert rss(server.pid) - before < MEMORY


async def test_large_answers_that_nobody_reads_do_not_pile_up(
    server: ServerProcess, room: Room, bystanders: Bystanders
) -> None:
    """Each command asks for as much as an answer may hold."""
    topic = f"{room.topic}:large"
    async with await chat(server.ws_url, token("author")) as author:
        for _ in range(10):
            await author.ok(type="publish", topic=topic, data="x" * 60_000)
    before = rss(server.pid)
    asked = text({"type": "history", "id": 1, "topic": topic, "limit": 100})
    async with await RawClient.open(server.port, token=token(), receive_buffer=4096) as client:
        await client.send(asked * 150)
        await room.check_undisturbed()
        peak = await highest(server, 1.5)
        assert peak - before < MEMORY // 2, "all of them together are 38 MiB"
        # It was only made to wait.
        await client.read_message()
        answer = await client.read_message()
        assert (len(answer["messages"]), answer["more"]) == (4, True), "256 KiB at a time"
        client.reset()


async def highest(server: ServerProcess, seconds: float) -> int:
    """Return the most memory the server has within a time."""
    most, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        most = max(most, rss(server.pid))
        await asyncio.sleep(0.02)
    return most


# Commands without end ----------------------------------------------------------------------------


async def flood(client: RawClient, command: Callable[[int], object], per_second: float) -> None:
    """Send commands, never mind the answers, until the server has closed."""
    number, began = 0, time.monotonic()
    with suppress(ConnectionError):
        while True:
            due = int((time.monotonic() - began) * per_second)
            commands = [text(command(n)) for n in range(number, min(due, number + 500))]
            number += len(commands)
            await client.send(*commands)
            await asyncio.sleep(0.01)


async def flooded(
    server: ServerProcess, command: Callable[[int], object], per_second: float
) -> tuple[int, list[dict[str, object]], float]:
    """Flood the server; return the close code, the answers, and how long it took."""
    async with await RawClient.open(server.port, token=token()) as client:
        await client.read_message()
        began = time.monotonic()
        sending = asyncio.create_task(flood(client, command, per_second))
        try:
            code, answers = await client.read_to_close()
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
        return code, answers, time.monotonic() - began


async def test_publishing_at_a_hundred_times_the_rate(
    server: ServerProcess, room: Room, bystanders: Bystanders
) -> None:
    def publish(number: int) -> object:
        return {"type": "publish", "id": number + 1, "topic": f"{room.topic}:fast", "data": number}

    before = rss(server.pid)
    code, answers, took = await flooded(server, publish, 100 * RATE)
    assert code == 4429
    assert answers[-1]["type"] == "goodbye"
    accepted = [answer for answer in answers if answer["type"] == "ok"]
    refused = [answer for answer in answers if answer["type"] == "error"]
    assert BURST <= len(accepted) <= BURST + RATE * took + 1
    assert {error["code"] for error in refused} == {"rate_limited"}
    waits = [error["retry_in_ms"] for error in refused]
    assert all(isinstance(wait, int) and 0 < wait <= 1000 / RATE for wait in waits)
    assert rss(server.pid) - before < MEMORY


async def test_subscribing_and_leaving_without_end(
    server: ServerProcess, room: Room, bystanders: Bystanders
) -> None:
    def turn(number: int) -> object:
        kind = "unsubscribe" if number % 2 else "subscribe"
        return {"type": kind, "id": number + 1, "topic": f"{room.topic}:{number // 2}"}

    topics = await count_topics(server)
    before = rss(server.pid)
    code, answers, took = await flooded(server, turn, 100 * RATE)
    assert code == 4429
    carried_out = [answer for answer in answers if answer.get("code") != "rate_limited"]
    # The first subscriptions of a connection are taken beside its burst, as many as it may have.
    assert len(carried_out) <= BURST + 128 + RATE * took + 2
    async with asyncio.timeout(SECONDS):
        while True:
            if await count_topics(server) <= topics:
                break
            await asyncio.sleep(0.02)
    assert rss(server.pid) - before < MEMORY


@pytest.mark.parametrize("sent", [frame(rfc6455.PING), frame(rfc6455.CONT, fin=False)])
async def test_frames_that_are_no_messages_without_end(
    server: ServerProcess, bystanders: Bystanders, transport: str, sent: bytes
) -> None:
    if transport == "asgi":
        pytest.skip("an ASGI application does not see them")
    async with await RawClient.open(server.port, token=token()) as client:
        await client.read_message()
        await client.send(frame(rfc6455.TEXT, fin=False), sent * 2_000)
        code, answers = await client.read_to_close()
        assert (code, [answer["type"] for answer in answers]) == (4429, ["goodbye"])


async def count_topics(server: ServerProcess) -> int:
    """Return how many topics the server says that it serves."""
    topics: int = (await request(server.port, "GET", "/health")).json()["topics"]
    return topics


# Descriptors -------------------------------------------------------------------------------------


async def test_a_server_out_of_file_descriptors_comes_back(transport: str) -> None:
    """Accepting fails, which must neither end the server nor keep it busy for ever."""
    environ = {**ENVIRON, **way(transport)}
    with ServerProcess(environ={**environ, "CHAT_HTTP__MAX_CONNECTIONS": "5000"}) as server:
        async with await Room.open(server) as room:
            deny_descriptors(server, besides=20)
            async with crowd(server, 100):
                await room.check_undisturbed()
                busy = cpu_seconds(server)
                await asyncio.sleep(1)
                assert cpu_seconds(server) - busy < 0.5
                await room.check_undisturbed()
            await until_answered(server)
            await room.check_undisturbed()
            async with await chat(server.ws_url, token()) as newcomer:
                await newcomer.ok(type="subscribe", topic=room.topic)
        assert await asyncio.to_thread(server.stop) == 0


def deny_descriptors(server: ServerProcess, *, besides: int) -> None:
    """Let the server open no more than a few files and sockets besides those it has."""
    used = max(int(entry.name) for entry in Path(f"/proc/{server.pid}/fd").iterdir())
    _, hard = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (used + besides, hard))


async def until_answered(server: ServerProcess) -> None:
    """Wait until the server answers a new connection."""
    async with asyncio.timeout(SECONDS):
        while True:
            with suppress(OSError, AssertionError):
                if (await request(server.port, "GET", "/health/live")).status == 200:
                    return
            await asyncio.sleep(0.05)


def cpu_seconds(server: ServerProcess) -> float:
    """Return the processor time the server has used."""
    fields = Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
