"""Edits, appends, deletions and reactions are stored once; and who reads, and who is there."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from chat_server.client import (
    Changed,
    Client,
    CommandFailed,
    ConnectionLost,
    Cursor,
    Join,
    Leave,
    Message,
    NotConnected,
    OutcomeUnknown,
    Presence,
    Present,
    PresentUser,
    Read,
    Unread,
    User,
)
from chat_server.protocol import commands
from chat_server.protocol.messages import Ok, ReadOk, UnreadIn, UnreadOk
from tests.client.conftest import Connect
from tests.client.helpers import take
from tests.rig.fake_server import FakeServer
from tests.rig.waiting import until

WINDOW = 300.0

Call = Callable[..., Any]
CALLS: dict[str, Call] = {
    "edit": lambda chat, **more: chat.edit("room:a", 1, {"text": "b"}, **more),
    "append": lambda chat, **more: chat.append("room:a", 1, "b", **more),
    "delete": lambda chat, **more: chat.delete("room:a", 1, **more),
    "react": lambda chat, **more: chat.react("room:a", 1, "👍", **more),
}

verb = pytest.mark.parametrize("name", list(CALLS))


def lose(server: FakeServer, name: str, *, store: bool) -> None:
    """Break the connection at the next command of a type, after or before it is stored."""

    async def fail(connection: Any, command: Any) -> None:
        delattr(server, f"_on_{name}")
        if store:
            await getattr(server, f"_on_{name}")(Unheard(), command)
        server.drop()

    setattr(server, f"_on_{name}", fail)


class Unheard:
    """A connection whose client hears nothing."""

    async def answer(self, id: int | None, ok: Ok) -> None:
        """Lose an answer."""


def changes(server: FakeServer) -> list[Any]:
    return [event for event in server.topic("room:a").messages if not isinstance(event, Message)]


@verb
async def test_where_a_change_is(server: FakeServer, client: Connect, name: str) -> None:
    async with client() as chat:
        await chat.publish("room:a", {"text": "a"})
        changed = await CALLS[name](chat)
    assert isinstance(changed, Changed)
    assert (changed.seq, changed.target, changed.epoch, changed.duplicate) == (2, 1, "e1", False)


@verb
@pytest.mark.parametrize("store", [True, False])
async def test_an_answer_that_was_lost(
    server: FakeServer, client: Connect, name: str, *, store: bool
) -> None:
    async with client() as chat:
        await chat.publish("room:a", {"text": "a"})
        lose(server, name, store=store)
        changed = await CALLS[name](chat, key="k", wait=True)
        assert (changed.seq, changed.duplicate) == (2, store)
    assert len(changes(server)) == 1


@verb
async def test_without_a_key_nothing_is_sent_twice(
    server: FakeServer, client: Connect, name: str
) -> None:
    async with client() as chat:
        await chat.publish("room:a", {"text": "a"})
        lose(server, name, store=True)
        with pytest.raises(ConnectionLost):
            await CALLS[name](chat, wait=True)
    assert len(changes(server)) == 1


@verb
async def test_a_key_that_may_be_forgotten_is_not_sent_again(
    server: FakeServer, client: Connect, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time
    async with client() as chat:
        await chat.publish("room:a", {"text": "a"})
        lose(server, name, store=True)
        with pytest.raises(ConnectionLost):
            await CALLS[name](chat, key="k")
        monkeypatch.setattr(time, "time", lambda: now() + WINDOW)
        server.topic("room:a").keys.clear()
        with pytest.raises(OutcomeUnknown, match=f"{name}: it may have been stored"):
            await CALLS[name](chat, key="k", wait=True)
    assert len(changes(server)) == 1


@verb
async def test_refusals_are_raised(server: FakeServer, client: Connect, name: str) -> None:
    async with client() as chat:
        await chat.publish("room:a", {"text": "a"})
        for code in ("gone", "rate_limited", "unavailable"):
            server.refuse(name, code)
            with pytest.raises(CommandFailed, match=code):
                await CALLS[name](chat, key="k", wait=True)
        assert (await CALLS[name](chat, key="k", wait=True)).seq == 2


@verb
async def test_without_a_connection_it_waits_if_asked_to(
    server: FakeServer, client: Connect, name: str
) -> None:
    async with client() as chat:
        await chat.publish("room:a", {"text": "a"})
        await server.stop()
        await until(lambda: not chat.online)
        with pytest.raises(NotConnected):
            await CALLS[name](chat, key="k")
        waiting = asyncio.create_task(CALLS[name](chat, key="k", wait=True))
        await server.start()
        assert (await waiting).seq == 2


@verb
async def test_a_token_that_expires_loses_no_change(
    server: FakeServer, client: Connect, name: str
) -> None:
    """The function takes longer than a token lives: every one of them expires."""
    server.token_seconds, server.tells_expiry = 0.2, False

    async def token() -> str:
        await asyncio.sleep(0.3)
        return "t0ken"

    async with client(token=token) as chat:
        await chat.publish("room:a", {"text": "a"})
        for _ in range(4):
            await asyncio.sleep(0.15)
            await CALLS[name](chat)
    assert server.expired > 0, "nothing was refused, so this test tests nothing"
    assert len(changes(server)) == 4


async def test_what_cannot_be_sent_is_refused(server: FakeServer, client: Connect) -> None:
    async with client() as chat:
        with pytest.raises(ValueError, match=r"data: nan has no form"):
            await chat.edit("room:a", 1, float("nan"))
        with pytest.raises(ValueError, match="surrogate"):
            await chat.append("room:a", 1, "\ud83d")


async def test_a_publication_is_found_among_changes(
    server: FakeServer, client: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seqs of messages have holes where changes are; they are none in history."""
    now = time.time
    async with client() as chat, chat.subscribe("room:a") as room:
        await chat.publish("room:a", {"text": "a"}, key="a")
        for _ in range(3):
            await chat.react("room:a", 1, "👍")
        await take(room, 4)
        for store, key in ((True, "b"), (False, "c")):
            lose(server, "publish", store=store)
            with pytest.raises(ConnectionLost):
                await chat.publish("room:a", key, key=key)
            monkeypatch.setattr(time, "time", lambda: now() + WINDOW)
            server.topic("room:a").keys.clear()
            published = await chat.publish("room:a", key, key=key, wait=True)
            assert published.duplicate is store
            monkeypatch.setattr(time, "time", now)
    stored = [e.data for e in server.topic("room:a").messages if isinstance(e, Message)]
    assert stored == [{"text": "a"}, "b", "c"]


