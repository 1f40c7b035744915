"""One worker: what it finishes before it stops, and what it does not wait for."""

import asyncio
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, suppress
from typing import Any

import pytest
import uvloop
from quart import Quart

from chat_server.app import create_app
from chat_server.events import PublishResult
from chat_server.server.deadlines import STOP_SLACK_SECONDS
from chat_server.server.worker import Worker
from tests.rig import rfc6455
from tests.rig.chat_client import chat
from tests.rig.fakes import FakeBroker
from tests.rig.raw_client import RawClient, request
from tests.rig.rfc6455 import text
from tests.rig.server import ServerProcess, mint
from tests.rig.waiting import SECONDS, until

from .inprocess import make_settings, serving
from .processes import accepts, refused

LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]

MACHINE_SECONDS = 25.0
"""What a busy machine may need besides: reading the ends of a thousand connections, too."""


class Slow:
    """A route that answers when the test says so."""

    def __init__(self, app: Quart) -> None:
        self.asked = asyncio.Event()
        self.go_on = asyncio.Event()
        self.cancelled = False
        app.add_url_rule("/slow", "slow", self._answer)

    async def _answer(self) -> str:
        self.asked.set()
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return "done"


async def _slow_app(**flags: object) -> tuple[Quart, Slow]:
    app = await asyncio.to_thread(create_app, make_settings(**flags))
    return app, Slow(app)


async def test_a_request_under_way_is_finished() -> None:
    app, slow = await _slow_app(server__drain_seconds=20)
    async with serving(make_settings(server__drain_seconds=20), app=app) as server:
        answering = asyncio.create_task(request(server.port, "GET", "/slow"))
        await slow.asked.wait()
        server.begin_to_stop()
        await until(lambda: not accepts(server.port))
        slow.go_on.set()
        answer = await answering
        assert (answer.status, answer.body) == (200, b"done")
        await server.stopped()


async def test_a_request_that_takes_longer_is_cut_at_the_deadline() -> None:
    app, slow = await _slow_app()
    async with (
        serving(make_settings(server__drain_seconds=0.2), app=app) as server,
        await RawClient.connect(server.port) as client,
    ):
        await client.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        await slow.asked.wait()
        server.begin_to_stop()
        await server.stopped()
        assert await client.read_to_end() == b""
        assert slow.cancelled


async def test_idle_connections_hold_nothing_up() -> None:
    async with (
        serving(make_settings(server__drain_seconds=600)) as server,
        await RawClient.connect(server.port) as fresh,
        await RawClient.connect(server.port) as used,
    ):
        await used.send(b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await used.read_answer()).status == 200
        began = time.monotonic()
        server.begin_to_stop()
        await server.stopped()
        assert time.monotonic() - began < 120
        assert await used.read_to_end() == b""
        assert await fresh.read_to_end() == b""


async def test_who_has_just_connected_is_still_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    # On a slow machine a second is over before the request is sent.
    monkeypatch.setattr("chat_server.server.hypercorn.NEWCOMER_SECONDS", SECONDS)
    async with (
        serving(make_settings(server__drain_seconds=20)) as server,
        await RawClient.connect(server.port) as client,
    ):
        server.begin_to_stop()
        await until(lambda: not accepts(server.port))
        await client.send(b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await client.read_answer()).status == 200
        assert await client.read_to_end() == b""


