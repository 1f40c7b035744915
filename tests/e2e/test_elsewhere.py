"""Under other ASGI servers the whole of a chat works as well, only at a higher cost."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from quart.testing.connections import WebsocketDisconnectError
from werkzeug.datastructures import Headers

from chat_server.app import create_app
from tests.rig.chat_client import MSGPACK, chat
from tests.rig.raw_client import request
from tests.rig.server import ServerProcess
from tests.rig.waiting import SECONDS
from tests.server.inprocess import make_settings
from tests.server.processes import rss

from .elsewhere import StockHypercorn
from .room import settle, token
from .test_flow import MEMORY, check_complete, publish, read_to, subscribed

ENVIRON = {
    "CHAT_AUTH__AUDIENCE": "chat",
    "CHAT_LIMITS__MESSAGES_PER_SECOND": "1000000",
    "CHAT_LIMITS__MESSAGE_BURST": "1000000",
    "CHAT_LIMITS__SLOW_TIMEOUT_SECONDS": "60",
    "CHAT_NAMESPACES__ROOM__HISTORY_SIZE": "100",
}


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with StockHypercorn(environ=ENVIRON) as started:
        yield started


async def test_people_talk_leave_and_resume(server: ServerProcess) -> None:
    topic = "room:talk"
    async with (
        await chat(server.ws_url, token("ada")) as ada,
        await chat(server.ws_url, token("bob"), encoding=MSGPACK) as bob,
        await chat(server.ws_url, token("eve"), bearer=True) as eve,
    ):
        place = await ada.ok(type="subscribe", topic=topic)
        await bob.ok(type="subscribe", topic=topic)
        await eve.ok(type="publish", topic=topic, data={"text": "Grüße"})
        await eve.ok(type="signal", topic=topic, data="typing")
        for client in (ada, bob):
            message = await client.next()
            assert (message["type"], message["data"]) == ("message", {"text": "Grüße"})
            assert (await client.next())["type"] == "signal"
        await ada.websocket.close(1000)
        await settle(server, 2)
        bearer = {"Authorization": f"Bearer {token()}", "Content-Type": "application/json"}
        path = f"/api/topics/{topic}/messages"
        body = json.dumps({"data": "by HTTP"}).encode()
        published = await request(server.port, "POST", path, headers=bearer, body=body)
        assert published.status == 201, published
        assert (await bob.next())["data"] == "by HTTP"
        async with await chat(server.ws_url, token("ada")) as again:
            since = {"epoch": place["epoch"], "seq": 1}
            answer = await again.ok(type="subscribe", topic=topic, since=since)
            assert (answer["recovered"], answer["replayed"]) == (True, 1)
            assert (await again.next())["data"] == "by HTTP"
    await settle(server, 0)


async def test_a_client_that_pauses_is_told_of_what_it_missed(server: ServerProcess) -> None:
    count, topic = 400, "room:pausing"
    async with (
        await subscribed(server, topic) as slow,
        await chat(server.ws_url, token("fast")) as sender,
    ):
        before = rss(server.pid)
        await publish(sender, topic, 1, count)
        assert rss(server.pid) - before < MEMORY
        messages = await read_to(slow, count)
        check_complete(messages, count, gaps=True)
        assert any(message["type"] == "gap" for message in messages)
        await publish(sender, topic, count + 1, 3)
        live = [(await slow.read_message())["seq"] for _ in range(3)]
        assert live == [count + 1, count + 2, count + 3]
        slow.reset()
    await settle(server, 0)


# In Quart's test client --------------------------------------------------------------------------


async def test_quarts_test_client_reaches_it() -> None:
    app = await asyncio.to_thread(create_app, make_settings(auth__audience="chat"))
    node = app.extensions["chat_server"].node

    async def ask(client: Any, **command: object) -> object:
        await client.send(msgspec.json.encode(command).decode())
        return await told(client)

    async def told(client: Any) -> object:
        async with asyncio.timeout(SECONDS):
            message = json.loads(await client.receive())
        return message["type"]

    async with app.test_app() as running:
        headers = Headers({"Authorization": f"Bearer {token('ada')}"})
        async with running.test_client().websocket("/ws", headers=headers) as ada:
            assert await told(ada) == "welcome"
            assert await ask(ada, type="subscribe", id=1, topic="room:a") == "ok"
            assert await ask(ada, type="publish", topic="room:a", data="hello") == "message"
            assert await ask(ada, type="ping") == "pong"
            assert len(node.registry) == 1
            await ada.send(b"binary")
            assert await told(ada) == "goodbye"
            with pytest.raises(WebsocketDisconnectError) as closed:
                await told(ada)
            assert closed.value.args == (1003,)
        assert len(node.registry) == 0
