"""Where a topic stands, asked by HTTP."""

import json
from collections.abc import Iterator
from itertools import count

import pytest

from chat_server.client import (
    BadServer,
    ClientClosed,
    CommandFailed,
    Gap,
    NotConnected,
    Position,
    connect,
)
from chat_server.client.codec import Encoding
from chat_server.client.url import api_url
from tests.client.conftest import Connect
from tests.client.helpers import data, take
from tests.rig.fake_server import FakeServer
from tests.rig.server import ServerProcess, mint


@pytest.fixture(scope="module")
def real() -> Iterator[ServerProcess]:
    with ServerProcess() as running:
        yield running


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
async def test_a_snapshot_is_followed_without_a_hole(
    real: ServerProcess, encoding: Encoding
) -> None:
    token, topic = mint("ann"), f"room:{encoding}"
    async with connect(real.url, token=lambda: token, encoding=encoding) as chat:
        empty = await chat.position(topic)
        assert empty.seq == 0
        first = await chat.publish(topic, "in the snapshot")
        await chat.react(topic, first.seq, "👍")
        position = await chat.position(topic)
        assert position == Position(empty.epoch, 2)
        await chat.publish(topic, "behind it")
        async with chat.subscribe(topic, since=position, strict=True) as room:
            [event] = await take(room, 1)
            assert not isinstance(event, Gap)
            assert data([event]) == ["behind it"]
        with pytest.raises(CommandFailed, match="bad_request: topic") as caught:
            await chat.position("no topic/?#")
        assert caught.value.code == "bad_request"
    async with connect(real.url, token=mint("eve", subscribe=[])) as eve:
        with pytest.raises(CommandFailed, match="forbidden: topic: the token does not allow"):
            await eve.position(topic)
    with pytest.raises(ClientClosed):
        await chat.position(topic)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("ws://h/ws", "http://h/api/x"),
        ("wss://u:p@h:81/chat/ws?a=b", "https://h:81/chat/api/x?a=b"),
    ],
)
def test_the_api_is_beside_the_websocket(url: str, address: str) -> None:
    assert api_url(url, "/api/x") == address


async def test_each_question_has_a_fresh_token(server: FakeServer, client: Connect) -> None:
    numbers = count()
    asked: list[str] = []

    def answer(path: str) -> tuple[int, str]:
        asked.append(path)
        return 200, '{"topic":"room:a","epoch":"e1","seq":7}'

    server.on_get = answer
    async with client(token=lambda: f"t{next(numbers)}") as chat:
        assert await chat.position("room:a") == Position("e1", 7)
        server.drop()
        # The WebSocket is not needed for it.
        assert await chat.position("room:a~@.-") == Position("e1", 7)
    assert asked == [f"/api/topics/{topic}/position" for topic in ("room:a", "room:a~@.-")]
    assert len(set(server.tokens)) == len(server.tokens) >= 3


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (404, "<html>nothing</html>", BadServer),
        (200, "<html>hello</html>", BadServer),
        (200, '{"epoch":"e1"}', BadServer),
        (200, '{"epoch":"e1","seq":-1}', BadServer),
        (302, "elsewhere", BadServer),
    ],
)
async def test_what_is_no_api_is_told(
    server: FakeServer, client: Connect, status: int, body: str, error: type[Exception]
) -> None:
    server.on_get = lambda path: (status, body)
    async with client() as chat:
        server.headers = {"Location": f"{server.url}/elsewhere"} if status == 302 else {}
        with pytest.raises(error, match=f"HTTP {status}: there is no chat server's API at /api/"):
            await chat.position("room:a")
    assert len(server.tokens) == 2, "no redirect is followed with the token"


async def test_a_refusal_says_when_to_come_back(server: FakeServer, client: Connect) -> None:
    problem = {"code": "rate_limited", "detail": "slow down", "retry_in_ms": 250}
    server.on_get = lambda path: (429, json.dumps(problem))
    async with client() as chat:
        with pytest.raises(CommandFailed) as caught:
            await chat.position("room:a")
    assert (str(caught.value), caught.value.retry_in_ms) == ("rate_limited: slow down", 250)
    assert caught.value.transient


async def test_a_server_that_is_away_is_told(server: FakeServer, client: Connect) -> None:
    async with client() as chat:
        await server.stop()
        with pytest.raises(NotConnected, match=r"cannot be asked by HTTP: .*refused"):
            await chat.position("room:a")
