"""The front door when something goes wrong, or the end has begun."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from chat_server.app import create_app
from chat_server.events import PublishResult
from chat_server.server import front_door
from tests.rig.fakes import FakeBroker
from tests.rig.raw_client import RawClient
from tests.rig.rfc6455 import upgrade
from tests.rig.waiting import SECONDS, until

from .inprocess import Served, make_settings, serving
from .test_front_door import TOKEN, post

BATCH = b'{"messages":[{"topic":"room:a","data":1},{"topic":"room:a","data":2}]}'
HEALTH = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"


def batch() -> bytes:
    head = f"POST /api/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(BATCH)}\r\n"
    return f"{head}Authorization: Bearer {TOKEN}\r\n\r\n".encode() + BATCH


@pytest.fixture
def broker() -> FakeBroker:
    return FakeBroker()


@pytest.fixture
async def server(broker: FakeBroker) -> AsyncIterator[Served]:
    async with serving(make_settings(), broker=broker) as served:
        yield served


def held(broker: FakeBroker) -> list[asyncio.Future[Any]]:
    """Let the store answer only what a test answers for it; return what it is asked."""
    futures: list[asyncio.Future[Any]] = []
    broker.publications = futures
    return futures


# Faults ---------------------------------------------------------------------------------------


def _raise(error: BaseException) -> Callable[..., Any]:
    def function(*_: Any, **__: Any) -> Any:
        raise error

    return function


async def _status(server: Served, request: bytes) -> int:
    """Return the status of a request; the connection must go on."""
    async with await RawClient.connect(server.port) as client:
        await client.send(request)
        answer = await client.read_answer()
        if answer.headers.get("connection") != "close":
            await client.send(HEALTH)
            assert (await client.read_answer()).status == 200
        return answer.status


@pytest.mark.parametrize("door", ["direct", "quart"])
@pytest.mark.parametrize("error", [RuntimeError("odd"), RecursionError(), KeyError("k")])
async def test_a_fault_in_front_of_any_effect_is_quarts(
    error: Exception,
    door: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = create_app(make_settings(server__front_door=door))
    verifier = app.extensions["chat_server"].verifier
    monkeypatch.setattr(verifier, "verify_now", _raise(error))
    monkeypatch.setattr(verifier, "verify", _raise(error))
    async with serving(make_settings(), app=app) as server:
        for request in (post(), batch(), upgrade(token=TOKEN)):
            assert await _status(server, request) == 500
    assert sum("failed" in each.message for each in caplog.records) == 3


@pytest.mark.parametrize("error", [RuntimeError("odd"), RecursionError(), asyncio.CancelledError()])
@pytest.mark.parametrize("name", ["execute", "limit_requests"])
async def test_a_fault_behind_the_count_is_answered_once(
    name: str,
    error: BaseException,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = create_app(make_settings())
    service = app.extensions["chat_server"].service
    monkeypatch.setattr(service, name, _raise(error))
    async with serving(make_settings(), app=app) as server:
        assert await _status(server, post()) == 500
        assert "failed" in caplog.text
        expected = 200 if name == "execute" else 500
        if isinstance(error, asyncio.CancelledError):
            expected = 503
        assert await _status(server, batch()) == expected


async def test_a_websocket_that_cannot_be_opened_is_closed(
    server: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    opening = "chat_server.transports.opening.Connection"
    monkeypatch.setattr(opening, _raise(RuntimeError("odd")))
    async with await RawClient.connect(server.port) as client:
        # Behind a publication the handshake is read by a callback of the loop.
        await client.send(post() + upgrade(token=TOKEN))
        assert (await client.read_answer()).status == 201
        assert await client.read_to_end() == b""
    assert "a WebSocket could not be opened" in caplog.text


# Order, and the end ---------------------------------------------------------------------------


async def test_a_pipeline_is_carried_out_whose_client_has_ended_its_stream(
    server: Served, broker: FakeBroker
) -> None:
    futures = held(broker)
    async with await RawClient.connect(server.port) as client:
        await client.send(post() + post() + HEALTH)
        client.half_close()
        for number in (1, 2):
            await until(lambda: sum(not each.done() for each in futures) == 1)
            futures[-1].set_result(PublishResult(seq=number, epoch="e", at=1))
        answers = await client.read_to_end()
    assert answers.count(b"HTTP/1.1 201 ") == 2
    assert answers.count(b"HTTP/1.1 200 ") == 1


@pytest.mark.parametrize("request_bytes", [post(), batch()], ids=["publish", "batch"])
async def test_an_answer_in_a_drain_says_that_it_is_the_last(
    request_bytes: bytes, server: Served, broker: FakeBroker
) -> None:
    futures = held(broker)
    async with await RawClient.connect(server.port) as client:
        await client.send(request_bytes)
        await until(lambda: len(futures) > 0)
        server.node.drain.announced = True
        for number, future in enumerate(futures, 1):
            future.set_result(PublishResult(seq=number, epoch="e", at=1))
        answer = await client.read_answer()
        assert answer.status in (200, 201)
        assert answer.headers["connection"] == "close"
        assert await client.read_to_end() == b""


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of requests whose rest the front door awaits, which it does for long."""
    monkeypatch.setattr(front_door, "PATIENCE_SECONDS", SECONDS)
    awaited: list[int] = []
    expect = front_door.FrontDoor._expect_rest

    def note(self: front_door.FrontDoor, wanted: int) -> None:
        awaited.append(wanted)
        expect(self, wanted)

    monkeypatch.setattr(front_door.FrontDoor, "_expect_rest", note)
    return awaited


