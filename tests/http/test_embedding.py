"""An application that exists already embeds the chat, and stays what it was."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from quart import Quart, jsonify, websocket
from quart.typing import ResponseReturnValue
from websockets.exceptions import InvalidStatus

from chat_server import errors
from chat_server.extension import ChatServer
from chat_server.protocol.messages import User
from chat_server.settings import Settings
from tests.rig.chat_client import chat, open_websocket
from tests.rig.raw_client import request
from tests.rig.server import mint
from tests.rig.waiting import SECONDS
from tests.server.inprocess import Served, make_settings, serving

from .client import MESSAGES, PROBLEM


class Teapot(Exception):
    """An error of the embedding application."""


def embedding() -> Quart:
    """Return an application with everything that a chat could break."""
    app = Quart("embedding", static_folder=None)

    @app.get("/own")
    async def own() -> str:
        return "mine"

    @app.get("/teapot")
    async def teapot() -> str:
        raise Teapot

    @app.errorhandler(Teapot)
    async def on_teapot(_: Exception) -> ResponseReturnValue:
        return "short and stout", 418

    @app.errorhandler(404)
    async def on_missing(_: Exception) -> ResponseReturnValue:
        return jsonify({"mine": True}), 404

    @app.websocket("/own/socket")
    async def socket() -> None:
        await websocket.send("hello")
        while True:
            await websocket.send(await websocket.receive())

    return app


def embed(settings: Settings) -> tuple[Quart, ChatServer]:
    """Put a chat into such an application; it reads files, as any start does."""
    app = embedding()
    chat_server = ChatServer(settings)
    chat_server.init_app(app)
    return app, chat_server


@pytest.fixture
async def server() -> AsyncIterator[Served]:
    settings = make_settings(http__page=False)
    app, _ = await asyncio.to_thread(embed, settings)
    async with serving(settings, app=app) as served:
        yield served


async def test_keeps_its_routes_and_error_handlers(server: Served) -> None:
    own = await request(server.port, "GET", "/own")
    assert (own.status, own.body) == (200, b"mine")
    teapot = await request(server.port, "GET", "/teapot")
    assert (teapot.status, teapot.body) == (418, b"short and stout")
    missing = await request(server.port, "GET", "/nothing")
    assert (missing.status, missing.json()) == (404, {"mine": True})
    assert "content-security-policy" not in own.headers, "its headers are its own business"


async def test_keeps_its_websockets(server: Served) -> None:
    websocket = await open_websocket(f"ws://127.0.0.1:{server.port}/own/socket")
    async with asyncio.timeout(SECONDS):
        assert await websocket.recv() == "hello"
        for number in range(50):
            await websocket.send(f"{number}")
        assert [await websocket.recv() for _ in range(50)] == [str(n) for n in range(50)]
        await websocket.close()


async def test_the_chat_works_in_it(server: Served) -> None:
    assert (await request(server.port, "GET", "/health/ready")).status == 200
    async with await chat(server.ws_url, mint("bob")) as bob:
        await bob.ok(type="subscribe", topic="room:lobby")
        headers = {"Authorization": f"Bearer {mint('ada')}"}
        body = json.dumps({"data": "hello"}).encode()
        answer = await request(server.port, "POST", MESSAGES, headers=headers, body=body)
        assert answer.status == 201
        assert (await bob.next())["data"] == "hello"


async def test_the_application_publishes(server: Served) -> None:
    chat_server: ChatServer = server.app.extensions["chat_server"]
    async with await chat(server.ws_url, mint("bob")) as bob:
        await bob.ok(type="subscribe", topic="room:orders")
        place = await chat_server.publish("room:orders", {"text": "neu: 3 €"})
        again = [
            await chat_server.publish("room:orders", n, sender="shop", key="order-7")
            for n in range(2)
        ]
        whole = User("shop", name="The shop", info={"open": True})
        await chat_server.publish("room:orders", None, sender=whole)
        messages = [await bob.next() for _ in range(3)]
    assert [m["data"] for m in messages] == [{"text": "neu: 3 €"}, 0, None]
    assert [m["from"] for m in messages] == [
        None,
        {"user": "shop"},
        {"user": "shop", "name": "The shop", "info": {"open": True}},
    ]
    assert (place.topic, place.seq, place.at) == ("room:orders", 1, messages[0]["at"])
    assert [(p.seq, p.duplicate, p.epoch) for p in again] == [
        (2, False, place.epoch),
        (2, True, place.epoch),
    ]


async def test_the_application_streams_a_message(server: Served) -> None:
    chat_server: ChatServer = server.app.extensions["chat_server"]
    topic = "room:answers"
    async with await chat(server.ws_url, mint("bob")) as bob:
        await bob.ok(type="subscribe", topic=topic)
        place = await chat_server.publish(topic, "", sender="model", state="streaming")
        for token in ("Hel", "lo"):
            await chat_server.append(topic, place.seq, token, sender="model")
        ended = await chat_server.append(topic, place.seq, "", state="complete", sender="model")
        assert (ended.target, ended.length) == (place.seq, 5)
        await chat_server.edit(
            topic, place.seq, {"text": "Hello"}, sender="editor", key="k", epoch=place.epoch
        )
        pushes = [await bob.next() for _ in range(5)]
        assert [push["type"] for push in pushes[1:]] == ["appended"] * 3 + ["edited"]
        assert [push["from"]["user"] for push in pushes] == ["model"] * 4 + ["editor"]
        (message,) = (await bob.ok(type="history", topic=topic))["messages"]
        assert (message["data"], message["state"]) == ({"text": "Hello"}, "complete")
        await chat_server.delete(topic, place.seq)
        assert (await bob.next())["type"] == "deleted"
    with pytest.raises(errors.Gone):
        await chat_server.append(topic, place.seq, "x")
    with pytest.raises(errors.NotFound):
        await chat_server.delete(topic, 99)
    for change in (
        chat_server.edit(topic, place.seq, 1, epoch="elsewhere"),
        chat_server.append(topic, place.seq, "x", epoch="elsewhere"),
        chat_server.delete(topic, place.seq, epoch="elsewhere"),
    ):
        with pytest.raises(errors.NotFound, match="epoch: the topic has begun anew"):
            await change
    for wrong in ({"seq": 0, "text": "x"}, {"seq": 1, "text": "x", "state": "done"}):
        with pytest.raises(errors.BadRequest, match=r"^(seq|state): "):
            await chat_server.append(topic, **wrong)  # type: ignore[arg-type]


async def test_the_application_is_told_what_it_may_not_publish(server: Served) -> None:
    chat_server: ChatServer = server.app.extensions["chat_server"]
    for topic, data, error in (
        ("not a topic", 1, errors.BadRequest),
        ("room:orders", object(), errors.BadRequest),
        ("room:orders", float("nan"), errors.BadRequest),
        ("room:orders", "x" * 100_000, errors.TooLarge),
    ):
        with pytest.raises(error):
            await chat_server.publish(topic, data)
    await server.node.broker.stop()
    with pytest.raises(errors.Unavailable):
        await chat_server.publish("room:orders", 1)


async def test_the_chats_errors_are_the_chats(
    server: Served, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await request(server.port, "GET", MESSAGES)
    assert (answer.status, answer.headers["content-type"]) == (401, PROBLEM)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-request-id"] == answer.json()["request_id"]
    with pytest.raises(InvalidStatus) as caught:
        await open_websocket(server.ws_url, (), {"Authorization": "Bearer nonsense"})
    response = caught.value.response
    assert (response.status_code, response.headers["content-type"]) == (401, PROBLEM)
    assert json.loads(response.body or b"")["code"] == "unauthorized"
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_the_chat_starts_and_stops_with_it() -> None:
    app, chat_server = await asyncio.to_thread(embed, make_settings())
    assert app.extensions["chat_server"] is chat_server
    broker = chat_server.node.broker
    states = [(await broker.health()).status]
    async with app.test_app():
        states.append((await broker.health()).status)
    states.append((await broker.health()).status)
    assert states == ["unavailable", "ok", "unavailable"]
    assert chat_server.node.drain.begun


async def test_two_applications_in_one_process_share_nothing() -> None:
    async with (
        serving(make_settings()) as one,
        serving(make_settings()) as two,
        await chat(one.ws_url, mint("ada")) as ada,
        await chat(two.ws_url, mint("bob")) as bob,
    ):
        await bob.ok(type="subscribe", topic="room:lobby")
        await ada.ok(type="publish", topic="room:lobby", data=1)
        answer = await bob.ok(type="history", topic="room:lobby")
        assert answer["messages"] == []
        assert ada.welcome["server"] != bob.welcome["server"]
