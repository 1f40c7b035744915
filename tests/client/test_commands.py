"""Commands and their answers, in both encodings."""

import asyncio
from http import HTTPStatus

import pytest

from chat_server.client import (
    ClientClosed,
    CommandFailed,
    ConnectFailed,
    ConnectionLost,
    Disconnected,
    NotConnected,
    Published,
    Signal,
    TokenRejected,
    connect,
)
from chat_server.client import opening as connection_module
from chat_server.client.url import websocket_url
from chat_server.events import Position
from chat_server.protocol import commands
from tests.client.conftest import Connect
from tests.client.helpers import data, message, take
from tests.rig.fake_server import FakeServer
from tests.rig.waiting import until

VALUES = [
    {"text": "grüße 👋", "n": [1, -2.5, None, True], "deep": {"a": {"b": []}}},
    "just text",
    0,
    None,
    [],
    2**63 - 1,
]


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
async def test_data_comes_back_as_it_was_published(
    server: FakeServer, client: Connect, encoding: str
) -> None:
    async with client(encoding=encoding) as chat, chat.subscribe("room:a") as room:
        for seq, value in enumerate(VALUES, 1):
            published = await chat.publish("room:a", value)
            assert published == Published("room:a", seq, "e1", published.at, duplicate=False)
            event = await message(room)
            assert event.data == value
            assert event.seq == seq
            assert event.sender is not None
            assert event.sender.user == "me"
        page = await chat.history("room:a")
        assert [message.data for message in page.messages] == VALUES
        assert not page.more


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
async def test_encodings_meet_in_one_topic(
    server: FakeServer, client: Connect, encoding: str
) -> None:
    async with (
        client(encoding="json") as one,
        client(encoding="msgpack") as other,
        other.subscribe("room:a") as room,
    ):
        await one.publish("room:a", VALUES)
        assert (await message(room)).data == VALUES


async def test_history_reads_before_and_after(server: FakeServer, client: Connect) -> None:
    for number in range(10):
        server.topic("room:a").append("room:a", number)
    async with client() as chat:
        newest = await chat.history("room:a", limit=3)
        assert [m.seq for m in newest.messages] == [8, 9, 10]
        assert newest.more
        older = await chat.history("room:a", before=3)
        assert [m.seq for m in older.messages] == [1, 2]
        newer = await chat.history("room:a", after=8)
        assert [m.seq for m in newer.messages] == [9, 10]


async def test_signal_reaches_subscribers_and_is_not_stored(
    server: FakeServer, client: Connect
) -> None:
    async with client() as chat, chat.subscribe("room:a") as room:
        await chat.signal("room:a", {"typing": True})
        [event] = await take(room, 1)
        assert isinstance(event, Signal)
        assert event.data == {"typing": True}
        assert room.position == Position("e1", 0)
        assert (await chat.history("room:a")).messages == []


async def test_ping_measures_the_way_there_and_back(client: Connect) -> None:
    async with client() as chat:
        assert 0 < await chat.ping() < 5


async def test_an_error_of_the_server_is_raised_where_it_belongs(
    server: FakeServer, client: Connect
) -> None:
    server.refuse("publish", "rate_limited", retry_in_ms=250)
    async with client() as chat:
        with pytest.raises(CommandFailed, match="rate_limited: publish was refused") as caught:
            await chat.publish("room:a", 1)
        assert (caught.value.code, caught.value.retry_in_ms) == ("rate_limited", 250)
        assert caught.value.transient
        assert (await chat.publish("room:a", 2)).seq == 1


async def test_answers_find_their_commands_in_any_number(
    server: FakeServer, client: Connect
) -> None:
    async with client() as chat:
        results = await asyncio.gather(*(chat.publish("room:a", n) for n in range(200)))
    assert [published.seq for published in results] == list(range(1, 201))
    assert [message.data for message in server.topic("room:a").messages] == list(range(200))


async def test_a_cancelled_command_leaves_the_others_alone(
    server: FakeServer, client: Connect
) -> None:
    server.silent.add("publish")
    async with client() as chat:
        task = asyncio.create_task(chat.publish("room:a", 1))
        await until(lambda: server.received(commands.Publish))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await chat.ping() > 0


async def test_a_late_answer_to_a_cancelled_command_is_ignored(
    server: FakeServer, client: Connect
) -> None:
    async with client() as chat:
        task = asyncio.create_task(chat.publish("room:a", 1))
        await asyncio.sleep(0)  # sent, but not answered
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await chat.publish("room:a", 2)).seq == 2


async def test_what_has_no_form_in_json_is_not_sent(server: FakeServer, client: Connect) -> None:
    async with client() as chat:
        with pytest.raises(TypeError):
            await chat.publish("room:a", object())
        assert await chat.ping() > 0
    assert not server.received(commands.Publish)


