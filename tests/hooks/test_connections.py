"""`on_connect` lets connections in or keeps them out; `on_disconnect` is told of their end."""

import asyncio
from typing import Any

import pytest

from chat_server import errors
from chat_server.hooks import Client
from tests.rig.chat_client import Chat as Chat
from tests.rig.chat_client import chat, open_websocket
from tests.rig.server import mint
from tests.rig.waiting import until

from .conftest import GRANTS, chat_server, served

JSON = ["chat.v1.json"]


async def test_commands_wait_until_the_hook_has_let_in(told: "asyncio.Queue[Any]") -> None:
    server, may_enter = chat_server(), asyncio.Event()

    @server.on_connect
    async def slow(client: Client) -> None:
        told.put_nowait(client)
        await may_enter.wait()

    @server.on_disconnect
    async def ended(client: Client) -> None:
        told.put_nowait(client)

    token = mint("ada", **GRANTS)
    async with served(server) as running:
        socket = await open_websocket(running.ws_url, JSON, {"Authorization": f"Bearer {token}"})
        async with Chat(socket) as ada:
            await ada.send(type="subscribe", topic="room:a", id=1)
            await ada.send(type="publish", topic="room:a", data="hi", id=2)
            client = await told.get()
            assert (client.user.user, client.address) == ("ada", "127.0.0.1")
            may_enter.set()
            heard = [await ada.next() for _ in range(4)]
            assert [each["type"] for each in heard[:2]] == ["welcome", "ok"]
            assert heard[0]["session"] == client.session
            assert sorted(each["type"] for each in heard[2:]) == ["message", "ok"]
        assert await told.get() == client


@pytest.mark.parametrize("first", ["handshake", "auth"])
@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.Forbidden("you are\x1b banned"), 4403),
        (errors.Unauthorized("the account is closed"), 4401),
        (errors.RateLimited("come later", retry_in_ms=70), 4429),
        (errors.Unavailable("the database is away", retry_in_ms=70), 1013),
        (ZeroDivisionError("secret"), 1011),
    ],
)
async def test_a_hook_keeps_a_connection_out(first: str, error: Exception, code: int) -> None:
    server = chat_server()

    @server.on_connect
    async def nobody(client: Client) -> None:
        raise error

    @server.on_disconnect
    async def ended(client: Client) -> None:
        raise AssertionError("it was never welcomed")

    token = mint("ada", **GRANTS)
    headers = {"Authorization": f"Bearer {token}"} if first == "handshake" else {}
    async with served(server) as running:
        async with Chat(await open_websocket(running.ws_url, JSON, headers)) as ada:
            if first == "auth":
                await ada.send(type="auth", token=token, id=1)
            assert await ada.closed() == code
            [goodbye] = [each for each in ada.unread if each["type"] == "goodbye"]
            assert goodbye["code"] == code
            assert "secret" not in goodbye["reason"]
            assert "\x1b" not in goodbye["reason"]
            if isinstance(error, errors.ChatError):
                assert goodbye["reconnect_in_ms"] == (error.retry_in_ms or 0)
        name = next(name for name, _ in server.hook_counts)
        outcome = "refused" if isinstance(error, errors.ChatError) else "failed"
        assert server.hook_counts[name, outcome] == 1
        await until(lambda: len(running.node.registry) == 0)
    assert len(server.hook_counts) == 2


async def test_a_new_token_is_not_asked_about() -> None:
    server, asked = chat_server(), 0

    @server.on_connect
    def count(client: Client) -> None:
        nonlocal asked
        asked += 1

    async with served(server) as running, await chat(running.ws_url, mint("ada")) as ada:
        await ada.ok(type="auth", token=mint("ada", name="Ada"))
    assert asked == 1


async def test_one_who_goes_meanwhile(told: "asyncio.Queue[Any]") -> None:
    server = chat_server()

    @server.on_connect
    async def forever(client: Client) -> None:
        told.put_nowait("asked")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            told.put_nowait("cancelled")
            raise

    token = mint("ada")
    async with served(server) as running:
        socket = await open_websocket(running.ws_url, JSON, {"Authorization": f"Bearer {token}"})
        assert await told.get() == "asked"
        socket.transport.abort()
        assert await told.get() == "cancelled"
        await until(lambda: len(running.node.registry) == 0)
