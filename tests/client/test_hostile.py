"""Servers that lie: the client neither crashes nor hangs, and what it holds stays bounded."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from chat_server.client import (
    Backoff,
    BadServer,
    Client,
    ClientError,
    ConnectFailed,
    Gap,
    Position,
    connect,
    publish_all,
)
from chat_server.client import connection as connection_module
from tests.client.test_bulk import each
from tests.rig.waiting import until

WELCOME: dict[str, Any] = {
    "type": "welcome",
    "session": "s",
    "user": "me",
    "server": "liar",
    "heartbeat_seconds": 25,
    "limits": {
        "max_message_bytes": 65_536,
        "max_topics": 128,
        "max_pending_commands": 64,
        "messages_per_second": 50,
        "message_burst": 100,
        "idempotency_seconds": 300,
    },
}

Answer = Callable[[dict[str, Any]], list[dict[str, Any]]]


class Liar:
    """A server that says whatever a test wants it to."""

    def __init__(self, welcome: dict[str, Any], answer: Answer) -> None:
        self.connections: list[ServerConnection] = []
        self.count = 0
        self.url = ""
        self._welcome = welcome
        self._answer = answer

    async def handle(self, websocket: ServerConnection) -> None:
        """Serve one connection."""
        self.count += 1
        self.connections.append(websocket)
        try:
            await websocket.send(msgspec.json.encode(self._welcome), text=True)
            async for frame in websocket:
                for message in self._answer(msgspec.json.decode(frame)):
                    await websocket.send(msgspec.json.encode(message), text=True)
        except ConnectionClosed:
            pass


@asynccontextmanager
async def lying(
    answer: Answer = lambda command: [ok(command)], **welcome: Any
) -> AsyncIterator[Liar]:
    liar = Liar({**WELCOME, **welcome}, answer)
    async with serve(
        liar.handle, "127.0.0.1", 0, subprotocols=[Subprotocol("chat.v1.json")]
    ) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        liar.url = f"http://127.0.0.1:{port}"
        yield liar


def client(liar: Liar, **options: Any) -> Client:
    backoff = Backoff(first=0.01, longest=0.05, patient=0.01)
    return connect(liar.url, **{"token": lambda: "t0ken", "backoff": backoff, **options})


def ok(command: dict[str, Any]) -> dict[str, Any]:
    """Answer any command as if it had been carried out."""
    return {
        "type": "ok",
        "id": command["id"],
        "topic": command.get("topic"),
        "epoch": "e1",
        "seq": 1,
        "at": 1,
        "duplicate": False,
        "recovered": True,
        "replayed": 0,
        "user": "me",
        "messages": [],
        "more": False,
    }


LIMITS = WELCOME["limits"]


@pytest.mark.parametrize(
    "limits",
    [
        {"messages_per_second": 0, "message_burst": 0},
        {"messages_per_second": -5, "message_burst": -(2**60)},
        {"messages_per_second": 1e308, "message_burst": 2**63},
        {"idempotency_seconds": -1},
        {"idempotency_seconds": 1e308},
    ],
)
async def test_odd_limits(limits: dict[str, Any]) -> None:
    async with lying(limits={**LIMITS, **limits}) as liar, client(liar) as chat:
        async with asyncio.timeout(90):
            assert [p.seq async for p in publish_all(chat, "room:a", each([1]))] == [1]


@pytest.mark.parametrize("expires_at", [-(2**60), 0, 1, 2**63 - 1, 10**400])
async def test_odd_ends_of_tokens(expires_at: int) -> None:
    calls = 0

    def token() -> str:
        nonlocal calls
        calls += 1
        return "t0ken"

    def answer(command: dict[str, Any]) -> list[dict[str, Any]]:
        return [{**ok(command), "expires_at": expires_at}]

    async with lying(answer, expires_at=expires_at) as liar, client(liar, token=token) as chat:
        assert (await chat.publish("room:a", 1)).seq == 1
        await asyncio.sleep(0.3)
    assert calls <= 2


@pytest.mark.parametrize("retry_in_ms", [-(2**63), -1, 0, 1, 2**53, 10**400])
async def test_odd_times_to_come_back(retry_in_ms: int) -> None:
    """It asks to be called again at once, or never, each time."""
    goodbye = {"type": "goodbye", "code": 1012, "reason": "x", "reconnect_in_ms": retry_in_ms}
    async with lying(lambda command: [goodbye]) as liar:
        backoff = Backoff(first=0.2, longest=0.4)
        async with client(liar, backoff=backoff) as chat:
            for _ in range(3):
                publishing = asyncio.create_task(chat.publish("room:a", 1, key="k", wait=True))
                await asyncio.sleep(0.2)
                for websocket in liar.connections:
                    await websocket.close(1012)
                publishing.cancel()
                await asyncio.wait([publishing])
    assert liar.count <= 10


@pytest.mark.parametrize(
    "lie",
    [
        {"type": "gap", "topic": "room:a", "epoch": "e2", "after": -9, "before": -5, "reason": "x"},
        {
            "type": "gap",
            "topic": "room:a",
            "epoch": "e2",
            "after": 0,
            "before": 10**30,
            "reason": "x",
        },
    ],
)
async def test_gaps_that_no_server_would_take_back(lie: dict[str, Any]) -> None:
    def answer(command: dict[str, Any]) -> list[dict[str, Any]]:
        return [ok(command), lie] if command["type"] == "subscribe" else [ok(command)]

    async with lying(answer) as liar, client(liar) as chat, chat.subscribe("room:a") as room:
        async with asyncio.timeout(90):
            assert isinstance(await anext(room), Gap)
        position = room.position
        assert position is not None
        assert 0 <= position.seq < 2**53


@pytest.mark.parametrize(
    "lie",
    [
        {"type": "message", "topic": "room:a", "seq": -1, "at": 1, "from": None, "data": 1},
        {"type": "message", "topic": "room:a", "seq": 2**60, "at": 1, "from": None, "data": 1},
        {"type": "message", "topic": "room:a", "seq": "x", "at": 1, "from": None, "data": 1},
        {"type": "message", "topic": "room:a", "seq": 2, "at": 1, "from": 5, "data": 1},
        {"type": "gap", "topic": "room:a"},
        {"type": "error", "topic": "room:a"},
        {"type": "goodbye"},
        {"type": ["x"]},
    ],
)
async def test_nonsense_that_repeats_ends_the_client_with_one_error(lie: dict[str, Any]) -> None:
    def answer(command: dict[str, Any]) -> list[dict[str, Any]]:
        return [ok(command), lie] if command["type"] == "subscribe" else [ok(command)]

    async with lying(answer) as liar, client(liar) as chat, chat.subscribe("room:a") as room:
        async with asyncio.timeout(90):
            with pytest.raises(BadServer, match=r"not chat\.v1\.json"):
                [event async for event in room]


async def test_one_odd_frame_ends_no_client() -> None:
    lies: list[dict[str, Any]] = [{"type": ["x"]}, {"type": ["x"]}]

    def answer(command: dict[str, Any]) -> list[dict[str, Any]]:
        return [lies.pop()] if lies else [ok(command)]

    async with lying(answer) as liar, client(liar) as chat:
        async with asyncio.timeout(90):
            assert (await chat.publish("room:a", 1, key="k", wait=True)).seq == 1
        assert liar.count == 3


@pytest.mark.parametrize("answer", [{"seq": -1}, {"seq": 2**60}, {"epoch": 5}, {"at": "soon"}])
async def test_answers_that_are_none(answer: dict[str, Any]) -> None:
    async with lying(lambda command: [{**ok(command), **answer}]) as liar, client(liar) as chat:
        with pytest.raises(ClientError):
            async with asyncio.timeout(90):
                await chat.publish("room:a", 1)


@pytest.mark.parametrize(
    "welcome",
    [{"type": "pong"}, {"limits": {}}, {"limits": None}, {"user": 5}, {"heartbeat_seconds": "x"}],
)
async def test_welcomes_that_are_none(welcome: dict[str, Any]) -> None:
    async with lying(**welcome) as liar:
        with pytest.raises(ConnectFailed, match="no chat server, or of another version"):
            async with client(liar):
                pass


async def test_answers_that_nobody_asked_for_are_not_kept() -> None:
    strays = [{**ok({"id": number}), "id": number} for number in range(10_000, 12_000)]
    pushes = [
        {"type": "message", "topic": f"room:{n}", "seq": 1, "at": 1, "from": None, "data": "x"}
        for n in range(2_000)
    ]
    answer = {"type": "unknown", "topic": "room:z", "fields": [1, 2]}

    async with (
        lying(lambda command: [*strays, *pushes, answer, ok(command)]) as liar,
        client(liar) as chat,
    ):
        assert (await chat.publish("room:a", 1)).seq == 1
        current = chat._reconnector.connection()
        assert current._waiting == {}
        assert chat._flow._held == 0


async def test_a_flood_of_events_is_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    flood = [
        {"type": "message", "topic": "room:a", "seq": n, "at": 1, "from": None, "data": "x"}
        for n in range(2, 3_000)
    ]

    def answer(command: dict[str, Any]) -> list[dict[str, Any]]:
        return [ok(command), *flood] if command["type"] == "subscribe" else [ok(command)]

    async with (
        lying(answer) as liar,
        client(liar, max_held=50) as chat,
        chat.subscribe("room:a"),
    ):
        await until(lambda: chat._flow.full)
        assert await chat.publish("room:b", 1)
        assert chat._flow._held <= 50


async def test_a_refusal_for_ever_is_not_a_tight_loop() -> None:
    """Each renewal succeeds, and each command is refused as if the token had expired."""
    count = 0

    def answer(command: dict[str, Any]) -> list[dict[str, Any]]:
        nonlocal count
        count += 1
        if command["type"] == "auth":
            return [ok(command)]
        refusal = {"type": "error", "id": command["id"], "code": "unauthorized", "message": "no"}
        return [refusal]

    async with lying(answer) as liar, client(liar) as chat:
        with pytest.raises(ClientError, match="unauthorized"):
            await chat.publish("room:a", 1)
        assert count <= 2 * (connection_module.MAX_EXPIRIES + 1)
        count = 0
        run = publish_all(chat, "room:a", each([1]))
        task = asyncio.ensure_future(anext(run))
        await asyncio.sleep(1.0)
        assert count < 40
        task.cancel()
        await asyncio.wait([task])
        await run.aclose()


async def test_the_position_of_a_liar_is_not_believed() -> None:
    async with lying() as liar, client(liar) as chat:
        chat._log.note_position("room:a", Position("e1", 2**60))
        assert chat._log.position("room:a") is None
