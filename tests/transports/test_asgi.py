"""The ASGI transport over an ASGI server that the test plays itself."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, cast

import pytest
from quart import Quart, websocket
from quart.wrappers import Websocket

from chat_server.protocol.codecs import JSON
from chat_server.transports.asgi import (
    INBOX_KEY,
    QUIET_TURNS,
    AsgiConnection,
    AsgiTransport,
)
from chat_server.transports.encoders import ASGI_ENCODERS
from tests.rig.waiting import SECONDS, until

from .doubles import RecordingReceiver, turns

MAX_MESSAGE = 1000
SLOW_BUFFER = 10_000


class FakeWebsocket:
    """Quart's WebSocket, with a queue of one as `AsgiConnection` has, and a stoppable peer."""

    def __init__(self) -> None:
        self.incoming: asyncio.Queue[str | bytes | None] = asyncio.Queue(maxsize=1)
        self.sent: list[str | bytes] = []
        self.closed: tuple[int, str] | None = None
        self.reads = asyncio.Event()
        self.reads.set()
        self.broken = False
        self.on_send: Callable[[str | bytes], None] = lambda data: None

    async def send(self, data: str | bytes) -> None:
        self.on_send(data)
        await self._reach()
        self.sent.append(data)

    async def close(self, code: int, reason: str) -> None:
        await self._reach()
        self.closed = (code, reason)

    async def _reach(self) -> None:
        await self.reads.wait()
        if self.broken:
            raise ConnectionError("the ASGI server says so")


class Asgi:
    """A transport under test."""

    def __init__(self, *, close_timeout: float, abort: Callable[[], None] | None) -> None:
        self.websocket = FakeWebsocket()
        self.receiver = RecordingReceiver()
        self.transport = AsgiTransport(
            ASGI_ENCODERS[JSON.subprotocol],
            cast(Websocket, self.websocket),
            self.websocket.incoming,
            max_message_bytes=MAX_MESSAGE,
            slow_buffer_bytes=SLOW_BUFFER,
            close_timeout_seconds=close_timeout,
            abort_socket=abort,
        )
        self.receiver.remote_close = partial(self.transport.close, 1000, "")
        self.task: asyncio.Task[None]

    @property
    def told(self) -> list[Any]:
        return self.receiver.told

    async def put(self, *messages: str | bytes | None) -> None:
        """Let messages come, as far as they are taken."""
        for message in messages:
            async with asyncio.timeout(SECONDS):
                await self.websocket.incoming.put(message)

    async def ended(self) -> None:
        """Wait until the route has ended."""
        async with asyncio.timeout(SECONDS):
            await asyncio.wait({self.task})


@asynccontextmanager
async def asgi(
    *,
    close_timeout: float = 60.0,
    abort: Callable[[], None] | None = None,
    begin: Callable[[], None] = lambda: None,
) -> AsyncIterator[Asgi]:
    """Serve until the block ends, and see that all of it ends."""
    harness = Asgi(close_timeout=close_timeout, abort=abort)
    harness.task = asyncio.create_task(harness.transport.serve(harness.receiver, begin))
    await turns()
    try:
        yield harness
    finally:
        if not harness.task.done():
            harness.task.cancel()
        await harness.ended()
        assert harness.told.count("closed") == 1
        assert harness.told[-1] == "closed"


async def test_carries_text_and_binary_both_ways() -> None:
    async with asgi() as harness:
        await harness.put("Grüße", b"\xff", "", b"")
        await until(lambda: len(harness.told) == 4)
        assert harness.told == [
            ("Grüße".encode(), False),
            (b"\xff", True),
            (b"", False),
            (b"", True),
        ]
        harness.transport.write("Grüße".encode())
        await turns()
        assert harness.websocket.sent == ["Grüße"]


async def test_a_disconnect_ends_it_after_what_came_before() -> None:
    async with asgi() as harness:
        await harness.put("1", "2", None)
        await harness.ended()
        assert harness.told == [(b"1", False), (b"2", False), "closed"]


async def test_takes_nothing_while_paused() -> None:
    async with asgi() as harness:
        harness.receiver.react = lambda event: (
            harness.transport.pause() if event != "closed" else None
        )
        await harness.put("1", "2")
        await turns()
        assert harness.receiver.payloads == [b"1"]
        # One is on its way and one waits: the server is not read from any more.
        await harness.put("3")
        with pytest.raises(asyncio.QueueFull):
            harness.websocket.incoming.put_nowait("4")
        for taken in (2, 3):
            harness.transport.resume()
            await turns()
            assert len(harness.receiver.payloads) == taken
        assert harness.receiver.payloads == [b"1", b"2", b"3"]