@pytest.mark.parametrize("loop_factory", LOOPS)
def test_whoever_connects_as_it_stops_is_answered_or_left_to_another_worker(
    loop_factory: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def main() -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        with listener.dup() as another:
            another.setblocking(False)
            settings = make_settings(server__drain_seconds=20)
            async with AsyncExitStack() as stack:
                server = await stack.enter_async_context(serving(settings, listener=listener))
                clients: list[RawClient] = []
                for _ in range(10):
                    # Without the loop, which is to find each of them in a turn of its own.
                    connected = socket.create_connection(("127.0.0.1", server.port))
                    connected.sendall(b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n")
                    connected.setblocking(False)
                    clients.append(await stack.enter_async_context(RawClient(connected)))
                    await asyncio.sleep(0)
                server.begin_to_stop()
                await server.stopped()
                left = set(_waiting(another))
                for client in clients:
                    if client.socket.getsockname() not in left:
                        assert (await client.read_answer()).status == 200

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


def _waiting(listener: socket.socket) -> Iterator[Any]:
    """Return the addresses of those whom nobody has accepted."""
    with suppress(BlockingIOError):
        while True:
            accepted, address = listener.accept()
            accepted.close()
            yield address


async def test_kept_connections_are_told_that_it_drains() -> None:
    settings = make_settings(server__drain_seconds=20, gateway__close_timeout_seconds=20)
    ready = b"GET /health/ready HTTP/1.1\r\nHost: a\r\n\r\n"
    async with (
        serving(settings) as server,
        await RawClient.connect(server.port) as probe,
        await RawClient.connect(server.port) as publisher,
        await RawClient.open(server.port, token=mint("ada")) as slow,
    ):
        await slow.read_message()
        await probe.send(ready)
        assert (await probe.read_answer()).status == 200
        server.begin_to_stop()
        assert (await slow.read_message())["type"] == "goodbye"
        for _ in range(3):
            await probe.send(ready)
            answer = await probe.read_answer()
            assert (answer.status, answer.json()) == (503, {"status": "draining"})
        # Others are asked to go elsewhere with what comes next.
        await publisher.send(b"GET /api/topics/room:a/messages HTTP/1.1\r\nHost: a\r\n\r\n")
        answer = await publisher.read_answer()
        assert (answer.status, answer.headers["connection"]) == (401, "close")
        assert await publisher.read_to_end() == b""
        assert (await slow.read_to_close())[0] == 1012
        slow.socket.close()
        assert await probe.read_to_end() == b""
        await server.stopped()


@pytest.mark.parametrize("transport", ["direct", "asgi"])
async def test_commands_that_have_come_are_answered_first(transport: str) -> None:
    settings = make_settings(gateway__transport=transport, server__drain_seconds=20)
    broker = FakeBroker()
    broker.publications = []
    async with (
        serving(settings, broker=broker) as server,
        await chat(server.ws_url, mint("ada")) as ada,
    ):
        for number in range(3):
            await ada.send(type="publish", id=number + 1, topic="room:a", data=number)
        await until(lambda: len(broker.publications or []) == 3)
        server.begin_to_stop()
        await until(lambda: server.node.drain.begun)
        for number, publication in enumerate(broker.publications):
            publication.set_result(PublishResult(number + 1, "e", 1))
        assert [(await ada.next()).get("id") for _ in range(3)] == [1, 2, 3]
        assert (await ada.next())["type"] == "goodbye"
        assert await ada.closed() == 1012
        await server.stopped()


@pytest.mark.parametrize("transport", ["direct", "asgi"])
async def test_commands_beyond_those_that_may_wait_are_answered_too(transport: str) -> None:
    settings = make_settings(
        gateway__transport=transport,
        server__drain_seconds=20,
        limits__max_pending_commands=4,
        limits__message_burst=1000,
    )
    broker = FakeBroker()
    held = broker.publications = []
    commands = [
        text({"type": "publish", "id": number, "topic": "room:a", "data": number})
        for number in range(1, 301)
    ]
    async with (
        serving(settings, broker=broker) as server,
        await RawClient.open(server.port, token=mint("ada")) as ada,
    ):
        await ada.read_message()
        await ada.send(b"".join(commands))
        await until(lambda: len(held) == 4)
        server.begin_to_stop()
        await until(lambda: server.node.drain.begun)
        broker.publications = None
        for number, publication in enumerate(held, start=1):
            publication.set_result(PublishResult(number, "e", 1))
        code, messages = await ada.read_to_close()
        assert [message.get("id") for message in messages] == [*range(1, 301), None]
        assert {message["type"] for message in messages[:-1]} == {"ok"}
        assert (messages[-1]["type"], code) == ("goodbye", 1012)
        await server.stopped()


@pytest.mark.parametrize("transport", ["direct", "asgi"])
async def test_clients_are_sent_elsewhere(transport: str) -> None:
    settings = make_settings(gateway__transport=transport, server__drain_seconds=600)
    async with (
        serving(settings) as server,
        await chat(server.ws_url, mint("ada")) as ada,
        await chat(server.ws_url) as nobody,
    ):
        await ada.ok(type="subscribe", topic="room:a")
        server.begin_to_stop()
        for client in (ada, nobody):
            goodbye = await client.next()
            assert (goodbye["type"], goodbye["code"]) == ("goodbye", 1012)
            assert 0 < goodbye["reconnect_in_ms"] <= 1_000
            assert await client.closed() == 1012
        await server.stopped()


@pytest.mark.parametrize("transport", ["direct", "asgi"])
async def test_who_upgrades_while_it_drains_is_sent_elsewhere(
    transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_settings(gateway__transport=transport, server__drain_seconds=20)
    async with serving(settings) as server, await RawClient.connect(server.port) as late:
        verifier = server.app.extensions["chat_server"].verifier
        verify = verifier.verify
        asked, go_on = asyncio.Event(), asyncio.Event()

        async def slowly(token: str) -> Any:
            asked.set()
            await go_on.wait()
            return await verify(token)

        monkeypatch.setattr(verifier, "verify_now", lambda token: None)  # keys are to be fetched
        monkeypatch.setattr(verifier, "verify", slowly)
        await late.send(rfc6455.upgrade(token=mint("ada")))
        await asked.wait()
        server.begin_to_stop()
        await until(lambda: server.node.drain.begun)
        go_on.set()
        assert (await late.read_answer()).status == 101
        code, messages = await late.read_to_close()
        assert code == 1012
        assert [m["type"] for m in messages] == ["welcome", "goodbye"]
        assert messages[1]["reconnect_in_ms"] > 0
        late.socket.close()
        await server.stopped()


async def test_a_start_that_fails_fails() -> None:
    settings = make_settings()
    app = await asyncio.to_thread(create_app, settings)

    @app.before_serving
    async def fail() -> None:
        raise RuntimeError("cannot start")

    listener = socket.create_server(("127.0.0.1", 0))
    ready: list[bool] = []

    def on_ready() -> None:
        ready.append(True)

    with listener, pytest.raises(Exception, match="cannot start"):
        await Worker(app, settings).serve(listener, asyncio.Event(), on_ready)
    assert not ready
    # What had started ends with the process, which a test does not.
    await app.extensions["chat_server"].stop()


# In a process of its own -----------------------------------------------------------------------


# The thousand have to be sent away within the seconds of a drain, which takes a core by ASGI.
@pytest.mark.parametrize(
    "clients", [200, pytest.param(1_000, marks=[pytest.mark.extra, pytest.mark.timing])]
)
@pytest.mark.parametrize("transport", ["direct", "asgi"])
async def test_stops_in_time_with_many_clients_some_of_which_do_not_read(
    transport: str, clients: int
) -> None:
    drain_seconds = 2
    environ = {
        "CHAT_GATEWAY__TRANSPORT": transport,
        "CHAT_SERVER__DRAIN_SECONDS": str(drain_seconds),
        "CHAT_LIMITS__MAX_CONNECTIONS_PER_USER": "1000",
        "CHAT_LIMITS__MESSAGES_PER_SECOND": "100000",
        "CHAT_LIMITS__MESSAGE_BURST": "100000",
    }
    with ServerProcess(environ=environ) as server:
        async with AsyncExitStack() as stack:
            readers: list[RawClient] = []
            stuck: list[RawClient] = []
            for number in range(clients):
                deaf = number % 5 == 0
                client = await RawClient.open(
                    server.port, token=mint("ada"), receive_buffer=4096 if deaf else None
                )
                await stack.enter_async_context(client)
                if deaf:
                    await client.send(text({"type": "subscribe", "topic": "room:a"}))
                (stuck if deaf else readers).append(client)
            publisher = readers[0]
            await publisher.read_message()
            big = text({"type": "publish", "id": 1, "topic": "room:a", "data": "x" * 60_000})
            for _ in range(40):
                await publisher.send(big)
                assert (await publisher.read_message())["type"] == "ok"
            began = time.monotonic()
            code = asyncio.create_task(asyncio.to_thread(server.stop))
            endings = [await client.read_to_close() for client in readers]
            assert {ending for ending, _ in endings} == {1012}
            assert await code == 0
            took = time.monotonic() - began
            limit = drain_seconds + STOP_SLACK_SECONDS + MACHINE_SECONDS
            assert took < limit, f"took {took:.1f} s"
            assert "ERROR" not in server.stderr
            for client in stuck:
                await client.read_to_end()


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_stops_it(name: str) -> None:
    with ServerProcess() as server:
        _send(server.pid, name)
        assert server.wait() == 0
        assert server.stderr == ""


def _send(pid: int, name: str) -> None:
    os.kill(pid, signal.Signals[name])


async def test_a_second_signal_ends_it_at_once() -> None:
    environ = {"CHAT_SERVER__DRAIN_SECONDS": "600", "CHAT_LIMITS__MESSAGE_BURST": "1000"}
    with ServerProcess(environ=environ) as server:
        async with await _deaf(server.port):
            _send(server.pid, "SIGTERM")
            await until(lambda: not accepts(server.port))
            began = time.monotonic()
            _send(server.pid, "SIGTERM")
            # As with several workers, whose supervisor kills them and has done what it was told.
            assert await asyncio.to_thread(server.wait) == 0
            assert time.monotonic() - began < 120


async def _deaf(port: int) -> RawClient:
    """Return a client that does not read and for which much waits."""
    client = await RawClient.open(port, token=mint("ada"), receive_buffer=4096)
    await client.send(text({"type": "subscribe", "topic": "room:a"}))
    async with await chat(f"ws://127.0.0.1:{port}/ws", mint("bob")) as bob:
        for _ in range(40):
            await bob.ok(type="publish", topic="room:a", data="x" * 60_000)
    return client


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_port_that_is_taken_is_one_clear_line(workers: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        redis = ("--redis-url", "redis://127.0.0.1:1/0")
        code, line = refused("--bind", bind, "--workers", workers, *redis)
    assert code == 1
    assert line == f"chat-server: server.bind: cannot listen on {bind}: Address already in use\n"


@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_address_of_another_machine_is_one_clear_line(workers: str) -> None:
    redis = ("--redis-url", "redis://127.0.0.1:1/0")
    code, line = refused(
        *("--bind", "203.0.113.1:8000", "--workers", workers, *redis), CHAT_AUTH__SECRET="x" * 40
    )
    assert code == 1
    assert line.count("\n") == 1
    assert line.startswith("chat-server: server.bind: cannot listen on 203.0.113.1:8000: ")