# Connecting ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://h:8000", "ws://h:8000/ws"),
        ("http://h:8000/", "ws://h:8000/ws"),
        ("https://h/chat/", "wss://h/chat/ws"),
        ("ws://h:8000/ws", "ws://h:8000/ws"),
        ("wss://h", "wss://h/ws"),
        ("ws://[::1]:8000", "ws://[::1]:8000/ws"),
    ],
)
def test_base_addresses_lead_to_the_websocket(url: str, expected: str) -> None:
    assert websocket_url(url) == expected


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://h", "", "http://", "/ws"])
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="not an http://"):
        connect(url, token="t")


async def test_nobody_listens(server: FakeServer, client: Connect) -> None:
    chat = client()
    await server.stop()
    with pytest.raises(ConnectFailed, match=r"127.0.0.1:\d+: connection refused"):
        await chat.__aenter__()


@pytest.mark.parametrize("status", [HTTPStatus.NOT_FOUND, HTTPStatus.SERVICE_UNAVAILABLE])
async def test_the_upgrade_is_refused(
    server: FakeServer, client: Connect, status: HTTPStatus
) -> None:
    server.status = status
    with pytest.raises(ConnectFailed, match=f"HTTP {status.value}"):
        async with client():
            pass


async def test_a_rejected_token_is_told_in_the_servers_words(
    server: FakeServer, client: Connect
) -> None:
    server.accept = lambda token: False
    with pytest.raises(TokenRejected, match="bad token"):
        async with client():
            pass


@pytest.mark.parametrize("token", ["", "a b", "a\r\nX-Header: b", "tök"])
async def test_a_token_that_fits_no_header_is_not_sent(
    server: FakeServer, client: Connect, token: str
) -> None:
    with pytest.raises(ConnectFailed, match="no token"):
        async with client(token=token):
            pass
    assert server.tokens == []


async def test_something_else_listens(client: Connect) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"220 smtp.example.org\r\n")
        writer.close()

    other = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with other:
        port = other.sockets[0].getsockname()[1]
        with pytest.raises(ConnectFailed):
            async with connect(f"http://127.0.0.1:{port}", token="t"):
                pass


async def test_a_proxy_is_not_asked_for_the_way_to_this_machine(
    server: FakeServer, client: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    async with client() as chat:
        assert await chat.ping() > 0


async def test_a_server_that_says_nothing_is_given_up(client: Connect) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    silent = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with silent:
        port = silent.sockets[0].getsockname()[1]
        with pytest.raises(ConnectFailed, match="timed out"):
            async with connect(f"http://127.0.0.1:{port}", token="t", open_timeout=0.05):
                pass


async def test_use_after_close(client: Connect) -> None:
    async with client() as chat:
        pass
    with pytest.raises(ClientClosed):
        await chat.publish("room:a", 1)
    with pytest.raises(ClientClosed):
        await chat.publish("room:a", 1, wait=True)
    with pytest.raises(ClientClosed):
        await chat.wait_online()
    await chat.close()
    with pytest.raises(RuntimeError, match="only once"):
        await chat.__aenter__()


async def test_closing_fails_what_waits_for_an_answer(server: FakeServer, client: Connect) -> None:
    server.silent.add("publish")
    async with client() as chat:
        task = asyncio.create_task(chat.publish("room:a", 1))
        await until(lambda: server.received(commands.Publish))
    with pytest.raises(ConnectionLost):
        await task


async def test_closing_ends_subscriptions_behind_what_they_hold(
    server: FakeServer, client: Connect
) -> None:
    async with client() as chat:
        room = await chat.subscribe("room:a").__aenter__()
        await chat.publish("room:a", 1)
        await chat.close()
        assert data([event async for event in room]) == [1]


async def test_closing_while_the_server_floods_takes_no_timeout(
    server: FakeServer, client: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "CLOSE_SECONDS", 20.0)
    async with client(max_held=2) as chat:
        await chat.subscribe("room:a").__aenter__()
        flood = asyncio.create_task(_flood(server))
        await until(lambda: server.topic("room:a").seq > 50)
        async with asyncio.timeout(90):
            await chat.close()
        flood.cancel()
        await asyncio.wait([flood])


async def _flood(server: FakeServer) -> None:
    while True:
        await server.publish("room:a", "x" * 1000)
        await asyncio.sleep(0)


async def test_a_connection_that_breaks_is_not_connected_until_it_is_back(
    server: FakeServer, client: Connect
) -> None:
    async with client() as chat:
        await server.stop()
        await until(lambda: not chat.online)
        with pytest.raises(NotConnected):
            await chat.publish("room:a", 1)
        with pytest.raises(NotConnected):
            async with chat.subscribe("room:a"):
                pass
        await server.start()
        assert (await chat.wait_online()).user == "me"
        assert (await chat.publish("room:a", 1)).seq == 1


async def test_being_unwanted_from_the_start(server: FakeServer, client: Connect) -> None:
    async with client() as chat:
        await server.close(4403, "blocked", reconnect_in_ms=0)
        with pytest.raises(Disconnected, match="blocked"):
            await chat.publish("room:a", 1, wait=True)