async def test_what_the_server_had_read_when_the_reading_stopped_is_taken() -> None:
    async with asgi() as harness:
        harness.receiver.react = lambda event: (
            harness.transport.pause() if event != "closed" else None
        )
        await harness.put("1", "2", "3")
        harness.transport.stop_reading()
        for taken in (2, 3):
            await turns(2 * QUIET_TURNS)
            assert harness.websocket.closed is None
            harness.transport.resume()
            await turns()
            assert len(harness.receiver.payloads) == taken
        harness.transport.resume()
        await until(lambda: harness.websocket.closed is not None)
        await harness.put("too late", None)
        await harness.ended()
        assert harness.receiver.payloads == [b"1", b"2", b"3"]


async def test_a_full_queue_is_told_once_and_stops_the_reading() -> None:
    async with asgi() as harness:
        harness.websocket.reads.clear()
        harness.transport.write(b"x" * (SLOW_BUFFER + 1))
        harness.transport.write(b"x" * SLOW_BUFFER)
        writable = [harness.transport.writable]
        assert harness.told == [], "told from within write()"
        await harness.put("1")
        await turns()
        assert harness.told == ["full"]
        harness.websocket.reads.set()
        await turns(10)
        writable.append(harness.transport.writable)
        assert writable == [False, True]
        assert harness.told == ["full", "drained", (b"1", False)]


async def test_the_last_that_is_told_is_how_it_stands() -> None:
    def fill_again(data: str | bytes) -> None:
        if data == "small":
            harness.transport.write(b"x" * (SLOW_BUFFER + 1))
            harness.websocket.reads.clear()

    async with asgi() as harness:
        harness.websocket.on_send = fill_again
        harness.transport.write(b"x" * (SLOW_BUFFER + 1))
        harness.transport.write(b"small")
        await turns(10)
        assert harness.told[-1] == "full"
        harness.websocket.reads.set()
        await turns(10)
        assert harness.told[-1] == "drained"


async def test_closing_flushes_what_is_queued() -> None:
    async with asgi() as harness:
        harness.transport.write(b"1")
        harness.transport.write(b"2")
        harness.transport.close(1012, "ü" * 200)
        harness.transport.write(b"3")
        harness.transport.close(1000, "")
        await turns(10)
        assert harness.websocket.sent == ["1", "2"]
        assert harness.websocket.closed == (1012, "ü" * 61)
        await harness.put("ignored", None)
        await harness.ended()
        assert harness.told == ["closed"]


