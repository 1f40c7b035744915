"""What a client does when its connection is lost, by close code, token and goodbye."""

import asyncio
import itertools
from http import HTTPStatus

import pytest

from chat_server.client import (
    Backoff,
    BadServer,
    ClientClosed,
    ClientState,
    ConnectionLost,
    Disconnected,
    Ending,
    NotConnected,
    TokenRejected,
    connect,
    connection,
    reconnector,
)
from chat_server.client.connection import Connection
from chat_server.protocol import commands, messages
from chat_server.protocol.close_codes import STOP, CloseCode
from tests.client.conftest import Connect
from tests.client.helpers import message
from tests.rig.fake_server import FakeServer
from tests.rig.waiting import until


class Watch:
    """Remembers what `on_state` was told."""

    def __init__(self) -> None:
        self.states: list[ClientState] = []
        self.reasons: list[str] = []

    def __call__(self, state: ClientState, reason: str) -> None:
        self.states.append(state)
        self.reasons.append(reason)


class Delays(Backoff):
    """Remembers which endings were waited for, and does not wait."""

    def __init__(self) -> None:
        super().__init__()
        self.endings: list[Ending] = []

    def delay(self, ending: Ending) -> float:
        self.endings.append(ending)
        return 0.0


async def test_states_are_reported(server: FakeServer, client: Connect) -> None:
    watch = Watch()
    async with client(on_state=watch) as chat:
        server.drop()
        await until(lambda: len(watch.states) == 3)
        assert chat.online
    assert watch.states == [
        ClientState.ONLINE,
        ClientState.RECONNECTING,
        ClientState.ONLINE,
        ClientState.CLOSED,
    ]
    assert "the connection broke; next attempt in" in watch.reasons[1]


@pytest.mark.parametrize("code", sorted(set(CloseCode) - STOP - {CloseCode.UNAUTHORIZED}))
async def test_codes_that_let_the_client_come_back(
    server: FakeServer, client: Connect, code: CloseCode
) -> None:
    delays = Delays()
    async with client(backoff=delays) as chat, chat.subscribe("room:a") as room:
        await server.close(code, "a reason")
        await server.publish("room:a", "missed")
        assert (await message(room)).data == "missed"
        assert delays.endings == [Ending("a reason", code)]


@pytest.mark.parametrize("code", [1000, 1001, 1009, 4400, 4401, 4403])
async def test_a_close_without_goodbye_is_a_lost_connection_whatever_its_code(
    server: FakeServer, client: Connect, code: int
) -> None:
    """A proxy may have sent it; also to a client whose token cannot be renewed."""
    delays = Delays()
    async with client(backoff=delays) as chat, chat.subscribe("room:a") as room:
        await server.close(code, "a proxy's reason")
        await server.publish("room:a", "missed")
        assert (await message(room)).data == "missed"
    assert delays.endings == [Ending("a proxy's reason", code)]


async def test_a_goodbye_without_a_close_is_an_end(
    server: FakeServer, client: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "GOODBYE_SECONDS", 0.05)
    async with client() as chat:
        await server.connections[0].send(
            messages.Goodbye(code=CloseCode.RESTART, reason="restart", reconnect_in_ms=1)
        )
        await until(lambda: len(server.tokens) == 2)
        assert (await chat.publish("room:a", 1, wait=True)).seq == 1


async def test_an_answer_that_never_comes_costs_the_connection(
    server: FakeServer, client: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "ANSWER_SECONDS", 1.0)
    server.silent.add("publish")
    async with client() as chat:
        with pytest.raises(ConnectionLost):
            await chat.publish("room:a", 1)
        server.silent.clear()
        assert (await chat.publish("room:a", 2, wait=True)).seq == 1


async def test_a_server_that_closes_at_once_is_not_pestered(
    server: FakeServer, client: Connect
) -> None:
    """Also when it asks to be called again in a millisecond."""

    async with client(backoff=Backoff(first=0.2, longest=30)):
        for _ in range(3):
            await until(lambda: server.connections)
            began = asyncio.get_running_loop().time()
            await server.close(CloseCode.RESTART, "restart", reconnect_in_ms=1)
        await until(lambda: server.connections)
        assert asyncio.get_running_loop().time() - began >= 0.35  # half of 0.2 × 4, less slack


@pytest.mark.parametrize("code", sorted(STOP))
async def test_codes_that_end_the_client(
    server: FakeServer, client: Connect, code: CloseCode
) -> None:
    async with client() as chat, chat.subscribe("room:a") as room:
        await server.publish("room:a", "before")
        await until(lambda: len(server.topic("room:a").messages) == 1)
        await server.close(code, "a reason", reconnect_in_ms=0)
        assert (await message(room)).data == "before"
        with pytest.raises(Disconnected, match=rf"a reason \({code}\)"):
            await anext(room)
        with pytest.raises(Disconnected) as caught:
            await chat.publish("room:a", 1)
        assert caught.value.ending.code == code
    assert len(server.tokens) == 1


