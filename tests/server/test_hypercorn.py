"""The seam with Hypercorn: what the hand-over relies on, so that an upgrade fails loudly."""

import asyncio
import gc
import socket
import ssl
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import uvloop
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config
from hypercorn.typing import LifespanState

from chat_server.app import create_app
from chat_server.metrics.numbers import Numbers
from chat_server.server import hypercorn
from chat_server.server.acceptor import Acceptor
from chat_server.server.hypercorn import HttpConnection
from chat_server.settings import HttpSettings
from chat_server.transports.handover import STATE_KEY
from tests.rig import chat_client, waiting
from tests.rig.certificates import make_certificate
from tests.rig.chat_client import chat
from tests.rig.raw_client import RawClient, request
from tests.rig.rfc6455 import text, upgrade
from tests.rig.server import mint
from tests.rig.waiting import until
from tests.server.inprocess import make_settings, serving

Asgi = Callable[[Any, Any, Any], Any]

LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]


class Echo(asyncio.Protocol):
    """What takes a socket over."""

    def __init__(self) -> None:
        self.lost = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self.transport.write(data.upper())

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()

    def take(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        transport.set_protocol(self)


class Listening:
    """A port that every connection of is served by an `HttpConnection`."""

    def __init__(self) -> None:
        self.port = 0
        self.keep_alive_seconds = 75.0
        self.config = Config()
        self.config.accesslog = None
        self.config.errorlog = None
        self.config.include_server_header = False
        self.config.include_date_header = False
        self.servers: weakref.WeakSet[HttpConnection] = weakref.WeakSet()
        self.running: set[asyncio.Task[None]] = set()


@asynccontextmanager
async def listening(app: Asgi, tls: ssl.SSLContext | None = None) -> AsyncIterator[Listening]:
    """Serve an ASGI application that may take sockets over."""
    own = Listening()
    context = WorkerContext(max_requests=None)

    def connect(on_waiting: Callable[[bool], None]) -> HttpConnection:
        task = asyncio.current_task()
        assert task is not None
        own.running.add(task)
        task.add_done_callback(own.running.discard)
        settings = HttpSettings(keep_alive_seconds=own.keep_alive_seconds)
        connection = HttpConnection(
            ASGIWrapper(app),
            own.config,
            context,
            LifespanState({"mine": "kept"}),
            settings,
            on_waiting,
        )
        own.servers.add(connection)
        return connection

    listener = socket.create_server(("127.0.0.1", 0))
    own.port = listener.getsockname()[1]
    acceptor = Acceptor(
        listener,
        connect,
        max_connections=100,
        max_descriptor=10_000,
        tls=tls,
        handshake_seconds=waiting.SECONDS,
        numbers=Numbers(),
    )
    acceptor.start()
    try:
        yield own
    finally:
        await context.terminated.set()
        acceptor.stop()
        acceptor.retire()
        await until(lambda: not own.running)


def test_is_the_version_the_seam_was_written_against() -> None:
    assert version("hypercorn").startswith("0.18."), (
        "chat_server/server/hypercorn.py relies on Hypercorn's internals: read what changed, "
        "run tests/server and tests/e2e, then move the bound in pyproject.toml and this one"
    )


@pytest.mark.parametrize("loop", LOOPS)
def test_a_handed_over_socket_is_out_of_hypercorns_hands(loop: Any) -> None:
    async def main() -> None:
        echo = Echo()
        states: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            assert (await receive())["type"] == "websocket.connect"
            states.append(scope["state"]["mine"])
            taken = scope["state"][STATE_KEY]
            assert not taken.is_over
            transport = taken.hand_over()
            transport.write(b"mine now\n")
            echo.take(transport)

        async with listening(app) as server, await RawClient.connect(server.port) as client:
            server.keep_alive_seconds = 0.05
            await client.send(upgrade())
            assert await client.take(9) == b"mine now\n"
            assert states == ["kept"]
            await until(lambda: not server.running)
            gc.collect()
            assert not list(server.servers), "something keeps the HTTP connection alive"
            # Longer than the timeout of an idle HTTP connection, and past any finaliser.
            await asyncio.sleep(0.2)
            await client.send(b"hello")
            assert await client.take(5) == b"HELLO"
            assert not echo.lost.is_set()
            client.socket.close()
            async with asyncio.timeout(waiting.SECONDS):
                await echo.lost.wait()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main())


async def test_a_socket_is_not_over_only_while_somebody_waits() -> None:
    seen: list[bool] = []
    go_on = asyncio.Event()
    asked = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        socket = scope["state"][STATE_KEY]
        seen.append(socket.is_over)
        asked.set()
        await go_on.wait()
        seen.append(socket.is_over)
        socket.abort()
        seen.append(socket.is_over)

    for leave in (RawClient.reset, RawClient.half_close, lambda client: None):
        seen.clear()
        go_on.clear()
        asked.clear()
        async with listening(app) as server, await RawClient.connect(server.port) as client:
            await client.send(upgrade())
            async with asyncio.timeout(waiting.SECONDS):
                await asked.wait()
            leave(client)
            # What left the client is here when the next connection is.
            async with await RawClient.connect(server.port) as other:
                await other.send(b"GET /\r\n\r\n")
                await other.read_to_end()
            go_on.set()
            await until(lambda: len(seen) == 3)
        assert seen == [False, leave in (RawClient.reset, RawClient.half_close), True]


