"""Short tokens: renewed ahead of their end, and no command is lost when that does not work out."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from chat_server.client import (
    Backoff,
    Client,
    ClientState,
    CommandFailed,
    ConnectFailed,
    TokenRejected,
    connect,
    publish_all,
    renewal,
)
from chat_server.client.credentials import Credentials
from chat_server.protocol import commands, messages
from chat_server.protocol.errors import ANOTHER_USER
from chat_server.protocol.messages import Error
from tests.client.conftest import Connect
from tests.rig.fake_server import FakeConnection, FakeServer
from tests.rig.waiting import until


def slow(seconds: float) -> Callable[[], Awaitable[str]]:
    """Return a token function that takes its time."""

    async def token() -> str:
        await asyncio.sleep(seconds)
        return "t0ken"

    return token


async def publish_for(chat: Client, seconds: float) -> int:
    """Publish one message after the other; return how many."""
    ends, count = time.monotonic() + seconds, 0
    while time.monotonic() < ends:
        count += 1
        await chat.publish("room:a", count)
        await asyncio.sleep(0.01)
    return count


@pytest.mark.parametrize("takes", [0.0, 0.1, 0.3])
async def test_a_token_is_renewed_before_it_expires(
    server: FakeServer, client: Connect, takes: float
) -> None:
    server.token_seconds = 4.0  # of which the client is told at least three
    async with client(token=slow(takes)) as chat:
        count = await publish_for(chat, 6.0)
    assert server.expired == 0, "commands were sent with a token that had expired"
    assert [message.data for message in server.topic("room:a").messages] == list(
        range(1, count + 1)
    )
    assert len(server.tokens) >= 3


@pytest.mark.parametrize("tells", [True, False], ids=["late", "not told when it expires"])
async def test_commands_wait_while_the_token_has_expired(
    server: FakeServer, client: Connect, *, tells: bool
) -> None:
    """The function takes longer than a token lives: every one of them expires."""
    server.token_seconds, server.tells_expiry = 0.5, tells
    async with client(token=slow(0.7)) as chat, chat.subscribe("room:b"):
        count = await publish_for(chat, 4.0)
        for _ in range(3):
            await asyncio.sleep(0.5)
            await chat.signal("room:a", 1)
            await chat.history("room:a")
            async with chat.subscribe("room:c"):
                pass
    assert server.expired > 0, "nothing was refused, so this test tests nothing"
    assert [message.data for message in server.topic("room:a").messages] == list(
        range(1, count + 1)
    )


async def test_publish_all_goes_on_and_keeps_its_order(server: FakeServer, client: Connect) -> None:
    server.token_seconds = 0.4

    async def items() -> AsyncIterator[object]:
        for number in range(150):
            await asyncio.sleep(0.02)
            yield number

    async with client(token=slow(0.5)) as chat:
        places = [p.seq async for p in publish_all(chat, "room:a", items())]
    assert server.expired > 0, "nothing was refused, so this test tests nothing"
    assert places == list(range(1, 151))
    assert [message.data for message in server.topic("room:a").messages] == list(range(150))


async def test_commands_that_waited_leave_in_the_order_of_the_calls(
    server: FakeServer, client: Connect
) -> None:
    server.token_seconds = 0.3
    go_on = asyncio.Event()
    calls = 0

    async def token() -> str:
        nonlocal calls
        calls += 1
        if calls > 1:
            await go_on.wait()
            server.token_seconds = None
        return "t0ken"

    async with client(token=token) as chat:
        await asyncio.sleep(0.4)
        first = asyncio.create_task(chat.publish("room:a", 0))  # refused: nobody told us
        await until(lambda: server.expired)
        tasks = [asyncio.create_task(chat.publish("room:a", n)) for n in range(1, 20)]
        await asyncio.sleep(0.05)
        go_on.set()
        await asyncio.gather(first, *tasks)
    assert [message.data for message in server.topic("room:a").messages] == list(range(20))


async def test_a_renewal_that_fails_is_tried_again(server: FakeServer, client: Connect) -> None:
    server.token_seconds = 2.0
    outcomes = iter(["first", OSError("no route"), "", None, "again"])

    def token() -> str:
        outcome = next(outcomes, "again")
        if isinstance(outcome, Exception):
            raise outcome
        return outcome  # type: ignore[return-value]

    async with client(token=token) as chat:
        server.refuse("auth", "unavailable", retry_in_ms=10)
        count = await publish_for(chat, 5.0)
    assert len(server.topic("room:a").messages) == count
    assert "again" in server.tokens


async def test_an_unauthorized_that_no_token_helps_against_is_raised(
    server: FakeServer, client: Connect
) -> None:
    for _ in range(20):
        server.refuse("publish", "unauthorized")
    async with client(token=lambda: "t0ken") as chat:
        with pytest.raises(CommandFailed, match="unauthorized"):
            await chat.publish("room:a", 1)


async def test_without_a_function_an_expired_token_is_the_applications_business(
    server: FakeServer, client: Connect
) -> None:
    server.token_seconds = 0.1
    async with client() as chat:
        await asyncio.sleep(0.2)
        with pytest.raises(CommandFailed, match="unauthorized") as caught:
            await chat.publish("room:a", 1)
    assert not caught.value.transient


async def test_a_token_of_another_user_ends_the_client_when_it_comes_back(
    server: FakeServer, client: Connect
) -> None:
    """What waits was written by the first user, and must not be stored in another's name."""
    async with client(token=lambda: "t0ken") as chat:
        server.user = "bob"
        server.drop()
        with pytest.raises(TokenRejected, match=r"the token is another user's \(bob\), not me's"):
            async with asyncio.timeout(90):
                await chat.publish("room:a", 1, key="k", wait=True)
    assert server.topic("room:a").messages == []


