"""The front door on a connection: what it serves itself, and how it shares the socket."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from quart import Quart

from chat_server.app import create_app
from chat_server.auth.claims import Claims, TopicGrants
from chat_server.extension import ChatServer
from chat_server.protocol.errors import Unauthorized
from chat_server.server import front_door
from chat_server.server.doors import choose_door, what_would_be_passed_by
from chat_server.server.hypercorn import HttpConnection
from tests.rig.fakes import FakeBroker
from tests.rig.raw_client import RawClient
from tests.rig.rfc6455 import upgrade
from tests.rig.server import mint
from tests.rig.waiting import SECONDS, until
from tests.server.inprocess import Served, make_settings, serving

TOKEN = mint("ada", ttl_seconds=86_400)
PATH = "/api/topics/room:a/messages"
HISTORY = (
    f"GET {PATH}?limit=100 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
)


def post(body: bytes = b'{"data":1}', token: str = TOKEN) -> bytes:
    head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
    return f"{head}Authorization: Bearer {token}\r\n\r\n".encode() + body


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


@pytest.fixture
def app() -> Quart:
    return create_app(make_settings())


@pytest.fixture
async def server(app: Quart) -> AsyncIterator[Served]:
    async with serving(make_settings(), app=app) as served:
        yield served


@pytest.fixture
def asked(app: Quart, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What Quart has been asked, though not for slow requests: on a slow machine each is slow."""
    monkeypatch.setattr(front_door, "PATIENCE_SECONDS", SECONDS)
    paths: list[str] = []
    handle = app.asgi_app

    async def note(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            paths.append(scope["path"])
        await handle(scope, receive, send)

    # Of the class, where the front door does not take it for middleware.
    monkeypatch.setattr(type(app), "asgi_app", staticmethod(note))
    return paths


async def test_hot_requests_do_not_come_to_quart(server: Served, asked: list[str]) -> None:
    async with await RawClient.connect(server.port) as client:
        for seq in (1, 2):
            await client.send(post())
            answer = await client.read_answer()
            assert (answer.status, answer.json()["seq"]) == (201, seq)
        await client.send(upgrade(token=TOKEN))
        assert (await client.read_answer()).status == 101
        assert (await client.read_message())["type"] == "welcome"
    assert asked == []


async def test_files_of_the_page_do_not_come_to_quart(server: Served, asked: list[str]) -> None:
    async with await RawClient.connect(server.port) as client:
        await client.send(get("/") + get("/static/chat.js") + get("/static/nothing.js"))
        page, script, missing = [await client.read_answer() for _ in range(3)]
    assert (page.status, script.status, missing.status) == (200, 200, 404)
    assert page.body.startswith(b"<!doctype html>")
    assert b"import " in script.body
    assert asked == ["/static/nothing.js"]


async def test_a_large_file_is_sent_whole_to_a_slow_reader(server: Served) -> None:
    async with await RawClient.connect(server.port) as client:
        await client.send(get("/static/index.html") * 400)
        answers = [await client.read_answer() for _ in range(400)]
    assert {len(answer.body) for answer in answers} == {len(answers[0].body)}


async def test_the_application_is_asked_for_what_is_its_own() -> None:
    app = create_app(make_settings(http__page_token_url="https://a.example/token"))
    app.add_url_rule("/static/chat.js", "mine", _mine)
    async with (
        serving(make_settings(), app=app) as server,
        await RawClient.connect(server.port) as client,
    ):
        await client.send(get("/static/chat.js") + get("/"))
        script, page = await client.read_answer(), await client.read_answer()
    assert script.body == b""
    assert "connect-src 'self' https://a.example ws:" in page.headers["content-security-policy"]


def test_an_application_with_routes_by_host_has_no_files_at_the_door() -> None:
    app = Quart("orders", host_matching=True, static_host="a.example")
    ChatServer(make_settings(server__front_door="direct")).init_app(app)
    assert door_of(app)


async def test_the_two_alternate_on_a_connection(server: Served, asked: list[str]) -> None:
    async with await RawClient.connect(server.port) as client:
        for seq in (1, 2, 3):
            await client.send(post())
            assert (await client.read_answer()).json()["seq"] == seq
            await client.send(HISTORY.encode())
            messages = (await client.read_answer()).json()["messages"]
            assert [each["seq"] for each in messages] == list(range(1, seq + 1))
        await client.send(upgrade(token=TOKEN))
        assert (await client.read_answer()).status == 101
        assert (await client.read_message())["type"] == "welcome"
    assert asked == [PATH] * 3


async def test_a_pipeline_is_answered_in_order(server: Served, asked: list[str]) -> None:
    async with await RawClient.connect(server.port) as client:
        await client.send((post() + post() + HISTORY.encode() + post()) * 3)
        statuses = [(await client.read_answer()).status for _ in range(12)]
    assert statuses == [201, 201, 200, 201] * 3


async def test_a_body_that_comes_behind_its_head_is_hot(server: Served, asked: list[str]) -> None:
    """Many HTTP clients send the two apart."""
    async with await RawClient.connect(server.port) as client:
        request = post()
        await client.send(request[:-10])
        await asyncio.sleep(0)
        await client.send(request[-10:])
        assert (await client.read_answer()).status == 201
        await client.send(post(), size=1)
        assert (await client.read_answer()).status == 201
    assert asked == []


async def test_the_token_is_verified_for_every_request(
    server: Served, app: Quart, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection remembers what a head says, and not whether its token is still good."""
    verifier = app.extensions["chat_server"].verifier
    found = verifier.verify_now(TOKEN)
    reader = msgspec.structs.replace(found, topics=TopicGrants(subscribe=("**",)))
    answers: list[Claims | Exception] = [found, found, reader, found, Unauthorized("token: no")]
    monkeypatch.setattr(verifier, "verify_now", lambda _: next_of(answers))
    async with await RawClient.connect(server.port) as client:
        statuses = []
        for _ in range(5):
            await client.send(post())
            statuses.append((await client.read_answer()).status)
    # Those that the door leaves to Quart are accepted there: it was only the door that was misled.
    assert (statuses, answers) == ([201] * 5, [])
    assert asked == [PATH] * 2


def next_of(answers: "list[Claims | Exception]") -> Claims:
    answer = answers.pop(0)
    if isinstance(answer, Exception):
        raise answer
    return answer


async def test_heads_that_repeat_with_other_bodies(server: Served, asked: list[str]) -> None:
    async with await RawClient.connect(server.port) as client:
        for data in (b"1", b"22", b'"%b"' % (b"x" * 2_000), b"3"):
            await client.send(post(b'{"data":%b}' % data), size=700)
            assert (await client.read_answer()).status == 201
        await client.send(post(b'{"data":%b}' % (b"1" * 70_000)))
        assert (await client.read_answer()).status == 413
    assert asked == [PATH]
    async with await RawClient.connect(server.port) as client:
        await client.send(HISTORY.encode())
        messages = (await client.read_answer()).json()["messages"]
    assert [each["data"] for each in messages] == [1, 22, "x" * 2_000, 3]


async def test_hypercorn_waits_for_the_rest_of_a_slow_request(
    server: Served, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(front_door, "PATIENCE_SECONDS", 0.01)
    async with await RawClient.connect(server.port) as client:
        request = post()
        await client.send(request[:-3])
        await until(lambda: asked == [PATH])
        await client.send(request[-3:])
        assert (await client.read_answer()).status == 201
        await client.send(post())
        assert (await client.read_answer()).status == 201
    assert asked == [PATH], "the connection is the front door's again"


async def test_an_idle_connection_is_closed(asked: list[str], app: Quart) -> None:
    settings = make_settings(http__keep_alive_seconds=1.5, http__head_timeout_seconds=1.5)
    async with serving(settings, app=app) as server:
        async with await RawClient.connect(server.port) as client:
            assert await client.read_to_end() == b""
        async with await RawClient.connect(server.port) as client:
            await client.send(post())
            assert (await client.read_answer()).status == 201
            assert await client.read_to_end() == b""


async def test_an_answer_after_the_clients_end_of_stream(server: Served) -> None:
    async with await RawClient.connect(server.port) as client:
        await client.send(post())
        client.half_close()
        assert b"HTTP/1.1 201 " in await client.read_to_end()


async def test_who_reads_no_answers_stops_the_reading(server: Served) -> None:
    async with await RawClient.connect(server.port, receive_buffer=4_096) as client:
        flood = post() * 40_000
        sent = await client.send_what_fits(flood, 1.0)
        assert sent < len(flood)
        async with await RawClient.connect(server.port) as other:
            await other.send(post(token=mint("bob")))  # ada has used up her rate
            assert (await other.read_answer()).status == 201
        client.reset()


async def test_a_store_that_does_not_answer_is_told_in_time() -> None:
    broker = FakeBroker()
    settings = make_settings(http__request_timeout_seconds=1.5)
    async with (
        serving(settings, broker=broker) as server,
        await RawClient.connect(server.port) as client,
    ):
        broker.publications = []
        await client.send(post())
        answer = await client.read_answer()
        assert (answer.status, answer.json()["code"]) == (503, "unavailable")
        assert "may still be stored" in answer.json()["detail"]
        broker.publications = None
        await client.send(post())
        assert (await client.read_answer()).status == 201


async def test_who_publishes_too_much_is_told_so() -> None:
    settings = make_settings(limits__messages_per_second=1, limits__message_burst=3)
    app = create_app(settings)
    async with serving(settings, app=app) as server, await RawClient.connect(server.port) as client:
        await client.send(post() * 5)
        answers = [await client.read_answer() for _ in range(5)]
    assert [each.status for each in answers][:2] == [201, 201]
    assert (answers[-1].status, answers[-1].json()["code"]) == (429, "rate_limited")
    assert int(answers[-1].headers["retry-after"]) >= 1


# Which door -----------------------------------------------------------------------------------


def door_of(app: Quart) -> bool:
    """Return whether an application is served by the front door."""
    return choose_door(app) is not HttpConnection


def test_our_own_application_has_the_front_door(app: Quart) -> None:
    assert what_would_be_passed_by(app) == []
    assert door_of(app)
    assert door_of(create_app(make_settings(http__allowed_origins=["https://a.example"])))
    assert not door_of(create_app(make_settings(server__front_door="quart")))


def embedding(front_door: str = "auto") -> Quart:
    app = Quart("orders")
    ChatServer(make_settings(server__front_door=front_door)).init_app(app)
    return app


async def _see(*_: Any) -> None: ...


async def _mine(**_: Any) -> str:
    return ""


@pytest.mark.parametrize(
    "hook", ["before_request", "after_request", "teardown_request", "before_websocket"]
)
def test_functions_that_see_each_request_are_not_passed_by(
    hook: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = embedding()
    assert door_of(app)
    getattr(app, hook)(_see)
    caplog.set_level("INFO")
    assert not door_of(app)
    assert f"functions of {hook}" in caplog.text
    forced = embedding("direct")
    getattr(forced, hook)(_see)
    assert door_of(forced)


def test_middleware_is_not_passed_by() -> None:
    app = embedding()
    app.asgi_app = app.asgi_app  # type: ignore[method-assign]
    assert what_would_be_passed_by(app) == ["middleware around asgi_app"]

    class Odd(Quart):
        pass

    other = Odd("odd")
    ChatServer(make_settings()).init_app(other)
    assert what_would_be_passed_by(other) == ["a class of its own, Odd"]


@pytest.mark.parametrize(
    "rule", ["/api/messages", "/api/topics/lobby/messages", "/api/topics/<string:topic>/messages"]
)
def test_routes_in_front_of_ours_are_not_passed_by(rule: str) -> None:
    app = Quart("orders")
    app.add_url_rule(rule, "mine", _mine, methods=["POST"])
    app.add_url_rule("/api/topics/lobby/people", "people", _mine)
    app.add_url_rule("/<path:anything>", "rest", _mine, methods=["POST"])
    ChatServer(make_settings()).init_app(app)
    assert what_would_be_passed_by(app) == [f"the route {rule}"]


def test_a_websocket_route_in_front_of_ours_is_not_passed_by() -> None:
    app = Quart("orders")
    app.add_websocket("/ws", "mine", _see)
    ChatServer(make_settings()).init_app(app)
    assert what_would_be_passed_by(app) == ["the route /ws"]


def test_what_decides_about_requests_is_not_passed_by() -> None:
    app = embedding()
    app.before_request([].copy)  # a function without a module
    app.config["SERVER_NAME"] = "chat.example"
    app.session_interface = type(app.session_interface)()
    app.url_value_preprocessor(lambda endpoint, values: None)
    assert what_would_be_passed_by(app) == [
        "a session_interface of its own",
        "routes by host",
        "functions of before_request",
        "functions of url_value_preprocessor",
    ]


async def test_what_an_application_adds_when_it_starts_is_not_passed_by() -> None:
    app = await asyncio.to_thread(embedding)
    seen: list[str] = []

    @app.before_serving
    async def start() -> None:
        handle = app.asgi_app

        async def note(scope: Any, receive: Any, send: Any) -> None:
            seen.append(scope["type"])
            await handle(scope, receive, send)

        app.asgi_app = note  # type: ignore[method-assign]

    async with (
        serving(make_settings(), app=app) as server,
        await RawClient.connect(server.port) as client,
    ):
        await client.send(post())
        assert (await client.read_answer()).status == 201
    assert "http" in seen


async def test_the_body_is_bounded_as_the_application_says() -> None:
    app = await asyncio.to_thread(embedding)
    app.config["MAX_CONTENT_LENGTH"] = 100
    async with (
        serving(make_settings(), app=app) as server,
        await RawClient.connect(server.port) as client,
    ):
        await client.send(post(b'{"data":"%b"}' % (100 * b"x")))
        assert (await client.read_answer()).status == 413
