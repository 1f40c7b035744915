"""`POST /api/messages`: many publications in one request."""

import asyncio
import json
import logging
import time
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from quart import Response

from chat_server.app import create_app
from chat_server.extension import ChatServer
from chat_server.hooks import Publication
from chat_server.protocol.errors import RateLimited
from chat_server.service.actor import Actor
from chat_server.service.batch import publish_batch
from tests.rig.fakes import FakeBroker, turns, until
from tests.rig.raw_client import Answer, RawClient
from tests.rig.server import mint
from tests.server.inprocess import make_settings, serving

from ..realtime.world import World, claims
from ..rig.clock import ManualClock
from .client import BATCH, MESSAGES, Client, client, problem

MAX_BYTES = 65_536


def clock_of_today() -> ManualClock:
    # The tokens of these tests are issued by the real clock.
    return ManualClock(wall=time.time())


async def results(response: Response) -> list[dict[str, Any]]:
    assert response.status_code == 200, await response.get_data()
    assert response.headers["Cache-Control"] == "no-store"
    answer = await response.get_json()
    assert set(answer) == {"results"}
    found: list[dict[str, Any]] = answer["results"]
    return found


def item(data: object, topic: str = "room:lobby", **more: Any) -> dict[str, Any]:
    return {"topic": topic, "data": data, **more}


async def test_each_message_is_stored_in_its_place() -> None:
    async with client() as http:
        found = await results(
            await http.publish_many(
                item("a"), item("b", "room:other"), item("c"), item("d", state="streaming")
            )
        )
        places = [(each["topic"], each["seq"], each["duplicate"]) for each in found]
        assert places == [
            ("room:lobby", 1, False),
            ("room:other", 1, False),
            ("room:lobby", 2, False),
            ("room:lobby", 3, False),
        ]
        assert all(set(each) == {"topic", "seq", "epoch", "at", "duplicate"} for each in found)
        messages = (await (await http.history()).get_json())["messages"]
        assert [message["data"] for message in messages] == ["a", "c", "d"]
        assert messages[2]["state"] == "streaming"
        assert found[0]["at"] == messages[0]["at"]


async def test_keys_work_within_a_batch_and_between_requests() -> None:
    async with client() as http:
        await http.publish("a", key="one")
        found = await results(
            await http.publish_many(
                item("b", key="one"), item("c", key="two"), item("d", key="two")
            )
        )
        assert [(each["seq"], each["duplicate"]) for each in found] == [
            (1, True),
            (2, False),
            (2, True),
        ]


BAD_ITEMS: list[tuple[object, str, str]] = [
    (5, "bad_request", "map"),
    (None, "bad_request", "map"),
    ([], "bad_request", "map"),
    ({}, "bad_request", "topic"),
    ({"topic": "room:lobby"}, "bad_request", "data"),
    ({"data": 1}, "bad_request", "topic"),
    (item(1, topic="bad topic"), "bad_request", "topic"),
    (item(1, topic=""), "bad_request", "topic"),
    (item(1, key=""), "bad_request", "key"),
    (item(1, key=5), "bad_request", "key"),
    (item(1, state="complete"), "bad_request", "state"),
    (item({"__proto__": 1}), "bad_request", "data"),
    (item(2**70), "bad_request", "data"),
    (item(1, topic="secret"), "forbidden", "topic"),
    (item("x" * MAX_BYTES), "too_large", "data"),
]


@pytest.mark.parametrize(("bad", "code", "field"), BAD_ITEMS)
async def test_a_bad_message_fails_alone(bad: object, code: str, field: str) -> None:
    token = mint("ada", publish=["room:*"])
    async with client() as http:
        found = await results(await http.publish_many(item("a"), bad, item("b"), token=token))
        assert [found[0]["seq"], found[2]["seq"]] == [1, 2]
        assert set(found[1]) == {"error"}
        error = found[1]["error"]
        assert error["code"] == code
        assert field in error["message"]
        if code != "bad_request":
            assert error["topic"] == bad["topic"]  # type: ignore[index]


async def test_text_that_is_not_utf8_fails_alone() -> None:
    body = b'{"messages":[{"topic":"room:lobby","data":"\xff"},{"topic":"room:lobby","data":1}]}'
    async with client() as http:
        found = await results(await http.ask("POST", BATCH, token=mint("ada"), data=body))
        assert found[0]["error"]["code"] == "bad_request"
        assert found[1]["seq"] == 1