async def test_a_stop_waits_for_a_body_that_is_on_its_way(
    server: Served, parts: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chat_server.server.hypercorn.NEWCOMER_SECONDS", 0.0)
    async with await RawClient.connect(server.port) as client:
        await client.send(post())
        assert (await client.read_answer()).status == 201
        idle = await RawClient.connect(server.port)
        await client.send(post()[:-3])
        await until(lambda: parts == [len(post())])
        server.begin_to_stop()
        async with idle:
            assert await idle.read_to_end() == b"", "it has no request under way"
        await client.send(post()[-3:])
        answer = await client.read_answer()
    assert (answer.status, answer.headers["connection"]) == (201, "close")


# Who is idle ----------------------------------------------------------------------------------


async def test_who_is_sending_a_body_is_not_idle(parts: list[int]) -> None:
    async with (
        serving(make_settings(http__max_connections=2)) as server,
        await RawClient.connect(server.port) as early,
        await RawClient.connect(server.port) as idle,
    ):
        await early.send(post()[:-3])
        await until(lambda: parts == [len(post())])
        async with await RawClient.connect(server.port) as late:
            assert await idle.read_to_end() == b""
            await early.send(post()[-3:])
            for client in (early, late):
                await client.send(HEALTH)
            assert [(await early.read_answer()).status for _ in range(2)] == [201, 200]
            assert (await late.read_answer()).status == 200


async def test_who_sends_part_of_a_head_is_idle(parts: list[int]) -> None:
    async with (
        serving(make_settings(http__max_connections=1)) as server,
        await RawClient.connect(server.port) as early,
    ):
        await early.send(post()[:30])
        await until(lambda: parts == [0])
        async with await RawClient.connect(server.port) as late:
            assert await early.read_to_end() == b""
            await late.send(post())
            assert (await late.read_answer()).status == 201


async def test_who_reads_slowly_has_requests_under_way() -> None:
    settings = make_settings(
        http__max_connections=2,
        http__keep_alive_seconds=1.5,
        http__head_timeout_seconds=1.5,
        limits__messages_per_second=1_000_000,
        limits__message_burst=1_000_000,
    )
    async with (
        serving(settings) as server,
        await RawClient.connect(server.port, receive_buffer=4_096) as slow,
    ):
        flood = post() * 40_000
        sent = await slow.send_what_fits(flood, 1.0)
        assert sent < len(flood)
        for _ in range(2):
            # Each of these is idle for as long as a connection may be.
            async with await RawClient.connect(server.port) as idle:
                assert await idle.read_to_end() == b""
        async with (
            await RawClient.connect(server.port) as idle,
            await RawClient.connect(server.port) as late,
        ):
            assert await idle.read_to_end() == b"", "it is the one that is evicted"
            await late.send(HEALTH)
            assert (await late.read_answer()).status == 200
        for _ in range(sent // len(post())):
            assert (await slow.read_answer()).status == 201