async def test_a_token_of_another_user_ends_the_client_when_it_is_renewed(
    server: FakeServer, client: Connect
) -> None:
    server.token_seconds = 0.2
    server.refuse("auth", "unauthorized", message=ANOTHER_USER)
    async with client(token=lambda: "t0ken") as chat:
        await asyncio.sleep(0.3)
        with pytest.raises(TokenRejected, match="another user"):
            async with asyncio.timeout(90):
                await chat.publish("room:a", 1, wait=True)
    assert len(server.received(commands.Auth)) == 1


async def test_a_function_that_returns_the_expired_token_is_asked_again(
    server: FakeServer, client: Connect
) -> None:
    """The server takes it, within its leeway, but it helps nothing; the command waits."""
    expires_at = int(time.time()) - 5
    stale = True

    async def auth(connection: FakeConnection, command: commands.Auth) -> None:
        if not stale:
            connection.token_ends = None
        ends = expires_at if stale else expires_at + 3600
        await connection.answer(command.id, messages.AuthOk(user="me", expires_at=ends))

    def take(connection: FakeConnection) -> int:
        connection.token_ends = float(expires_at)
        return expires_at

    server._on_auth, server._take_token = auth, take  # type: ignore[method-assign]
    async with client(token=lambda: "t0ken") as chat:
        publishing = asyncio.create_task(chat.publish("room:a", 1))
        await asyncio.sleep(3)
        assert not publishing.done()
        assert server.expired == 1
        assert 1 <= len(server.received(commands.Auth)) <= 8
        stale = False
        async with asyncio.timeout(90):
            assert (await publishing).seq == 1


async def test_a_server_that_is_never_content_does_not_wear_out_the_function(
    server: FakeServer, client: Connect
) -> None:
    calls = 0

    def token() -> str:
        nonlocal calls
        calls += 1
        return "t0ken"

    async with client(token=token) as chat:
        [connection] = server.connections
        ends = time.monotonic() + 2.0
        while time.monotonic() < ends:
            await connection.send(Error(code="unauthorized", message="no"))
            await asyncio.sleep(0.01)
        assert calls <= 7
        assert chat.online


@pytest.mark.parametrize(
    ("left", "least", "most"),
    [(3600.0, 3540.0, 3555.0), (300.0, 240.0, 255.0), (60.0, 30.0, 37.5), (0.2, 0.5, 0.5)],
)
def test_the_lead(left: float, least: float, most: float) -> None:
    delays = [renewal._delay(left) for _ in range(50)]
    assert all(delay is not None and least <= delay <= most for delay in delays)


def test_a_clock_that_is_ahead_waits_for_the_servers_word() -> None:
    assert renewal._delay(-1.0) is None


# Functions that hang ---------------------------------------------------------------------------


class Hanging:
    """A token function that hangs at some of its calls."""

    def __init__(self, *hangs: int) -> None:
        self.calls = 0
        self._hangs = hangs

    async def __call__(self) -> str:
        self.calls += 1
        if self.calls in self._hangs:
            await asyncio.Event().wait()
        return "t0ken"


