"""Hooks are asked at every door, about everything that is written or read, and are heeded."""

import asyncio
from typing import Any

import msgspec
import pytest

from chat_server import errors
from chat_server.hooks import Call, Publication, Subscription
from tests.rig.chat_client import JSON, MSGPACK, chat
from tests.rig.raw_client import RawClient, request
from tests.rig.server import mint
from tests.server.inprocess import Served

from .conftest import GRANTS, chat_server, served

ROOM = "room:a"
TOKEN = mint("ada", name="Ada", ttl_seconds=86_400, **GRANTS)
BEARER = {"Authorization": f"Bearer {TOKEN}"}


async def post(server: Served, path: str, body: object, method: str = "POST") -> Any:
    answer = await request(
        server.port, method, path, headers=BEARER, body=msgspec.json.encode(body)
    )
    return answer.json()


async def post_at_the_hot_door(server: Served, path: str, body: object) -> Any:
    """Post what the front door serves itself: a request that asks for nothing special."""
    text = msgspec.json.encode(body)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\n"
        f"Content-Length: {len(text)}\r\n\r\n"
    )
    async with await RawClient.connect(server.port) as wire:
        await wire.send(head.encode(), text)
        return (await wire.read_answer()).json()


@pytest.mark.parametrize("encoding", [JSON, MSGPACK])
async def test_what_is_written_by_websocket(encoding: str) -> None:
    server = chat_server()
    seen: list[tuple[str, Any, int | None]] = []

    @server.on_publish("room:*")
    async def polite(publication: Publication) -> None:
        await asyncio.sleep(0)
        seen.append((publication.kind, publication.data, publication.seq))
        assert publication.user.name == "Ada"
        assert publication.session
        named = (publication.kind, publication.data) == ("edit", "bye")
        assert (publication.epoch is not None) == named
        if publication.data == "damn":
            raise errors.Forbidden("please\nstay \u202epolite")
        if isinstance(publication.data, str) and publication.kind != "react":
            publication.data = publication.data.upper()

    async with (
        served(server) as running,
        await chat(running.ws_url, TOKEN, encoding=encoding) as ada,
    ):
        await ada.ok(type="subscribe", topic=ROOM)
        place = await ada.ok(type="publish", topic=ROOM, data="hello")
        for command in ("publish", "signal"):
            refused = await ada.call(type=command, topic=ROOM, data="damn")
            assert refused["type"] == "error"
            assert (refused["code"], refused["topic"]) == ("forbidden", ROOM)
            assert refused["message"] == "please stay  polite"
        refused = await ada.call(type="edit", topic=ROOM, seq=1, data="damn")
        assert refused["code"] == "forbidden"
        refused = await ada.call(type="append", topic=ROOM, seq=1, text="damn")
        assert refused["code"] == "forbidden"
        await ada.ok(type="append", topic=ROOM, seq=1, text=" you")
        await ada.ok(type="react", topic=ROOM, seq=1, emoji="👍")
        await ada.ok(type="edit", topic=ROOM, seq=1, epoch=place["epoch"], data="bye")
        await ada.ok(type="signal", topic=ROOM, data="psst")
        await ada.ok(type="delete", topic=ROOM, seq=1)
        pushes = [await ada.next() for _ in range(6)]
        await ada.ok(type="publish", topic="other", data="damn")  # no hook of ours
    assert [push.get("data", push.get("text")) for push in pushes] == [
        *("HELLO", " YOU", None, "BYE", "PSST", None)
    ]
    assert seen == [
        ("publish", "hello", None),
        ("publish", "damn", None),
        ("signal", "damn", None),
        ("edit", "damn", 1),
        ("append", "damn", 1),
        ("append", " you", 1),
        ("react", "👍", 1),
        ("edit", "bye", 1),
        ("signal", "psst", None),
        ("delete", None, 1),
    ]


async def test_what_is_written_by_http() -> None:
    server = chat_server()

    @server.on_publish("room:*")
    async def numbers(publication: Publication) -> None:
        await asyncio.sleep(0)
        assert publication.session is None
        if not isinstance(publication.data, int):
            raise errors.BadRequest("data: must be a number")
        publication.data += 1

    path = f"/api/topics/{ROOM}/messages"
    async with served(server) as running:
        for door in (post, post_at_the_hot_door):
            assert (await door(running, path, {"data": 1}))["topic"] == ROOM
            refusal = await door(running, path, {"data": "x"})
            assert (refusal["status"], refusal["detail"]) == (400, "data: must be a number")
            items = [{"topic": ROOM, "data": data} for data in (1, "x", 3)]
            results = (await door(running, "/api/messages", {"messages": items}))["results"]
            assert [("seq" in each, each.get("error", {}).get("code")) for each in results] == [
                (True, None),
                (False, "bad_request"),
                (True, None),
            ]
        assert (await post(running, f"{path}/1", {"data": "x"}, "PATCH"))["code"] == "bad_request"
        # What the application does itself passes no hooks.
        await server.publish(ROOM, "free")
        page = (await request(running.port, "GET", path, headers=BEARER)).json()
    assert [each["data"] for each in page["messages"]] == [2, 2, 4, 2, 2, 4, "free"]


