"""Who gets in when there are as many connections as there may be."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

import pytest

from chat_server.server import acceptor
from chat_server.server.acceptor import IdlePeers, Peer
from tests.rig.certificates import make_certificate
from tests.rig.raw_client import RawClient, request
from tests.rig.server import ServerProcess, mint
from tests.rig.waiting import SECONDS, until

from .inprocess import Served, make_settings, serving

MOST = 40
GET = b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture(params=["direct", "asgi"])
async def server(request: pytest.FixtureRequest) -> AsyncIterator[Served]:
    settings = make_settings(
        gateway__transport=request.param,
        http__max_connections=MOST if request.param == "direct" else MOST - 10,
        limits__max_connections=10,
        http__head_timeout_seconds=60,
    )
    async with serving(settings) as served:
        yield served


async def connect_from(address: str, port: int) -> RawClient:
    """Connect from another address of this machine."""
    connected = socket.socket()
    connected.bind((address, 0))
    connected.setblocking(False)
    await asyncio.get_running_loop().sock_connect(connected, ("127.0.0.1", port))
    return RawClient(connected)


def test_who_waits_longest_at_the_address_with_most_of_them_goes_first() -> None:
    waiting = IdlePeers()
    with socket.socket() as unused:
        one, *many = [Peer(unused, address) for address in ("1", "2", "2", "2")]
        for peer in (one, *many):
            waiting.add(peer)
        waiting.remove(many[1])
        waiting.add(many[1])
        order = [waiting.pop_longest_idle() for _ in range(5)]
    assert order[:2] == [many[0], many[2]]
    assert set(order[2:4]) == {one, many[1]}
    assert order[4] is None


def test_the_addresses_of_one_subscriber_are_one() -> None:
    waiting = IdlePeers()
    many = ("2001:db8:1:2::1", "2001:db8:1:2::2", "2001:db8:1:2:a:b:c:d")
    with socket.socket() as unused:
        one, *others = [Peer(unused, a) for a in ("2001:db8:1:3::1", *many)]
        for peer in (one, *others):
            waiting.add(peer)
        assert [waiting.pop_longest_idle(), waiting.pop_longest_idle()] == others[:2]


async def test_thousands_that_say_nothing_keep_nobody_out(
    server: Served, caplog: pytest.LogCaptureFixture
) -> None:
    async with AsyncExitStack() as stack:
        patient = await stack.enter_async_context(await connect_from("127.0.0.2", server.port))
        await patient.send(GET[:10])
        silent = [
            await stack.enter_async_context(await RawClient.connect(server.port))
            for _ in range(4 * MOST)
        ]
        assert (await request(server.port, "GET", "/health/live")).status == 200
        async with await RawClient.open(server.port, token=mint("ada")) as ada:
            assert (await ada.read_message())["type"] == "welcome"
        # The oldest of the address that opened them are gone, and nobody of another one.
        assert await silent[0].read_to_end() == b""
        await patient.send(GET[10:])
        assert (await patient.read_answer()).status == 200
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "closed, the oldest first" in warnings[0]
    assert warnings[0].endswith("127.0.0.1")


async def test_a_connection_that_is_not_accepted_yet_at_a_stop_is_answered() -> None:
    async with serving(make_settings()) as server:
        # The loop has no turn between the handshake in the kernel and the stop.
        queued = socket.create_connection(("127.0.0.1", server.port))
        queued.sendall(GET)
        server.begin_to_stop()
        queued.setblocking(False)
        async with RawClient(queued) as client:
            assert (await client.read_answer()).status == 200


async def test_a_newcomer_is_refused_when_all_have_a_request_under_way() -> None:
    settings = make_settings(http__max_connections=5)
    asked, go_on = asyncio.Semaphore(0), asyncio.Event()
    async with serving(settings) as server, AsyncExitStack() as stack:

        @server.app.get("/slow")
        async def slow() -> str:
            asked.release()
            await go_on.wait()
            return "done"

        busy = [
            await stack.enter_async_context(await RawClient.connect(server.port)) for _ in range(5)
        ]
        for client in busy:
            await client.send(GET.replace(b"/health/live", b"/slow"))
        async with asyncio.timeout(SECONDS):
            for _ in busy:
                await asked.acquire()
        async with await RawClient.connect(server.port) as late:
            await late.send(GET.replace(b"/live", b""))
            answer = await late.read_answer()
            assert (answer.status, answer.headers["retry-after"]) == (503, "10")
            assert await late.read_to_end() == b""
        assert server.node.numbers.sockets_refused == 1
        go_on.set()
        for client in busy:
            assert (await client.read_answer()).body == b"done"
        # Now that they wait for nothing, one of them makes room.
        assert (await request(server.port, "GET", "/health/live")).status == 200


async def test_descriptors_are_kept_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is numbered above the bound is refused; near it each newcomer takes another's place."""
    with socket.socket() as probe:
        lowest = probe.fileno()
    monkeypatch.setattr(
        "chat_server.server.worker.descriptors.raise_limit", lambda settings: lowest + 60
    )
    async with serving(make_settings()) as server, AsyncExitStack() as stack:
        for _ in range(100):  # each takes a descriptor here and one there
            await stack.enter_async_context(await RawClient.connect(server.port))
        assert (await request(server.port, "GET", "/health/live")).status in (200, 503)
        with socket.socket() as probe:
            # 100 are the clients'; of the server's as many are open as the bound lets it have.
            assert probe.fileno() - lowest < 100 + 60


class Exhausted(socket.socket):
    """A listener of a process that has no descriptor left for some calls of `accept`."""

    def __init__(self, left: int) -> None:
        super().__init__()
        self.left = left
        self.bind(("127.0.0.1", 0))
        self.listen()

    def accept(self) -> tuple[socket.socket, object]:
        if self.left:
            self.left -= 1
            raise OSError(24, "Too many open files")
        return super().accept()


async def test_a_system_without_descriptors_is_told_of_and_got_over(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(acceptor, "EXHAUSTED_SECONDS", 0.1)
    async with serving(make_settings(), listener=Exhausted(1)) as server:
        assert (await request(server.port, "GET", "/health/live")).status == 200
    assert "no connection can be accepted: Too many open files" in caplog.text


async def test_a_stop_without_descriptors_leaves_no_timer(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(acceptor, "EXHAUSTED_SECONDS", 0.3)
    async with (
        serving(make_settings(), listener=Exhausted(1_000)) as server,
        await RawClient.connect(server.port),
    ):
        await until(lambda: "no connection can be accepted" in caplog.text)
        server.begin_to_stop()
        await server.stopped()
    await asyncio.sleep(acceptor.EXHAUSTED_SECONDS)  # Timers that were left come before this one.
    assert "Exception in callback" not in caplog.text


def test_handshakes_of_tls_count(tmp_path: Path) -> None:
    """Connections that never begin to speak TLS make room like others."""
    certificate = make_certificate(tmp_path)
    environ = {"CHAT_HTTP__MAX_CONNECTIONS": str(MOST), "CHAT_HTTP__HEAD_TIMEOUT_SECONDS": "60"}
    with ServerProcess(environ=environ, certificate=certificate) as server, ExitStack() as stack:
        silent = [
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            for _ in range(3 * MOST)
        ]
        assert server.is_ready()
        silent[0].settimeout(SECONDS)
        assert silent[0].recv(1) == b""