async def test_goodbye_says_when_to_come_back(server: FakeServer, client: Connect) -> None:
    delays = Delays()
    async with client(backoff=delays):
        await server.close(CloseCode.RESTART, "restart", reconnect_in_ms=30)
        await until(lambda: len(server.tokens) == 2)
    assert delays.endings == [Ending("restart", CloseCode.RESTART, 30, announced=True)]


async def test_the_client_stays_away_for_as_long_as_goodbye_asks(
    server: FakeServer, client: Connect
) -> None:
    loop = asyncio.get_running_loop()
    async with client():  # whose own waits are far shorter
        left = loop.time()
        await server.close(CloseCode.RESTART, "restart", reconnect_in_ms=500)
        await until(lambda: len(server.tokens) == 2)
    assert loop.time() - left >= 0.5


async def test_goodbye_counts_when_the_close_frame_is_lost(
    server: FakeServer, client: Connect
) -> None:
    delays = Delays()
    async with client(backoff=delays):
        await server.connections[0].send(
            messages.Goodbye(code=CloseCode.OVERLOADED, reason="busy", reconnect_in_ms=10)
        )
        await asyncio.sleep(0.01)
        server.drop()
        await until(lambda: len(server.tokens) == 2)
    assert delays.endings == [Ending("busy", CloseCode.OVERLOADED, 10, announced=True)]


async def test_a_server_that_is_away_is_tried_again_and_again(
    server: FakeServer, client: Connect
) -> None:
    watch = Watch()
    async with client(on_state=watch) as chat, chat.subscribe("room:a") as room:
        await server.stop()
        await until(lambda: watch.states.count(ClientState.RECONNECTING) >= 4)
        server.topic("room:a").append("room:a", "missed")
        await server.start()
        assert (await message(room)).data == "missed"
    assert "connection refused" in watch.reasons[2]


async def test_refused_upgrades_are_tried_again(server: FakeServer, client: Connect) -> None:
    async with client() as chat:
        server.status = HTTPStatus.BAD_GATEWAY
        server.drop()
        await until(lambda: len(server.tokens) >= 4)
        server.status = None
        await chat.wait_online()
        assert await chat.ping() > 0


async def test_too_many_connections_are_waited_for_with_patience(
    server: FakeServer, client: Connect
) -> None:
    delays = Delays()
    async with client(backoff=delays) as chat:
        server.status = HTTPStatus.TOO_MANY_REQUESTS
        server.drop()
        await until(lambda: len(delays.endings) >= 2)
        server.status = None
        await chat.wait_online()
    assert delays.endings[1].code == CloseCode.TOO_MANY


# Tokens ----------------------------------------------------------------------------------------


async def test_each_connection_asks_for_a_fresh_token(server: FakeServer, client: Connect) -> None:
    numbers = itertools.count(1)

    async def token() -> str:
        await asyncio.sleep(0)
        return f"token-{next(numbers)}"

    async with client(token=token) as chat:
        await server.close(CloseCode.UNAUTHORIZED, "expired")
        await until(lambda: len(server.tokens) == 2)
        await chat.wait_online()
        assert await chat.ping() > 0
    assert server.tokens == ["token-1", "token-2"]


async def test_a_token_that_cannot_be_renewed_ends_the_client(
    server: FakeServer, client: Connect
) -> None:
    async with client(token="fixed") as chat, chat.subscribe("room:a") as room:
        await server.close(CloseCode.UNAUTHORIZED, "the token has expired", reconnect_in_ms=0)
        with pytest.raises(TokenRejected, match="the token has expired"):
            await anext(room)
    assert server.tokens == ["fixed"]


async def test_fresh_tokens_that_are_refused_end_the_client(
    server: FakeServer, client: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconnector, "REJECTED_SECONDS", 0.0)
    async with client(token=lambda: "again") as chat:
        server.accept = lambda token: False
        server.drop()
        with pytest.raises(TokenRejected):
            await chat.publish("room:a", 1, key="k1", wait=True)
    assert len(server.tokens) == 4


async def test_refusals_that_pass_with_time_are_outlived(
    server: FakeServer, client: Connect
) -> None:
    """Keys have changed, and the server has not fetched the new ones yet."""
    async with client(token=lambda: "again") as chat:
        server.accept = lambda token: False
        server.drop()
        await until(lambda: len(server.tokens) >= 8)
        server.accept = lambda token: True
        assert (await chat.publish("room:a", 1, key="k1", wait=True)).seq == 1


async def test_a_token_source_that_fails_is_asked_again(
    server: FakeServer, client: Connect
) -> None:
    answers = iter(["first", "", "second"])

    def token() -> str:
        answer = next(answers)
        if not answer:
            raise OSError("no route")
        return answer

    watch = Watch()
    async with client(token=token, on_state=watch) as chat:
        server.drop()
        await until(lambda: len(server.tokens) == 2)
        await chat.wait_online()
    assert any("no token: no route" in reason for reason in watch.reasons)


async def test_an_expired_token_is_refreshed_on_the_living_connection(
    server: FakeServer, client: Connect
) -> None:
    numbers = itertools.count(1)
    async with client(token=lambda: f"token-{next(numbers)}") as chat:
        notice = messages.Error(code="unauthorized", message="the token has expired")
        await server.connections[0].send(notice)
        await until(lambda: server.received(commands.Auth))
        assert await chat.ping() > 0
    assert server.tokens == ["token-1", "token-2"]
    assert len(server.received(commands.Auth)) == 1


