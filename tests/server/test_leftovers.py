"""A connection that has ended leaves nothing that only a full collection of garbage would find."""

import asyncio
import gc
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import uvloop

from chat_server.app import create_app
from tests.rig.certificates import make_certificate
from tests.rig.raw_client import RawClient
from tests.rig.rfc6455 import closing, text, upgrade
from tests.rig.server import mint
from tests.rig.waiting import until

from .inprocess import Served, make_settings, serving

COUNT = 100

# One for all connections: each reads the system's certificates.
TRUSTING = ssl.create_default_context()
TRUSTING.check_hostname = False
TRUSTING.verify_mode = ssl.CERT_NONE

Kind = Callable[[Served, AsyncExitStack], Awaitable[None]]


SUBSCRIBE = text({"type": "subscribe", "id": 1, "topic": "room:a"})
PUBLISH = text({"type": "publish", "id": 2, "topic": "room:a", "data": 1})


async def subscribed(server: Served, stack: AsyncExitStack) -> None:
    client = await stack.enter_async_context(await RawClient.open(server.port, token=mint("ada")))
    await client.send(SUBSCRIBE, PUBLISH)
    while (await client.read_message()).get("id") != 2:
        pass


async def closed_well(server: Served, stack: AsyncExitStack) -> None:
    client = await stack.enter_async_context(await RawClient.open(server.port, token=mint("ada")))
    stack.push_async_callback(client.read_to_close)
    stack.push_async_callback(client.send, closing())


async def secure(server: Served, stack: AsyncExitStack) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=TRUSTING)
    writer.write(upgrade(token=mint("ada")))
    await reader.readuntil(b"welcome")
    writer.write(SUBSCRIBE)
    await reader.readuntil(b'"ok"')
    stack.callback(writer.close)


async def unauthenticated(server: Served, stack: AsyncExitStack) -> None:
    await stack.enter_async_context(await RawClient.open(server.port))


async def sent_away(server: Served, stack: AsyncExitStack) -> None:
    client = await stack.enter_async_context(await RawClient.open(server.port))
    await client.send(text({"type": "auth", "id": 1, "token": "nonsense"}))


async def torn(server: Served, stack: AsyncExitStack) -> None:
    client = await RawClient.open(server.port, token=mint("ada"))
    await client.read_message()
    stack.callback(client.reset)


async def refused(server: Served, stack: AsyncExitStack) -> None:
    client = await stack.enter_async_context(await RawClient.connect(server.port))
    await client.send(upgrade(token="nonsense"))
    assert (await client.read_answer()).status == 401


async def asking(server: Served, stack: AsyncExitStack) -> None:
    client = await stack.enter_async_context(await RawClient.connect(server.port))
    await client.send(b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (await client.read_answer()).status == 200


async def silent(server: Served, stack: AsyncExitStack) -> None:
    await stack.enter_async_context(await RawClient.connect(server.port))


def post(path: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n"
    return f"{head}Authorization: Bearer {mint('ada')}\r\n\r\n".encode() + body


async def publishing(server: Served, stack: AsyncExitStack) -> None:
    """By the front door, by Hypercorn, and by the front door again; the last one is cut off."""
    client = await stack.enter_async_context(await RawClient.connect(server.port))
    one = post("/api/topics/room:a/messages", b'{"data":1}')
    many = post("/api/messages", b'{"messages":[{"topic":"room:a","data":1}]}')
    await client.send(one, many, b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n", one, one[:-1])
    assert [(await client.read_answer()).status for _ in range(4)] == [201, 200, 200, 201]


PLAIN = [
    *(subscribed, closed_well, unauthenticated, sent_away, torn, refused, asking, silent),
    publishing,
]


def living() -> Counter[str]:
    return Counter(type(each).__qualname__ for each in gc.get_objects())


@pytest.mark.parametrize("transport", ["direct", "asgi"])
@pytest.mark.parametrize("kind", [*PLAIN, secure])
def test_what_is_left_of_a_connection(kind: Kind, transport: str, tmp_path: Path) -> None:
    """In uvloop, which serves; each of asyncio's own transports refers to itself for ever."""
    tls = {}
    if kind is secure:
        tls["server__tls_certificate_file"] = str(make_certificate(tmp_path))

    async def main() -> Counter[str]:
        settings = make_settings(
            gateway__transport=transport,
            gateway__auth_timeout_seconds=60,
            limits__messages_per_second=10_000,
            **tls,
        )
        app = await asyncio.to_thread(create_app, settings)
        async with serving(settings, app=app) as server:
            await come_and_go(server, kind, 3)
            return await come_and_go(server, kind, COUNT)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        left = runner.run(main())
    assert sum(left.values()) < COUNT / 2, left


async def come_and_go(server: Served, kind: Kind, count: int) -> Counter[str]:
    """Let connections come, grow old and go, and return what is garbage then."""
    tasks = len(asyncio.all_tasks())
    async with AsyncExitStack() as stack:
        for _ in range(count):
            await kind(server, stack)
        gc.collect()  # what lives now is old, and nothing but a full collection looks at it again
        gc.disable()
    await until(lambda: not len(server.node.registry) and len(asyncio.all_tasks()) <= tasks)
    await asyncio.sleep(0.1)
    # What DEBUG_SAVEALL saves would not do: a generator in a circle is closed first, and frees it.
    before = living()
    gc.collect()
    gc.enable()
    return before - living()