async def test_everything_that_reads_a_topic_is_asked_about() -> None:
    server = chat_server()
    asked: list[tuple[str, str | None]] = []

    @server.on_subscribe("room:*")
    async def members(subscription: Subscription) -> None:
        asked.append((subscription.kind, subscription.session))
        await asyncio.sleep(0)
        if subscription.topic == "room:closed":
            raise errors.NotFound("there is no such room")

    async with served(server) as running, await chat(running.ws_url, TOKEN) as ada:
        for topic, expected in ((ROOM, None), ("room:closed", "there is no such room")):
            asked.clear()
            for command in (
                {"type": "subscribe", "last": 1},
                {"type": "history"},
                {"type": "presence"},
                {"type": "read", "seq": 0},
            ):
                answer = await ada.call(topic=topic, **command)
                assert answer.get("message") == expected
            answer = await ada.call(type="unread", topics=["other", topic])
            assert answer.get("message") == expected
            session = ada.welcome["session"]
            kinds = ("subscribe", "history", "presence", "read", "unread")
            assert asked == [(kind, session) for kind in kinds]
            asked.clear()
            for name in ("messages", "position", "presence"):
                path = f"/api/topics/{topic}/{name}"
                found = (await request(running.port, "GET", path, headers=BEARER)).json()
                assert found.get("detail") == expected
            assert asked == [("history", None), ("position", None), ("presence", None)]
        # It is out of the topic, and may try again.
        assert (await ada.call(type="unsubscribe", topic="room:closed"))["code"] == "not_subscribed"


async def test_without_the_grant_no_hook_is_asked() -> None:
    server = chat_server()

    @server.on_subscribe
    @server.on_publish
    async def never(_: object) -> None:
        raise AssertionError

    nobody = mint("bob", subscribe=[], publish=[], history=[], presence=[])
    async with served(server) as running, await chat(running.ws_url, nobody) as bob:
        for command in ("subscribe", "history"):
            assert (await bob.call(type=command, topic=ROOM))["code"] == "forbidden"
        assert (await bob.call(type="publish", topic=ROOM, data=1))["code"] == "forbidden"
    assert server.hook_counts == {}


@pytest.mark.parametrize("encoding", [JSON, MSGPACK])
async def test_a_call(encoding: str) -> None:
    server = chat_server()

    @server.on_call("sum")
    async def add(call: Call) -> object:
        await asyncio.sleep(0)
        if not isinstance(call.data, list):
            raise errors.BadRequest("data: must be a list of numbers")
        return {"sum": sum(call.data), "for": call.user.user}

    server.on_call("nothing")(lambda call: None)
    server.on_call("large")(lambda call: "x" * 100_000)
    server.on_call("nonsense")(lambda call: object())

    async with served(server) as running:
        async with await chat(running.ws_url, TOKEN, encoding=encoding) as ada:
            ok = await ada.ok(type="call", method="sum", data=[1, 2, 2**53])
            assert ok["data"] == {"sum": 2**53 + 3, "for": "ada"}
            assert (await ada.ok(type="call", method="nothing", data=None))["data"] is None
            for method, data, code in (
                ("sum", 1, "bad_request"),
                ("product", [], "not_found"),
                ("a b", [], "bad_request"),
                ("large", 0, "internal"),
                ("nonsense", 0, "internal"),
            ):
                refused = await ada.call(type="call", method=method, data=data)
                assert refused["code"] == code, refused
        assert await post(running, "/api/call/sum", {"data": [1, 2]}) == {
            "data": {"sum": 3, "for": "ada"}
        }
        assert (await post(running, "/api/call/product", {"data": 1}))["code"] == "not_found"
        assert (await post(running, "/api/call/sum", {}))["code"] == "bad_request"
        answer = await request(running.port, "POST", "/api/call/sum", body=b'{"data":[]}')
        assert answer.status == 401


async def test_a_call_where_there_are_no_hooks() -> None:
    async with served(chat_server()) as running, await chat(running.ws_url, TOKEN) as ada:
        assert (await ada.call(type="call", method="sum", data=1))["code"] == "not_found"


async def test_what_users_store_is_told_in_order(told: "asyncio.Queue[Any]") -> None:
    server = chat_server()

    @server.on_event("room:*")
    async def note(event: Any) -> None:
        await asyncio.sleep(0.01 if event.seq == 1 else 0)
        told.put_nowait((event.seq, event.kind, event.data, event.target, event.user.user))

    async with served(server) as running, await chat(running.ws_url, TOKEN) as ada:
        place = await ada.ok(type="publish", topic=ROOM, data={"text": "a"}, key="k")
        await ada.ok(type="publish", topic=ROOM, data={"text": "a"}, key="k")  # a duplicate
        await ada.ok(type="signal", topic=ROOM, data=1)
        await server.publish(ROOM, "the application's own")
        await ada.ok(type="append", topic=ROOM, seq=1, text="b")
        await ada.ok(type="edit", topic=ROOM, seq=1, data="c")
        await ada.ok(type="react", topic=ROOM, seq=1, emoji="👍")
        await ada.ok(type="delete", topic=ROOM, seq=1)
        await post_at_the_hot_door(running, f"/api/topics/{ROOM}/messages", {"data": 7})
        found = [await told.get() for _ in range(6)]
    assert place["seq"] == 1
    assert told.empty()
    assert found == [
        (1, "message", {"text": "a"}, None, "ada"),
        (3, "appended", "b", 1, "ada"),
        (4, "edited", "c", 1, "ada"),
        (5, "reaction", "👍", 1, "ada"),
        (6, "deleted", None, 1, "ada"),
        (7, "message", 7, None, "ada"),
    ]
