"""A publication whose answer was lost is stored once, also when its key has been forgotten."""

import asyncio
import time
from collections.abc import Callable

import msgspec
import pytest

from chat_server.client import (
    Client,
    CommandFailed,
    ConnectionLost,
    NotConnected,
    OutcomeUnknown,
    delivery,
    publish_all,
)
from chat_server.client.data import check_data
from chat_server.events import Position
from chat_server.protocol import commands, messages
from tests.client.conftest import Connect
from tests.client.helpers import take
from tests.client.test_bulk import each
from tests.rig.fake_server import FakeServer
from tests.rig.waiting import until

WINDOW = 300.0


@pytest.fixture
def sleep(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let time pass on the wall's clock alone, as while a machine sleeps; the server forgets."""
    passed = 0.0
    now = time.time

    def sleep(seconds: float) -> None:
        nonlocal passed
        passed += seconds
        if seconds >= WINDOW:
            for topic in server.topics.values():
                topic.keys.clear()

    monkeypatch.setattr(time, "time", lambda: now() + passed)
    return sleep


def lose(server: FakeServer, *, store: bool, then: Callable[[], None] = lambda: None) -> None:
    """Break the connection at the next publication, after or before it is stored."""

    def on_command(command: commands.Command) -> None:
        if not isinstance(command, commands.Publish):
            return
        server.on_command = lambda command: server.silent.discard("publish")
        server.silent.add("publish")
        topic = server.topic(command.topic)
        if store:
            message = topic.append(command.topic, msgspec.json.decode(command.data), "me")
            topic.keys[command.key or ""] = message.seq
        server.drop()
        then()

    server.on_command = on_command


def stored(server: FakeServer) -> list[object]:
    return [message.data for message in server.topic("room:a").messages]


async def start(chat: Client) -> None:
    """Publish something, so that the client knows where the topic stands."""
    await chat.publish("room:a", "first", key="first")


@pytest.mark.parametrize("store", [True, False])
@pytest.mark.parametrize("seconds", [0.0, 100.0, 200.0, 10_000.0])
async def test_an_answer_that_was_lost(
    server: FakeServer,
    client: Connect,
    sleep: Callable[[float], None],
    *,
    store: bool,
    seconds: float,
) -> None:
    async with client() as chat:
        await start(chat)
        lose(server, store=store, then=lambda: sleep(seconds))
        published = await chat.publish("room:a", {"text": "x"}, key="k1", wait=True)
        assert (published.seq, published.duplicate) == (2, store)
        assert (await chat.publish("room:a", "last", key="k2", wait=True)).seq == 3
    assert stored(server) == ["first", {"text": "x"}, "last"]
    looked = seconds >= WINDOW / 2
    assert bool(server.received(commands.History)) is looked


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
async def test_equal_messages_are_not_taken_for_each_other(
    server: FakeServer, client: Connect, sleep: Callable[[float], None], encoding: str
) -> None:
    """Two of three equal ones are stored; the lost one is neither of them."""
    async with client(encoding=encoding) as chat:
        await start(chat)
        await chat.publish("room:a", "same", key="k1")

        def meanwhile() -> None:
            sleep(WINDOW)
            server.topic("room:a").append("room:a", "same", "another user")

        lose(server, store=False, then=meanwhile)
        assert (await chat.publish("room:a", "same", key="k2", wait=True)).seq == 4
    assert stored(server) == ["first", "same", "same", "same"]


async def test_with_a_subscription_the_position_is_known(
    server: FakeServer, client: Connect, sleep: Callable[[float], None]
) -> None:
    server.topic("room:a").append("room:a", "old", "me")
    async with client() as chat, chat.subscribe("room:a") as room:
        lose(server, store=True, then=lambda: sleep(WINDOW))
        assert (await chat.publish("room:a", "new", key="k", wait=True)).seq == 2
        assert [event.seq for event in await take(room, 1) if isinstance(event, messages.Message)]
    assert stored(server) == ["old", "new"]


async def test_without_a_known_position_it_is_said(
    server: FakeServer, client: Connect, sleep: Callable[[float], None]
) -> None:
    lose(server, store=True, then=lambda: sleep(WINDOW))
    async with client() as chat:
        with pytest.raises(OutcomeUnknown, match="room:a may have been stored"):
            await chat.publish("room:a", "x", key="k", wait=True)
    assert stored(server) == ["x"]


@pytest.mark.parametrize(
    ("happens", "reason"),
    [
        ("history is gone", "no longer has all"),
        ("history was trimmed", "no longer has all"),
        ("the epoch changed", "order of the topic was lost"),
        ("history is forbidden", "history cannot be read"),
    ],
)
async def test_where_history_does_not_tell_it_is_said(
    server: FakeServer,
    client: Connect,
    sleep: Callable[[float], None],
    happens: str,
    reason: str,
) -> None:
    async with client() as chat:
        await start(chat)

        def then() -> None:
            sleep(WINDOW)
            topic = server.topic("room:a")
            if happens == "history is gone":
                topic.messages.clear()
            elif happens == "history was trimmed":
                topic.append("room:a", "another", "bob")
                del topic.messages[:2]
            elif happens == "the epoch changed":
                topic.restart("e2")
                topic.append("room:a", "first of the new order")
            else:
                server.refuse("history", "forbidden")

        lose(server, store=True, then=then)
        with pytest.raises(OutcomeUnknown, match=reason):
            await chat.publish("room:a", "x", key="k", wait=True)
    assert len(server.received(commands.Publish)) == 2


@pytest.mark.parametrize("again", ["the application", "after it gave up waiting"])
async def test_an_application_that_repeats_a_key_itself(
    server: FakeServer, client: Connect, sleep: Callable[[float], None], again: str
) -> None:
    async with client() as chat:
        await start(chat)
        if again == "the application":
            lose(server, store=True)
            with pytest.raises(ConnectionLost):
                await chat.publish("room:a", "x", key="k")
        else:
            server.silent.add("publish")
            server.on_command = lambda command: store_quietly(server, command)
            giving_up = asyncio.create_task(chat.publish("room:a", "x", key="k", wait=True))
            await until(lambda: stored(server) == ["first", "x"])
            giving_up.cancel()
            await asyncio.wait([giving_up])
            server.silent.clear()
            server.on_command = lambda command: None
        sleep(WINDOW)
        published = await chat.publish("room:a", "x", key="k", wait=True)
        assert (published.seq, published.duplicate) == (2, True)
    assert stored(server) == ["first", "x"]


def store_quietly(server: FakeServer, command: commands.Command) -> None:
    if isinstance(command, commands.Publish):
        topic = server.topic(command.topic)
        topic.append(command.topic, msgspec.json.decode(command.data), "me")


async def test_a_store_that_did_not_know_leaves_it_open(
    server: FakeServer, client: Connect, sleep: Callable[[float], None]
) -> None:
    """`unavailable` may mean that it was stored."""
    async with client() as chat:
        await start(chat)
        server.topic("room:a").append("room:a", "x", "me")
        server.refuse("publish", "unavailable")
        with pytest.raises(CommandFailed, match="unavailable") as caught:
            await chat.publish("room:a", "x", key="k")
        assert not caught.value.definite
        sleep(WINDOW)
        assert (await chat.publish("room:a", "x", key="k")).seq == 2
    assert stored(server) == ["first", "x"]


async def test_a_definite_refusal_leaves_nothing_open(
    server: FakeServer, client: Connect, sleep: Callable[[float], None]
) -> None:
    async with client() as chat:
        await start(chat)
        server.refuse("publish", "forbidden")
        with pytest.raises(CommandFailed, match="forbidden") as caught:
            await chat.publish("room:a", "x", key="k")
        assert caught.value.definite
        sleep(WINDOW)
        assert (await chat.publish("room:a", "x", key="k")).seq == 2
    assert not server.received(commands.History)


async def test_looking_waits_where_it_is_refused_for_the_moment(
    server: FakeServer, client: Connect, sleep: Callable[[float], None]
) -> None:
    async with client() as chat:
        await start(chat)
        server.refuse("history", "rate_limited", retry_in_ms=5)
        lose(server, store=True, then=lambda: sleep(WINDOW))
        assert (await chat.publish("room:a", "x", key="k", wait=True)).seq == 2


async def test_many_messages_since_are_read_in_pages(
    server: FakeServer, client: Connect, sleep: Callable[[float], None]
) -> None:
    def then() -> None:
        sleep(WINDOW)
        for number in range(700):
            server.topic("room:a").append("room:a", number, "bob")

    async with client() as chat:
        await start(chat)
        lose(server, store=True, then=then)
        assert (await chat.publish("room:a", "x", key="k1", wait=True)).seq == 2
        lose(server, store=False, then=then)
        assert (await chat.publish("room:a", "y", key="k2", wait=True)).seq == 1403


async def test_publish_all_asks_for_a_position_before_it_needs_one(
    server: FakeServer, client: Connect, sleep: Callable[[float], None]
) -> None:
    server.topic("room:a").append("room:a", "old", "me")
    lose(server, store=True, then=lambda: sleep(WINDOW))
    async with client() as chat:
        places = [p.seq async for p in publish_all(chat, "room:a", each(range(20)), window=1)]
    assert places == list(range(2, 22))
    assert stored(server) == ["old", *range(20)]


async def test_publish_all_goes_on_where_history_is_forbidden(
    server: FakeServer, client: Connect
) -> None:
    server.refuse("history", "forbidden")
    async with client() as chat:
        assert [p.seq async for p in publish_all(chat, "room:a", each(range(3)))] == [1, 2, 3]


async def test_what_is_remembered_is_bounded(server: FakeServer, client: Connect) -> None:
    async with client() as chat:
        log = chat._log
        for number in range(delivery.MAX_REMEMBERED + 50):
            publication = log.publication(f"room:{number}", chat._codec.data(1), "k")
            log.mark_unknown(publication)
            log.note_position(f"room:{number}", Position("e1", 1))
        assert len(log._unknown) == len(log._positions) == delivery.MAX_REMEMBERED


# What cannot be published ----------------------------------------------------------------------


def nested(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("data", "kind", "words"),
    [
        (float("nan"), ValueError, r"^data: nan has no form in JSON"),
        ({"a": [1, float("inf")]}, ValueError, r"^data\.a\[1\]: inf has no form"),
        ({"a": b"bytes"}, TypeError, r"^data\.a: bytes has no form in JSON"),
        ({1: "x"}, TypeError, r"^data: keys must be text, not int \(1\)"),
        ({"a": {None: "x"}}, TypeError, r"^data\.a: keys must be text, not NoneType"),
        ([2**64], ValueError, r"^data\[0\]: must be an integer of at most 64 bits"),
        (-(2**63) - 1, ValueError, r"^data: must be an integer"),
        ({"text": "Nice one \ud83d"}, ValueError, r"^data\.text: holds half a surrogate pair"),
        ({"\udc00": 1}, ValueError, r"^data: a key: holds half a surrogate pair"),
        ({"a": {1, 2}}, TypeError, r"^data\.a: set has no form"),
        ({"a": object()}, TypeError, r"^data\.a: object has no form"),
        (nested(101), ValueError, "nested deeper than 100 levels"),
    ],
)
@pytest.mark.parametrize("encoding", ["json", "msgpack"])
async def test_what_json_would_change_is_refused(
    server: FakeServer,
    client: Connect,
    data: object,
    kind: type[Exception],
    words: str,
    encoding: str,
) -> None:
    async with client(encoding=encoding) as chat:
        for call in (chat.publish, chat.signal):
            with pytest.raises(kind, match=words):
                await call("room:a", data)
        assert (await chat.publish("room:a", "fine")).seq == 1
    assert len(server.received(commands.Publish)) == 1


@pytest.mark.parametrize(
    "data",
    [
        *(None, True, 0, -0.0, 1.5, "", "ü😀", [], {}, (1, 2), 2**64 - 1, -(2**63)),
        nested(100),
        {"a": [{"b": None}]},
    ],
)
def test_what_json_expresses_is_taken(data: object) -> None:
    check_data(data)


async def test_half_a_surrogate_pair_elsewhere(server: FakeServer, client: Connect) -> None:
    async with client() as chat:
        with pytest.raises(ValueError, match="half a surrogate pair"):
            await chat.publish("room:a", 1, key="\ud83d")
        with pytest.raises(ValueError, match="half a surrogate pair"):
            async with chat.subscribe("room:\ud83d"):
                pass
        assert await chat.ping() > 0


async def test_not_connected_means_that_nothing_was_sent(
    server: FakeServer, client: Connect
) -> None:
    async with client() as chat:
        await server.stop()
        await until(lambda: not chat.online)
        with pytest.raises(NotConnected):
            await chat.publish("room:a", 1, key="k")
        await server.start()
        assert (await chat.publish("room:a", 1, key="k", wait=True)).seq == 1
    assert not server.received(commands.History)
