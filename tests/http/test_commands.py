"""What a route of a later command gets by itself, from the one helper that all routes use."""

from typing import Any

import pytest
from quart import Quart, Response

from chat_server.app import create_app
from chat_server.extension import ChatServer
from chat_server.http.commands import RequestCommands, respond
from chat_server.protocol.commands import History, Publish
from tests.rig.fakes import FakeBroker
from tests.rig.server import mint
from tests.server.inprocess import make_settings

from .client import Client, problem

TOY = "/api/toys/room:lobby"
BURST = 20


def make_app(**flags: Any) -> Quart:
    """Return an application with the routes of a toy, written as CONTRIBUTING.md says."""
    settings = make_settings(limits__message_burst=BURST, limits__messages_per_second=1, **flags)
    app = create_app(settings)
    chat: ChatServer = app.extensions["chat_server"]
    commands = RequestCommands(chat.service)

    @app.patch("/api/toys/<path:topic>")
    async def patch(topic: str) -> Response:
        return respond(await commands.run(Publish, topic, key="fixed"), 202)

    @app.delete("/api/toys/<path:topic>/<int:seq>")
    async def delete(topic: str, seq: int) -> Response:
        return respond(await commands.run(History, topic, after=seq))

    return app


@pytest.fixture
async def http() -> Any:
    app = make_app()
    async with app.test_app() as test_app:
        yield Client(app, test_app.test_client())


async def test_the_answer_is_the_commands(http: Client) -> None:
    body = {"data": [1], "key": "ours is replaced", "topic": "room:other", "id": 7}
    response = await http.ask("PATCH", TOY, token=mint("ada"), json=body)
    assert response.status_code == 202
    answer = await response.get_json()
    assert (answer["topic"], answer["seq"], answer["duplicate"]) == ("room:lobby", 1, False)
    assert response.headers["Cache-Control"] == "no-store"
    again = await http.ask("PATCH", TOY, token=mint("ada"), json=body)
    assert (await again.get_json())["duplicate"] is True
    page = await (await http.ask("DELETE", f"{TOY}/0?limit=5", token=mint("ada"))).get_json()
    assert [message["data"] for message in page["messages"]] == [[1]]


@pytest.mark.parametrize("body", [b"}}no json", b"", b"[]", b"{}", b'{"data"}', b'{"data":"\xff"}'])
async def test_a_body_that_is_no_command_is_refused(http: Client, body: bytes) -> None:
    await problem(await http.ask("PATCH", TOY, token=mint("ada"), data=body), 400, "bad_request")


async def test_fields_of_the_address_have_their_bounds(http: Client) -> None:
    for seq in ("99999999999999999999", "9" * 40):
        response = await http.ask("DELETE", f"{TOY}/{seq}", token=mint("ada"))
        assert (await problem(response, 400, "bad_request"))["detail"].startswith("after: ")
    response = await http.ask("DELETE", f"{TOY}/1?limit=301", token=mint("ada"))
    assert (await problem(response, 400, "bad_request"))["detail"].startswith("limit: ")
    response = await http.ask("DELETE", f"{TOY}/1?before=2", token=mint("ada"))
    assert "only one of them" in (await problem(response, 400, "bad_request"))["detail"]


async def test_token_and_grant_are_needed(http: Client) -> None:
    json = {"data": 1}
    await problem(await http.ask("PATCH", TOY, json=json), 401, "unauthorized")
    token = mint("bob", publish=["private"])
    await problem(await http.ask("PATCH", TOY, token=token, json=json), 403, "forbidden")


async def test_requests_count_and_so_do_their_bytes(http: Client) -> None:
    token = mint("ada")
    statuses = [
        (await http.ask("PATCH", TOY, token=token, json={"data": 1})).status_code
        for _ in range(2 * BURST)
    ]
    assert 202 in statuses
    assert 429 in statuses
    large = {"data": "x" * 60_000}
    statuses = [
        (await http.ask("PATCH", TOY, token=mint("bob"), json=large)).status_code
        for _ in range(BURST)
    ]
    assert statuses[0] == 202
    assert 429 in statuses


async def test_a_body_that_is_compressed_or_too_large_is_refused(http: Client) -> None:
    headers = {"Content-Encoding": "gzip"}
    response = await http.ask("PATCH", TOY, token=mint("ada"), data=b"x", headers=headers)
    await problem(response, 415, "bad_request")
    response = await http.ask("PATCH", TOY, token=mint("ada"), json={"data": "x" * 70_000})
    await problem(response, 413, "too_large")


async def test_a_read_that_takes_too_long_says_nothing_of_storing() -> None:
    broker = FakeBroker()
    broker.reads.shut = True
    app = create_app(make_settings(http__request_timeout_seconds=0.2), broker=broker)
    async with app.test_app() as test_app:
        http = Client(app, test_app.test_client())
        response = await http.ask("GET", "/api/topics/room:a/messages", token=mint("ada"))
        body = await problem(response, 503, "unavailable")
        assert body["detail"] == "the answer did not come in time"
        assert response.headers["Retry-After"] == "1"
        broker.reads.open()