async def test_a_refresh_that_fails_does_not_end_the_connection(
    server: FakeServer, client: Connect
) -> None:
    server.refuse("auth", "unauthorized")
    async with client(token=lambda: "again") as chat:
        notice = messages.Error(code="unauthorized", message="the token has expired")
        await server.connections[0].send(notice)
        await until(lambda: server.received(commands.Auth))
        assert await chat.ping() > 0


# Publishing meanwhile --------------------------------------------------------------------------


async def test_without_key_the_outcome_is_unknown(server: FakeServer, client: Connect) -> None:
    server.silent.add("publish")
    async with client() as chat:
        task = asyncio.create_task(chat.publish("room:a", 1, wait=True))
        await until(lambda: server.received(commands.Publish))
        server.drop()
        with pytest.raises(ConnectionLost):
            await task
    assert len(server.received(commands.Publish)) == 1


async def test_with_key_it_is_published_again_and_stored_once(
    server: FakeServer, client: Connect
) -> None:
    def break_after_storing(command: commands.Command) -> None:
        if isinstance(command, commands.Publish):
            server.topic("room:a").keys["k1"] = server.topic("room:a").append("room:a", "x").seq
            server.drop()
            server.on_command = lambda command: None

    server.on_command = break_after_storing
    async with client() as chat:
        published = await chat.publish("room:a", "x", key="k1", wait=True)
    assert published.duplicate
    assert published.seq == 1
    assert len(server.topic("room:a").messages) == 1
    assert len(server.received(commands.Publish)) == 2


async def test_with_key_but_without_wait_the_loss_is_told(
    server: FakeServer, client: Connect
) -> None:
    server.silent.add("publish")
    async with client() as chat:
        task = asyncio.create_task(chat.publish("room:a", 1, key="k1"))
        await until(lambda: server.received(commands.Publish))
        server.drop()
        with pytest.raises(ConnectionLost):
            await task


async def test_publications_that_waited_keep_their_order(
    server: FakeServer, client: Connect
) -> None:
    async with client() as chat:
        await server.stop()
        await until(lambda: not chat.online)
        with pytest.raises(NotConnected):
            await chat.signal("room:a", 1)
        tasks = [
            asyncio.create_task(chat.publish("room:a", n, key=f"k{n}", wait=True))
            for n in range(20)
        ]
        await asyncio.sleep(0)
        await server.start()
        await asyncio.gather(*tasks)
    assert [message.data for message in server.topic("room:a").messages] == list(range(20))


async def test_a_server_that_talks_nonsense_each_time_is_left(
    server: FakeServer, client: Connect
) -> None:
    async with client() as chat, chat.subscribe("room:a") as room:
        for _ in range(3):
            await until(lambda: server.connections)
            connection = server.connections.pop()
            await connection.send_raw(b'{"type": 7}')
        with pytest.raises(BadServer, match=r"not chat\.v1\.json"):
            async with asyncio.timeout(90):
                await anext(room)
        assert not chat.online
    assert len(server.tokens) == 3


async def test_entering_and_leaving_at_once(server: FakeServer, client: Connect) -> None:
    for _ in range(3):
        async with client():
            pass
    await until(lambda: not server.connections)


async def test_cancelled_while_connecting(server: FakeServer) -> None:
    async def never() -> str:
        await asyncio.Event().wait()
        return ""

    task = asyncio.create_task(connect(server.url, token=never).__aenter__())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_closed_while_reconnecting(server: FakeServer, client: Connect) -> None:
    async with client(backoff=Backoff(first=60)) as chat:
        room = await chat.subscribe("room:a").__aenter__()
        server.drop()
        await until(lambda: not chat.online)
    assert [event async for event in room] == []


async def test_a_close_that_is_given_up_ends_what_waits_all_the_same(
    client: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    closing, go_on = asyncio.Event(), asyncio.Event()
    close = Connection.close

    async def close_slowly(connection: Connection) -> None:
        closing.set()
        await go_on.wait()
        await close(connection)

    monkeypatch.setattr(Connection, "close", close_slowly)
    async with client() as chat:
        room = await chat.subscribe("room:a").__aenter__()
        task = asyncio.create_task(chat.close())
        await closing.wait()
        waiter = asyncio.create_task(chat.wait_online())
        task.cancel()
        await asyncio.wait([task])
        async with asyncio.timeout(90):
            assert [event async for event in room] == []
            for waiting in (waiter, chat.wait_online()):
                with pytest.raises(ClientClosed):
                    await waiting
        go_on.set()


async def test_cancelled_at_every_turn_leaves_nothing_behind(
    server: FakeServer, client: Connect
) -> None:
    """The fixture fails the test if a task is left."""

    async def use() -> None:
        async with client() as chat, chat.subscribe("room:a", last=1) as room:
            await chat.publish("room:a", 1)
            await anext(room)
            await chat.history("room:a")

    for turns in range(60):
        task = asyncio.create_task(use())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
    await until(lambda: not server.connections)