async def test_a_publication_that_was_edited_meanwhile_is_not_sent_again(
    server: FakeServer, client: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time
    async with client() as chat:
        await chat.publish("room:a", "first", key="a")
        lose(server, "publish", store=True)
        with pytest.raises(ConnectionLost):
            await chat.publish("room:a", "second", key="b")
        edited = server.topic("room:a").messages[-1]
        edited.data, edited.edited_at, edited.version = "other words", 1, 3
        monkeypatch.setattr(time, "time", lambda: now() + WINDOW)
        with pytest.raises(OutcomeUnknown, match="message 2, which may be it, has been changed"):
            await chat.publish("room:a", "second", key="b", wait=True)


# Reading and presence ------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
async def test_read_and_unread(server: FakeServer, client: Connect, encoding: str) -> None:
    last = server.topic("room:a").append("room:a", "x", "bob")
    raw: Any = Raw(msgspec.json.encode(last))
    of_a = UnreadIn(read=4, seq=9, unread=3, more=True, last=raw)
    of_b = UnreadIn(read=0, seq=0, unread=0, more=False)
    server.answers["read"] = ReadOk(topic="room:a", seq=4, unread=3)
    server.answers["unread"] = UnreadOk(topics={"room:a": of_a, "room:b": of_b})
    async with client(encoding=encoding) as chat:
        assert await chat.read("room:a", 4) == Cursor(topic="room:a", seq=4, unread=3)
        unread = await chat.unread("room:a", "room:b")
        assert unread == {
            "room:a": Unread(read=4, seq=9, unread=3, more=True, last=last),
            "room:b": Unread(read=0, seq=0, unread=0, more=False),
        }
    [read], [asked] = server.received(commands.Read), server.received(commands.Unread)
    assert (read.topic, read.seq, asked.topics) == ("room:a", 4, ["room:a", "room:b"])


async def test_presence(server: FakeServer, client: Connect) -> None:
    users = [
        PresentUser(user="ann", name="Ann", connections=2),
        PresentUser(user="bob", connections=1),
    ]
    answer = Present(topic="room:a", count=9, connections=12, users=users, more=True)
    server.answers["presence"] = answer
    async with client() as chat:
        assert await chat.presence("room:a", after="al", limit=2) == answer
    [asked] = server.received(commands.Presence)
    assert (asked.after, asked.limit) == ("al", 2)


async def test_a_token_that_expires_loses_no_question(server: FakeServer, client: Connect) -> None:
    server.token_seconds, server.tells_expiry = 0.2, False
    server.answers["read"] = ReadOk(topic="room:a", seq=4, unread=3)
    async with client(token=lambda: "t0ken") as chat:
        for _ in range(3):
            await asyncio.sleep(0.3)
            assert (await chat.read("room:a", 4)).unread == 3
    assert server.expired > 0, "nothing was refused, so this test tests nothing"


async def test_who_comes_and_goes_is_typed(server: FakeServer, client: Connect) -> None:
    async with client() as chat, chat.subscribe("room:a", presence=True) as room:
        [asked] = server.received(commands.Subscribe)
        assert asked.presence
        [connection] = server.connections
        ann = {"user": "ann", "name": "Ann"}
        for push in (
            {"type": "join", **ann},
            {"type": "leave", **ann},
            {"type": "presence", "count": 200, "connections": 250, "joined": [ann], "left": []},
            {"type": "read", "user": "ann", "seq": 99},
        ):
            await connection.send_raw(msgspec.json.encode({"topic": "room:a", **push}))
        await chat.publish("room:a", 1)
        *events, message = await take(room, 5)
        assert events == [
            Join(topic="room:a", user="ann", name="Ann"),
            Leave(topic="room:a", user="ann", name="Ann"),
            Presence(
                topic="room:a",
                count=200,
                connections=250,
                joined=[User(user="ann", name="Ann")],
                left=[],
            ),
            Read(topic="room:a", user="ann", seq=99),
        ]
        assert isinstance(message, Message)
        assert message.seq == 1


# Signals ---------------------------------------------------------------------------------------


async def test_typing_is_repeated_until_the_block_is_left(
    server: FakeServer, client: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chat_server.client.signals.TYPING_SECONDS", 0.02)
    async with client() as chat:
        async with chat.typing("room:a"):
            await until(lambda: len(server.received(commands.Signal)) >= 2)
            server.refuse("signal", "rate_limited", retry_in_ms=5)
            await until(lambda: len(server.received(commands.Signal)) >= 4)
            server.drop()
            await until(lambda: len(server.received(commands.Signal)) >= 6)
        await chat.ping()
        count = len(server.received(commands.Signal))
        await asyncio.sleep(0.1)
        assert len(server.received(commands.Signal)) == count
    assert {bytes(signal.data) for signal in server.received(commands.Signal)} == {
        b'{"typing":true}'
    }


async def test_typing_where_that_is_forbidden(server: FakeServer, client: Connect) -> None:
    server.refuse("signal", "forbidden")
    async with client() as chat:
        with pytest.raises(CommandFailed, match="forbidden"):
            async with chat.typing("room:a"):
                pass


async def test_cancel_is_a_signal(server: FakeServer, client: Connect) -> None:
    async with client() as chat:
        await chat.cancel("room:a", 7)
    [signal] = server.received(commands.Signal)
    assert signal.data == Raw(b'{"cancel":7}')


def test_every_verb_is_a_method() -> None:
    assert all(callable(getattr(Client, name)) for name in (*CALLS, "read", "unread", "presence"))
