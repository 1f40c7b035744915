"""Many at once who each do little wrong, and one who asks for all history again and again."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import pytest

from tests.rig.chat_client import open_websocket
from tests.rig.raw_client import RawClient
from tests.rig.rfc6455 import text, upgrade
from tests.rig.server import ServerProcess
from tests.rig.waiting import SECONDS
from tests.server.processes import rss

from . import test_hostile as hostile
from .differences import close_code
from .room import settle, token
from .test_hostile import MAX_WEBSOCKETS, Bystanders, crowd, from_address, sockets, until_sockets

PER_ADDRESS = 10
RATE = 50
BURST = 100
"""Messages a second and at once, as by default."""

ENVIRON = {
    **hostile.ENVIRON,
    "CHAT_GATEWAY__HEARTBEAT_SECONDS": "1",
    "CHAT_GATEWAY__PONG_TIMEOUT_SECONDS": "5",
    "CHAT_LIMITS__MAX_CONNECTIONS_PER_ADDRESS": str(PER_ADDRESS),
    "CHAT_LIMITS__MESSAGES_PER_SECOND": str(RATE),
    "CHAT_LIMITS__MESSAGE_BURST": str(BURST),
    "CHAT_LIMITS__READ_BURST_BYTES": "1000000000",
}

FLOOD = 500
HISTORY = 1_000
SIZE = 1_000
LAST = "the last of them"
REPLAYS = 20
TALKERS = 2
MEMORY = 8 * 2**20

bystanders = hostile.bystanders
pytestmark = pytest.mark.usefixtures("quiet")


async def test_a_crowd_that_answers_no_ping_is_sent_away(
    server: ServerProcess, bystanders: Bystanders, transport: str
) -> None:
    code = close_code("a client that answers no ping", transport)
    if not code:
        pytest.skip("an ASGI application cannot ping")
    open_before, before = sockets(server), rss(server.pid)

    async def keep_silent(number: int) -> tuple[int, str, int]:
        headers = from_address(number // PER_ADDRESS)
        async with await RawClient.open(server.port, token=token(), headers=headers) as client:
            end, (first, *_, last) = await client.read_to_close()
            return end, first["type"], last["code"]

    ends = await asyncio.gather(*(keep_silent(number) for number in range(50)))
    assert ends == [(code, "welcome", code)] * 50
    await until_sockets(server, open_before)
    assert rss(server.pid) - before < MEMORY


async def test_handshakes_that_drip_all_at_once_are_cut(
    server: ServerProcess, bystanders: Bystanders
) -> None:
    open_before, before = sockets(server), rss(server.pid)
    head = upgrade(token=token())
    async with crowd(server, 60) as clients:
        dripping = asyncio.gather(*(drip(client, head) for client in clients))
        peak = await hostile.highest(server, hostile.HEAD_SECONDS)
        assert await dripping == [b""] * 60
    assert peak - before < MEMORY
    await until_sockets(server, open_before)


async def drip(client: RawClient, data: bytes) -> bytes:
    """Send byte by byte, so slowly that it takes too long; return what the server said to it."""
    ending = asyncio.create_task(client.read_to_end())
    for byte in data:
        if ending.done():
            break
        with suppress(ConnectionError):
            await client.send(bytes([byte]))
        await asyncio.wait({ending}, timeout=0.05)
    return await ending


@pytest.mark.parametrize("code", [4429, 1013])
async def test_a_flood_of_connections_that_are_refused(
    server: ServerProcess, bystanders: Bystanders, code: int
) -> None:
    await settle(server, TALKERS)
    full = PER_ADDRESS if code == 4429 else MAX_WEBSOCKETS - TALKERS

    async def knock() -> tuple[int, list[Any]]:
        headers = from_address(0)
        async with await RawClient.open(server.port, token=token(), headers=headers) as client:
            end, said = await client.read_to_close()
            return end, [message.get("code") for message in said]

    async with members(server, full):
        before = None
        for _ in range(FLOOD // 25):
            refused = await asyncio.gather(*(knock() for _ in range(25)))
            assert refused == [(code, [code])] * 25
            before = before or rss(server.pid)  # with what the first of them need once
        assert before is not None
        assert rss(server.pid) - before < MEMORY
    await settle(server, TALKERS)


@asynccontextmanager
async def members(server: ServerProcess, count: int) -> AsyncIterator[None]:
    """Have so many connections that answer pings, as many from an address as may be."""
    bearer = {"Authorization": f"Bearer {token()}"}
    async with AsyncExitStack() as stack:
        for number in range(count):
            headers = bearer | from_address(number // PER_ADDRESS)
            member = await open_websocket(server.ws_url, headers=headers)
            await stack.enter_async_context(member)
            assert '"welcome"' in str(await member.recv())
        yield


@pytest.mark.parametrize("reads", [True, False])
async def test_asking_for_all_history_again_and_again(
    server: ServerProcess, bystanders: Bystanders, reads: bool
) -> None:
    """As often as the rate of its messages allows, on a topic that is full."""
    topic = f"room:full:{time.monotonic_ns()}"
    since = {"epoch": await fill(server, topic), "seq": 0}
    before, peak = rss(server.pid), 0
    began = time.monotonic()
    async with await RawClient.open(
        server.port, token=token(), receive_buffer=None if reads else 4096
    ) as client:
        for number in range(REPLAYS):
            await client.send(text({"type": "subscribe", "id": 1, "topic": topic, "since": since}))
            if reads:
                assert HISTORY - 1 <= await count_events(client) <= HISTORY
            await client.send(text({"type": "unsubscribe", "id": 2, "topic": topic}))
            peak = max(peak, rss(server.pid))
            await asyncio.sleep(began + 2 * number / RATE - time.monotonic())
        assert peak - before < MEMORY
        client.reset()
    # What it has asked for is read to the end, for nobody.
    await settle(server, TALKERS, 2 * SECONDS)


async def fill(server: ServerProcess, topic: str) -> str:
    """Publish as much as a topic keeps, each user as much as he may at once; return its epoch."""
    epoch: str = ""
    for number in range(0, HISTORY, BURST):
        author_token = token(f"author-{topic}-{number}")
        async with await RawClient.open(server.port, token=author_token) as author:
            await author.read_message()
            said = ["x" * SIZE] * BURST
            if number + BURST == HISTORY:
                said[-1] = LAST
            command = {"type": "publish", "id": 1, "topic": topic}
            await author.send(*(text({**command, "data": data}) for data in said))
            for _ in said:
                answer = await author.read_message()
                assert answer["type"] == "ok", answer
                epoch = answer["epoch"]
    await settle(server, TALKERS)
    return epoch


async def count_events(client: RawClient) -> int:
    """Read up to the last of a topic's events, as fast as may be; return how many there were."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(SECONDS):
        while LAST.encode() not in client.buffer:
            got = await loop.sock_recv(client.socket, 262_144)
            assert got, f"the connection ended: {bytes(client.buffer[-200:])!r}"
            client.buffer += got
    count = client.buffer.count(b'{"type":"message"')
    client.buffer.clear()
    return count