async def test_a_message_that_is_too_big_in_bytes_closes() -> None:
    async with asgi() as harness:
        await harness.put("x" * MAX_MESSAGE, "ü" * (MAX_MESSAGE // 2 + 1), "ignored")
        await until(lambda: harness.websocket.closed)
        assert harness.websocket.closed is not None
        assert harness.websocket.closed[0] == 1009
        assert harness.receiver.payloads == [b"x" * MAX_MESSAGE]
        await harness.put(None)


async def test_a_fault_in_taking_a_message_is_logged_and_closes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(event: object) -> None:
        if event != "closed":
            raise RuntimeError("a fault of ours")

    async with asgi() as harness:
        harness.receiver.react = fail
        await harness.put("x", "ignored")
        await until(lambda: harness.websocket.closed)
        assert harness.websocket.closed is not None
        assert harness.websocket.closed[0] == 1011
        assert "fault" not in harness.websocket.closed[1]
        assert "a fault of ours" in caplog.text
        await harness.put(None)


@pytest.mark.parametrize("reads", [True, False])
async def test_a_client_that_does_not_answer_the_close_is_dropped(reads: bool) -> None:
    aborted: list[bool] = []
    async with asgi(close_timeout=0.01, abort=lambda: aborted.append(True)) as harness:
        if not reads:
            harness.websocket.reads.clear()
            harness.transport.write(b"x")
        harness.transport.close(1012, "")
        await harness.ended()
        assert aborted == [True]


async def test_an_abort_ends_it_at_once() -> None:
    for abort in (None, lambda: None):
        async with asgi(abort=abort) as harness:
            harness.websocket.reads.clear()
            harness.transport.write(b"x")
            await turns()
            harness.transport.abort()
            harness.transport.write(b"y")
            harness.transport.close(1000, "")
            await harness.ended()
            assert harness.websocket.sent == []


async def test_a_send_that_fails_ends_it() -> None:
    async with asgi() as harness:
        harness.websocket.broken = True
        harness.transport.write(b"x")
        await harness.ended()
        assert harness.told == ["closed"]


async def test_a_beginning_that_fails_leaves_nothing_behind() -> None:
    def fail() -> None:
        raise RuntimeError("at once")

    async with asgi(begin=fail) as harness:
        await harness.ended()
        assert isinstance(harness.task.exception(), RuntimeError)


async def test_cancelled_anywhere_it_ends_completely() -> None:
    async def idle(harness: Asgi) -> None:
        await turns()

    async def paused(harness: Asgi) -> None:
        harness.transport.pause()
        await harness.put("1", "2")

    async def blocked(harness: Asgi) -> None:
        harness.websocket.reads.clear()
        harness.transport.write(b"x")
        await turns()

    async def closing(harness: Asgi) -> None:
        harness.websocket.reads.clear()
        harness.transport.close(1000, "")
        await turns()

    states: list[Callable[[Asgi], Awaitable[None]]] = [idle, paused, blocked, closing]
    for bring_about in states:
        async with asgi() as harness:
            await bring_about(harness)
            harness.task.cancel()
            await harness.ended()
            assert harness.task.cancelled(), bring_about


# Quart's side ----------------------------------------------------------------------------------


class Playing:
    """An `AsgiConnection` whose route reads when the test says so."""

    def __init__(self, events: list[Any]) -> None:
        self.events = events
        self.taken = 0
        self.sent: list[Any] = []
        self.got: list[str | bytes | None] = []
        self.reads = asyncio.Event()
        self.app = Quart("test", static_folder=None)
        self.app.add_websocket("/ws", "route", self._route)
        headers = [(b"host", b"localhost")]
        scope: Any = {"type": "websocket", "path": "/ws", "raw_path": b"/ws", "scheme": "ws"}
        scope |= {"headers": headers, "query_string": b"", "asgi": {"spec_version": "2.3"}}
        self.connection = AsgiConnection(self.app, scope)

    async def receive(self) -> Any:
        if self.taken == len(self.events):
            await asyncio.get_running_loop().create_future()
        self.taken += 1
        return self.events[self.taken - 1]

    async def send(self, event: Any) -> None:
        self.sent.append(event)

    async def _route(self) -> None:
        inbox = cast(dict[str, Any], websocket.scope["state"])[INBOX_KEY]
        await websocket.accept()
        while not self.got or self.got[-1] is not None:
            await self.reads.wait()
            self.got.append(await inbox.get())


async def test_quarts_side_loses_no_message_and_piles_up_none() -> None:
    playing = Playing(
        [
            {"type": "websocket.connect"},
            {"type": "websocket.receive", "bytes": b"", "text": None},
            {"type": "websocket.receive", "bytes": None, "text": ""},
            {"type": "websocket.receive", "text": "text"},
            {"type": "websocket.receive", "bytes": b"bytes"},
            {"type": "websocket.disconnect", "code": 1006},
        ]
    )
    task = asyncio.ensure_future(playing.connection(playing.receive, playing.send))
    await until(lambda: playing.sent)
    await turns()
    assert playing.taken <= 3, "one waits, one is on its way"
    playing.reads.set()
    async with asyncio.timeout(SECONDS):
        await task
    assert playing.got == [b"", "", "text", b"bytes", None]


async def test_quarts_side_ends_with_the_route_and_with_its_server() -> None:
    playing = Playing([{"type": "websocket.connect"}])
    task = asyncio.ensure_future(playing.connection(playing.receive, playing.send))
    await until(lambda: playing.sent)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_server_that_complains_of_a_client_that_is_gone_is_answered_by_silence() -> None:
    """uvicorn raises an error of its own then, which is nobody's fault."""
    app = Quart(__name__)
    came: list[bool] = []
    sent: list[str] = []

    @app.websocket("/ws")
    async def talk() -> None:
        await websocket.accept()
        while True:
            await websocket.send("x")

    async def receive() -> Any:
        if came:
            await asyncio.Event().wait()
        came.append(True)
        return {"type": "websocket.connect"}

    async def send(event: Any) -> None:
        await asyncio.sleep(0)
        sent.append(event["type"])
        if len(sent) > 3:
            raise RuntimeError("the client is gone")

    scope = {
        "type": "websocket",
        "path": "/ws",
        "headers": [(b"host", b"a")],
        "query_string": b"",
        "subprotocols": [],
        "asgi": {"spec_version": "2.3"},
    }
    async with asyncio.timeout(SECONDS):
        await AsgiConnection(app, cast(Any, scope))(receive, cast(Any, send))
    assert sent == ["websocket.accept", "websocket.send", "websocket.send", "websocket.send"]