@pytest.mark.parametrize("data", ['"\\ud83d"', '{"\\ude00":1}', "NaN", "[-Infinity]"])
async def test_what_no_strict_decoder_takes_fails_alone(data: str) -> None:
    body = json.dumps({"messages": [item("é😀"), item("?"), item(2.0)]}).replace('"?"', data)
    async with client() as http:
        found = await results(await http.ask("POST", BATCH, token=mint("ada"), data=body.encode()))
        assert [each.get("seq") for each in found] == [1, None, 2]
        rule = "half a surrogate pair" if "u" in data else "NaN and infinity have no JSON form"
        assert found[1]["error"]["message"].startswith("data: ")
        assert rule in found[1]["error"]["message"]
        page = await (await http.history()).get_json()
        assert [each["data"] for each in page["messages"]] == ["é😀", 2.0]


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"}", b"[]", b"5", b"null", b"{}", b'"x"', b'{"messages":5}', b'{"messages":{}}'),
        *(b'{"messages":null}', b'{"messages":[]}', b'{"messages":[', b'{"messages":[}]}', b"\xff"),
        b'{"messages":[' + b",".join([b"{}"] * 1_001) + b"]}",
        b"[" * 10_000,
        b'{"messages":' + b"[" * 10_000,
    ],
)
async def test_a_body_that_is_no_batch_is_refused(body: bytes) -> None:
    async with client() as http:
        response = await http.ask("POST", BATCH, token=mint("ada"), data=body)
        await problem(response, 400, "bad_request")
        page = await (await http.history()).get_json()
        assert page["messages"] == []


async def test_a_thousand_messages_are_taken_at_once() -> None:
    async with client(limits__message_burst=1_000) as http:
        found = await results(await http.publish_many(*(item(n) for n in range(1_000))))
        assert [each["seq"] for each in found] == list(range(1, 1_001))


async def test_a_token_is_needed_and_others_methods_are_not_taken() -> None:
    async with client() as http:
        await problem(await http.ask("POST", BATCH, json={"messages": []}), 401, "unauthorized")
        response = await http.ask("GET", BATCH, token=mint("ada"))
        await problem(response, 405, "method_not_allowed")


async def test_each_message_counts_against_the_rate_and_the_order_can_be_kept() -> None:
    clock = clock_of_today()
    flags = {"limits__message_burst": 10, "limits__messages_per_second": 2}
    async with client(clock=clock, **flags) as http:
        found = await results(await http.publish_many(*(item(n) for n in range(15))))
        assert [each.get("seq") for each in found] == [*range(1, 11), *[None] * 5]
        assert {each["error"]["code"] for each in found[10:]} == {"rate_limited"}
        assert {each["error"]["retry_in_ms"] for each in found[10:]} == {500}
        # The request counts as its first message does.
        response = await http.publish_many(item("late"))
        assert (await problem(response, 429, "rate_limited"))["retry_in_ms"] == 500
        clock.advance(1)
        found = await results(await http.publish_many(*(item(n) for n in range(10, 15))))
        assert [each.get("seq") for each in found] == [11, 12, None, None, None]


async def test_the_bytes_of_each_message_count() -> None:
    clock = clock_of_today()
    flags = {"limits__message_burst": 10, "limits__messages_per_second": 2}
    large = "x" * 4_096 * 3
    async with client(clock=clock, **flags) as http:
        found = await results(await http.publish_many(*[item(large)] * 5))
        # Each costs four of ten; who has one left may owe the rest.
        assert ["seq" in each for each in found] == [True, True, True, False, False]


async def test_a_bad_message_counts_too() -> None:
    flags = {"limits__message_burst": 3, "limits__messages_per_second": 1}
    async with client(clock=clock_of_today(), **flags) as http:
        found = await results(await http.publish_many(5, 5, 5, item("a")))
        assert [each["error"]["code"] for each in found] == [*["bad_request"] * 3, "rate_limited"]


async def test_a_batch_that_is_none_counts_with_its_bytes() -> None:
    flags = {"limits__message_burst": 10, "limits__messages_per_second": 1}
    async with client(clock=clock_of_today(), **flags) as http:
        body = b"x" * 4_096 * 10
        await problem(
            await http.ask("POST", BATCH, token=mint("ada"), data=body), 400, "bad_request"
        )
        await problem(await http.publish_many(item(1)), 429, "rate_limited")


def padded(size: int) -> bytes:
    body = msgspec.json.encode({"messages": [item("a")]})
    return body + b" " * (size - len(body))