async def test_a_function_that_hangs_is_given_up(server: FakeServer) -> None:
    with pytest.raises(
        ConnectFailed, match=r"no token: the function has not returned one in 0\.1 s"
    ):
        async with connect(server.url, token=Hanging(1), token_timeout=0.1):
            pass


async def test_a_function_that_hangs_is_asked_again(server: FakeServer, client: Connect) -> None:
    source = Hanging(2, 3)
    states: list[ClientState] = []
    async with client(
        token=source, token_timeout=0.3, on_state=lambda state, reason: states.append(state)
    ) as chat:
        server.drop()
        await until(lambda: source.calls == 4)
        await chat.wait_online()
    assert states.count(ClientState.RECONNECTING) == 3


async def test_a_renewal_that_hangs_is_tried_again(server: FakeServer, client: Connect) -> None:
    server.token_seconds = 2.0
    source = Hanging(2, 3)
    async with client(token=source, token_timeout=0.2) as chat:
        count = await publish_for(chat, 6.0)
    assert len(server.topic("room:a").messages) == count
    assert source.calls > 3


@pytest.mark.parametrize("awaitable", [False, True], ids=["plain", "plain that returns awaitable"])
async def test_a_plain_function_may_block(
    server: FakeServer, client: Connect, *, awaitable: bool
) -> None:
    """The loop goes on meanwhile, and one that hangs takes no second thread."""
    hang, go_on = threading.Event(), threading.Event()
    threads: list[str] = []
    calls: list[str] = []  # since it hangs

    async def later(call: int) -> str:
        if call == 1:
            await asyncio.Event().wait()
        return "t0ken"

    def token() -> str | Awaitable[str]:
        threads.append(threading.current_thread().name)
        if not hang.is_set():
            return "t0ken"
        calls.append(threads[-1])
        if awaitable:
            return later(len(calls))
        go_on.wait(60)
        return "t0ken"

    async with client(token=token, token_timeout=0.05, start_wait=60) as chat:
        hang.set()
        server.drop()
        await until(lambda: calls)
        await asyncio.sleep(0.6)
        if not awaitable:
            assert not chat.online
            assert len(calls) == 1
        go_on.set()
        await chat.wait_online()
        assert await chat.ping() > 0
    assert threading.main_thread().name not in threads


async def test_a_function_that_swallows_its_cancellation_is_waited_for_again(
    server: FakeServer, client: Connect
) -> None:
    calls = 0
    go_on = asyncio.Event()

    async def token() -> str:
        nonlocal calls
        calls += 1
        while calls > 1 and not go_on.is_set():
            try:
                await go_on.wait()
            except asyncio.CancelledError:
                continue
        return "t0ken"

    async with client(token=token, token_timeout=0.3, start_wait=60) as chat:
        server.drop()
        await until(lambda: calls > 1)
        await asyncio.sleep(1.0)
        assert calls == 2
        go_on.set()
        await chat.wait_online()
    assert calls == 2


@pytest.mark.parametrize("outcome", [None, 5, b"t0ken", SystemExit(1), StopIteration()])
async def test_whatever_a_function_does_is_one_sentence(
    server: FakeServer, outcome: object
) -> None:
    def token() -> str:
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome  # type: ignore[return-value]

    with pytest.raises(ConnectFailed, match="no token: "):
        async with connect(server.url, token=token, backoff=Backoff(first=0.01)):
            pass


async def test_what_a_thread_returns_too_late_is_for_the_next_attempt() -> None:
    """A coroutine, too: one that nobody awaits is a warning in the application's log."""
    go_on, calls = threading.Event(), 0

    async def later() -> str:
        return "t0ken"

    def source() -> Awaitable[str]:
        nonlocal calls
        calls += 1
        go_on.wait(60)
        return later()

    credentials = Credentials(source, deadline=60)
    asking = asyncio.create_task(credentials.token())
    await until(lambda: credentials._thread is not None)
    thread, call = credentials._thread, credentials._call
    assert thread is not None
    assert call is not None
    # In one turn of the loop the thread returns, and whoever asked gives up.
    thread.add_done_callback(lambda _: call.cancel())
    go_on.set()
    with pytest.raises(ConnectFailed):
        await asking
    assert await credentials.token() == "t0ken"
    assert calls == 1
