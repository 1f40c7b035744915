"""The places that connections take: freed however they end, counted by the client's own address."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from tests.rig.chat_client import chat
from tests.rig.raw_client import RawClient
from tests.rig.rfc6455 import BINARY, PING, closing, frame, text
from tests.rig.server import mint
from tests.rig.waiting import until
from tests.server.inprocess import make_settings, serving


def gone(client: RawClient) -> None:
    client.socket.close()


ENDS: list[Callable[[RawClient], Any]] = [
    gone,
    RawClient.reset,
    RawClient.half_close,
    lambda client: client.send(closing(1000)),
    lambda client: client.send(frame(BINARY, b"{}")),
    lambda client: client.send(b"nonsense"),
    lambda client: client.send(text("{") * 20),
]


@pytest.mark.parametrize("transport", ["direct", "asgi"])
async def test_however_a_connection_ends_its_place_is_free_again(transport: str) -> None:
    settings = make_settings(
        gateway__transport=transport,
        limits__max_connections_per_user=1,
        limits__max_connections_per_address=1,
    )
    async with serving(settings) as server:
        for end in ENDS:
            async with await RawClient.open(server.port, token=mint("ada")) as client:
                assert (await client.read_message())["type"] == "welcome", end
                if (ending := end(client)) is not None:
                    await ending
                if client.socket.fileno() >= 0:
                    await client.read_to_close()
                client.socket.close()
                await until(lambda: len(server.node.registry) == 0)


@pytest.mark.parametrize("hops", [0, 1])
async def test_addresses_behind_a_proxy_count_apart_if_it_is_trusted(hops: int) -> None:
    settings = make_settings(server__trusted_proxy_hops=hops, limits__max_connections_per_address=1)
    async with serving(settings) as server, AsyncExitStack() as stack:
        told = []
        for address in ("1.2.3.4", "5.6.7.8", "6.6.6.6, 1.2.3.4"):
            client = await RawClient.open(
                server.port, token=mint("ada"), headers={"X-Forwarded-For": address}
            )
            await stack.enter_async_context(client)
            told.append((await client.read_message())["type"])
        assert told == ["welcome", "welcome" if hops else "goodbye", "goodbye"]


@pytest.mark.parametrize("transport", ["direct", "asgi"])
async def test_who_only_sends_and_then_goes_leaves_nothing_behind(transport: str) -> None:
    """Not even with the HTTP server, which holds messages that nobody takes any more."""
    settings = make_settings(
        gateway__transport=transport,
        limits__slow_timeout_seconds=5,
        limits__message_burst=1_000_000,
        http__head_timeout_seconds=1,
    )
    asked = text({"type": "history", "id": 1, "topic": "room:a"}) + frame(PING, b"x" * 100)
    async with serving(settings) as server:
        async with await chat(server.ws_url, mint("bob")) as bob:
            for _ in range(40):
                await bob.ok(type="publish", topic="room:a", data="x" * 1_000)
        await until(lambda: len(server.node.registry) == 0)
        before = len(asyncio.all_tasks())
        async with await RawClient.open(
            server.port, token=mint("ada"), receive_buffer=4096
        ) as client:
            await client.send_what_fits(asked * 40_000, patience=0.5)
            assert len(server.node.registry) == 1
            client.reset()
        await until(lambda: len(asyncio.all_tasks()) <= before)
        assert len(server.node.registry) == 0