@pytest.mark.parametrize("chunked", [False, True])
async def test_the_body_has_a_bound_of_its_own(chunked: bool) -> None:
    """Over a real connection: the HTTP server must let the body pass."""
    async with serving(make_settings(limits__message_burst=1_000)) as served:
        for size, status in ((16 * MAX_BYTES, 200), (16 * MAX_BYTES + 1, 413)):
            body = padded(size)
            answer = await post(served.port, BATCH, body, chunked=chunked)
            assert answer.status == status
            if status == 413:
                assert answer.json()["code"] == "too_large"
        for path in (MESSAGES, f"{MESSAGES}/1/append"):
            answer = await post(served.port, path, padded(MAX_BYTES + 1), chunked=chunked)
            assert (answer.status, answer.json()["code"]) == (413, "too_large")


async def post(port: int, path: str, body: bytes, *, chunked: bool) -> Answer:
    headers = [f"POST {path} HTTP/1.1", "Host: a", f"Authorization: Bearer {mint('ada')}"]
    if chunked:
        headers.append("Transfer-Encoding: chunked")
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    else:
        headers.append(f"Content-Length: {len(body)}")
    async with await RawClient.connect(port) as wire:
        with suppress(ConnectionError):  # who sends too much may be cut off
            await wire.send("\r\n".join([*headers, "", ""]).encode(), body)
        return await wire.read_answer()


async def test_what_is_not_done_in_time_may_still_be_stored() -> None:
    broker = FakeBroker()
    app = create_app(make_settings(http__request_timeout_seconds=2), broker=broker)
    async with app.test_app() as test_app:
        http = Client(app, test_app.test_client())
        broker.publications = []
        asking = asyncio.create_task(http.publish_many(item("a"), item("b"), 5))
        await until(lambda: len(broker.publications or ()) == 2)
        broker.publications[0].set_result(broker._publish(broker.calls[-2][1]))
        found = await results(await asking)
        assert found[0]["seq"] == 1
        assert found[1]["error"]["code"] == "unavailable"
        assert found[1]["error"]["retry_in_ms"] == 1_000
        assert "may still be stored" in found[1]["error"]["message"]
        assert found[2]["error"]["code"] == "bad_request"


async def test_all_are_started_before_any_is_awaited_and_fail_alone() -> None:
    world = World()
    await world.start()
    broker = world.broker
    broker.publications = []
    actor = Actor(claims())
    body = msgspec.json.encode({"messages": [item("a"), item("b"), item("c")]})
    task = asyncio.create_task(publish_batch(world.service, actor, body))
    await turns(1)
    assert len(broker.publications) == 3
    broker.publications[1].set_exception(RateLimited("of the broker", retry_in_ms=7))
    broker.publications[2].set_exception(ZeroDivisionError())
    broker.publications[0].set_result(broker._publish(broker.calls[-3][1]))
    found = (await task).results
    assert found[0].seq == 1
    assert found[1].error is not None
    assert (found[1].error.code, found[1].error.retry_in_ms) == ("rate_limited", 7)
    assert found[2].error is not None
    assert found[2].error.code == "internal"
    await world.stop()


async def test_a_request_that_ends_leaves_nothing_behind() -> None:
    world = World()
    await world.start()
    world.broker.publications = []
    body = msgspec.json.encode({"messages": [item("a"), item("b")]})
    task = asyncio.create_task(publish_batch(world.service, Actor(claims()), body))
    await turns(1)
    first, second = world.broker.publications
    first.set_exception(RateLimited("of the broker"))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert second.cancelled()
    await world.stop()


async def test_a_fault_of_one_message_is_logged_and_its_own(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = create_app(make_settings())
    chat: ChatServer = app.extensions["chat_server"]

    @chat.on_publish("room:faulty", "room:full")
    def faulty_hook(publication: Publication) -> None:
        if publication.topic == "room:faulty":
            raise ZeroDivisionError
        raise RateLimited("room: is full", retry_in_ms=5)

    async with app.test_app() as test_app:
        http = Client(app, test_app.test_client())
        with caplog.at_level(logging.ERROR):
            found = await results(
                await http.publish_many(item(1, "room:faulty"), item(2, "room:full"), item(3))
            )
    assert [each.get("error", {}).get("code") for each in found] == [
        "internal",
        "rate_limited",
        None,
    ]
    assert "ZeroDivisionError" in caplog.text