async def test_a_client_that_sends_on_and_reads_nothing_is_cut_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its requests are under way all the time, so that it would never give its place to others."""
    monkeypatch.setattr(hypercorn, "STALL_SECONDS", 0.5)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-length", b"1000000")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": bytes(1_000_000)})

    async with listening(app) as server, await RawClient.connect(server.port) as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 100)
        await until(lambda: server.running)
        await until(lambda: not server.running)


async def test_a_client_that_reads_slowly_gets_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """It needs several times as long as one may take nothing at all."""
    monkeypatch.setattr(hypercorn, "STALL_SECONDS", 2.0)
    size = 16 * 2**20

    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-length", b"%d" % size)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": bytes(size)})

    loop = asyncio.get_running_loop()
    async with listening(app) as server, await RawClient.connect(server.port) as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        received = 0
        async with asyncio.timeout(waiting.SECONDS):
            while received < size:
                data = await loop.sock_recv(client.socket, 2**20)
                assert data, f"cut off after {received} bytes"
                received += len(data)
                await asyncio.sleep(0.3)


async def test_frames_before_the_answer_are_refused() -> None:
    """RFC 6455 section 4.1: a client sends nothing before it has the server's handshake."""
    for transport in ("direct", "asgi"):
        async with (
            serving(make_settings(gateway__transport=transport)) as server,
            await RawClient.connect(server.port) as client,
        ):
            await client.send(upgrade(token=mint("ada")), text({"type": "ping", "id": 1}))
            assert (await client.read_answer()).status == 400
            assert await client.read_to_end() == b""
            assert len(server.node.registry) == 0


@pytest.mark.parametrize("door", ["direct", "quart"])
@pytest.mark.parametrize("handshake", [upgrade(path="/nowhere"), upgrade(token="nonsense")])
async def test_frames_before_a_refusal_do_not_hold_the_connection(
    handshake: bytes, door: str
) -> None:
    """Anybody can send these; such a connection could not be evicted either."""
    async with (
        serving(make_settings(server__front_door=door)) as server,
        await RawClient.connect(server.port) as client,
    ):
        await client.send(handshake, text({"type": "ping", "id": 1}))
        answer = await client.read_answer()
        assert (answer.status, answer.headers["connection"]) == (400, "close")
        assert await client.read_to_end() == b""


@pytest.mark.parametrize("transport", ["direct", "asgi"])
@pytest.mark.parametrize("leave", [RawClient.reset, RawClient.half_close])
async def test_a_client_that_leaves_during_the_handshake_leaves_nothing_behind(
    transport: str, leave: Callable[[RawClient], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(make_settings(gateway__transport=transport)) as server:
        verifier = server.app.extensions["chat_server"].verifier
        verify = verifier.verify
        asked, go_on = asyncio.Event(), asyncio.Event()

        async def slowly(token: str) -> Any:
            asked.set()
            await go_on.wait()
            return await verify(token)

        monkeypatch.setattr(verifier, "verify_now", lambda token: None)  # keys are to be fetched
        monkeypatch.setattr(verifier, "verify", slowly)
        async with await RawClient.connect(server.port) as client:
            await client.send(upgrade(token=mint("ada")))
            async with asyncio.timeout(waiting.SECONDS):
                await asked.wait()
            leave(client)
            assert (await request(server.port, "GET", "/health")).status == 200
            go_on.set()
            await until(lambda: len(server.node.registry) == 0)
            if leave is RawClient.half_close:
                assert await client.read_to_end() == b""
        assert len(server.node.registry) == 0


async def test_the_asgi_transport_forgoes_compression() -> None:
    headers = {"Sec-WebSocket-Extensions": "permessage-deflate"}
    async with (
        serving(make_settings(gateway__transport="asgi")) as server,
        await RawClient.connect(server.port) as client,
    ):
        await client.send(upgrade(token=mint("ada"), headers=headers))
        answer = await client.read_answer()
        assert answer.status == 101
        assert "sec-websocket-extensions" not in answer.headers
        assert (await client.read_message())["type"] == "welcome"
        client.reset()
        await until(lambda: len(server.node.registry) == 0)


# TLS -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("loop", LOOPS)
def test_hands_over_below_tls(loop: Any, tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(certificate)
    trusting = ssl.create_default_context(cafile=str(certificate))

    async def main() -> None:
        settings = make_settings(gateway__transport="direct", limits__message_burst=1_000)
        app = await asyncio.to_thread(create_app, settings)
        node = app.extensions["chat_server"].node

        async def asgi(scope: Any, receive: Any, send: Any) -> None:
            await app(scope, receive, send)

        async with app.test_app(), listening(asgi, served) as server:
            url = f"wss://localhost:{server.port}/ws"
            async with (
                await chat(url, mint("ada"), tls=trusting) as ada,
                await chat(url, mint("bob"), encoding=chat_client.MSGPACK, tls=trusting) as bob,
            ):
                await until(lambda: not server.running)
                await ada.ok(type="subscribe", topic="room:a")
                await bob.ok(type="subscribe", topic="room:a")
                data = "x" * 60_000
                for _ in range(20):
                    await bob.ok(type="publish", topic="room:a", data=data)
                for client in (ada, bob):
                    seqs = [(await client.next())["seq"] for _ in range(20)]
                    assert seqs == list(range(1, 21))
                await ada.websocket.send(b"binary")
                assert await ada.closed() == 1003
                await bob.websocket.close(1000)
            await until(lambda: len(node.registry) == 0)

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main())
