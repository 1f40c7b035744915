"""How far a user has read, over real sockets and two workers."""

import asyncio
from collections.abc import Iterator

import pytest

from tests.rig.chat_client import JSON, MSGPACK, Chat, chat
from tests.rig.redis_server import RedisServer
from tests.rig.server import ServerProcess

from .room import ANY, token

BLIND = {**ANY, "history": []}


@pytest.fixture(scope="module")
def workers(redis: RedisServer) -> Iterator[ServerProcess]:
    """Two workers over one Redis."""
    environ = {
        "CHAT_AUTH__AUDIENCE": "chat",
        "CHAT_NAMESPACES__OPEN__READ_RECEIPTS": "true",
        "CHAT_LIMITS__MESSAGE_BURST": "10000",
    }
    with ServerProcess("--workers", "2", "--redis-url", redis.url, environ=environ) as started:
        yield started


async def members(workers: ServerProcess, topic: str, *subs: str) -> list[Chat]:
    """Connect some users, the second of them in MessagePack, and subscribe them."""
    clients = []
    for number, sub in enumerate(subs):
        encoding = MSGPACK if number == 1 else JSON
        clients.append(await chat(workers.ws_url, token(sub), encoding=encoding))
        await clients[-1].ok(type="subscribe", topic=topic)
    return clients


async def close(*clients: Chat) -> None:
    for client in clients:
        await client.websocket.close()


async def pushed(client: Chat, type: str) -> dict[str, object]:
    async with asyncio.timeout(90):
        while (push := await client.next())["type"] != type:
            pass
    return push


async def test_the_users_other_connections_are_told_and_nobody_else(
    workers: ServerProcess,
) -> None:
    topic = "room:read"
    clients = await members(workers, topic, *["bob"] * 6, "ann")
    *bobs, ann = clients
    # Not subscribed here: both workers have such a connection of the same user.
    apart = [await chat(workers.ws_url, token("bob")) for _ in range(6)]
    for bob in apart:
        await bob.ok(type="subscribe", topic="user:bob")
    for number in range(3):
        await ann.ok(type="publish", topic=topic, data=number)
    ok = await bobs[0].ok(type="read", topic=topic, seq=2)
    assert ok == {"type": "ok", "id": ok["id"], "topic": topic, "seq": 2, "unread": 1}
    for bob in bobs[1:]:
        assert await pushed(bob, "read") == {
            "type": "read",
            "topic": topic,
            "user": "bob",
            "seq": 2,
        }
    await bobs[0].ok(type="signal", topic="user:bob", data={"read": topic})
    for bob in apart:
        signal = await bob.next()
        assert (signal["type"], signal["data"]) == ("signal", {"read": topic})
        found = (await bob.ok(type="unread", topics=[topic]))["topics"]
        assert found[topic]["read"] == 2
        assert not bob.unread
    again = await bobs[1].ok(type="read", topic=topic, seq=1)
    assert (again["seq"], again["unread"]) == (2, 1)
    await ann.ok(type="signal", topic=topic, data="end")
    for other in (bobs[0], ann):
        seen = [await other.next() for _ in range(4)]
        assert [push["type"] for push in seen] == ["message"] * 3 + ["signal"]
    await close(*clients, *apart)


async def test_a_room_with_receipts_is_told(workers: ServerProcess) -> None:
    topic = "open:read"
    ann, bob = await members(workers, topic, "ann", "bob")
    await ann.ok(type="publish", topic=topic, data="hi")
    await bob.ok(type="read", topic=topic, seq=1)
    assert (await pushed(ann, "read"))["user"] == "bob"
    await close(ann, bob)


async def test_who_comes_later_is_told_who_has_read(workers: ServerProcess) -> None:
    topic, closed = "open:later", "room:later"
    ann, bob, eve = await members(workers, topic, "ann", "bob", "eve")
    for _ in range(3):
        await ann.ok(type="publish", topic=topic, data="hi")
        await ann.ok(type="publish", topic=closed, data="hi")
    for client, seq in ((ann, 3), (bob, 2), (eve, 3)):
        await client.ok(type="read", topic=topic, seq=seq)
        await client.ok(type="read", topic=closed, seq=seq)
    # Several connections: those of both workers, and of both encodings.
    late = [await chat(workers.ws_url, token("ann"), encoding=e) for e in (JSON, MSGPACK) * 3]
    for client in late:
        asked = {"type": "unread", "topics": [topic, closed, "open:none"]}
        found = (await client.ok(**asked, readers=True))["topics"]
        assert found[topic]["readers"] == [{"user": "eve", "seq": 3}, {"user": "bob", "seq": 2}]
        assert "readers" not in found[closed], "nobody is told there"
        assert found["open:none"]["readers"] == []
        for more in ({}, {"readers": False}, {"readers": None}):
            found = (await client.ok(**asked, **more))["topics"]
            assert not any("readers" in each for each in found.values())
    stranger = await chat(workers.ws_url, token("max", topics={**ANY, "subscribe": ["open:none"]}))
    refused = await stranger.call(type="unread", topics=["open:none", topic], readers=True)
    assert (refused["type"], refused["code"]) == ("error", "forbidden")
    await close(ann, bob, eve, stranger, *late)


async def test_128_topics_with_many_readers_are_one_answer(workers: ServerProcess) -> None:
    topics = [f"open:full-{number}" for number in range(128)]
    ann = await chat(workers.ws_url, token("ann"))
    for topic in topics:
        await ann.ok(type="publish", topic=topic, data="hi")
    for number in range(12):
        reader = await chat(workers.ws_url, token(f"{number:03}-{'x' * 100}"))
        for topic in topics:
            await reader.ok(type="read", topic=topic, seq=1)
        await close(reader)
    found = (await ann.ok(type="unread", topics=topics, readers=True))["topics"]
    assert list(found) == topics
    for each in found.values():
        assert [reader["seq"] for reader in each["readers"]] == [1] * 12
    await close(ann)


async def test_unread_in_many_topics(workers: ServerProcess) -> None:
    topics = [f"room:many-{number}" for number in range(128)]
    ann = await chat(workers.ws_url, token("ann"))
    bob = await chat(workers.ws_url, token("bob"), encoding=MSGPACK)
    blind = await chat(workers.ws_url, token("eve", topics=BLIND))
    for number in range(3):
        await ann.ok(type="publish", topic=topics[number], data={"n": number})
    await ann.ok(type="edit", topic=topics[0], seq=1, data="edited")
    await bob.ok(type="publish", topic=topics[1], data="mine")
    await bob.ok(type="read", topic=topics[2], seq=1)
    found = (await bob.ok(type="unread", topics=topics))["topics"]
    assert list(found) == topics
    assert [found[topic]["unread"] for topic in topics[:4]] == [1, 1, 0, 0]
    assert [found[topic]["seq"] for topic in topics[:4]] == [2, 2, 1, 0]
    last = found[topics[0]]["last"]
    assert (last["data"], last["version"]) == ("edited", 2)
    assert found[topics[3]] == {"read": 0, "seq": 0, "unread": 0, "more": False}
    seen = (await blind.ok(type="unread", topics=topics[:1]))["topics"][topics[0]]
    assert (seen["unread"], "last" in seen) == (1, False)
    await close(ann, bob, blind)


async def test_what_is_wrong_is_told(workers: ServerProcess) -> None:
    ann = await chat(workers.ws_url, token("ann"))
    for command, code, problem in (
        ({"type": "read", "topic": "room:none", "seq": 1}, "bad_request", "no event behind 0"),
        ({"type": "read", "topic": "room:none", "seq": -1}, "bad_request", "seq"),
        ({"type": "read", "topic": "a b", "seq": 1}, "bad_request", "topic"),
        ({"type": "unread", "topics": []}, "bad_request", "topics"),
        ({"type": "unread", "topics": ["room:x"] * 129}, "bad_request", "topics"),
        ({"type": "unread", "topics": ["room:x", "a b"]}, "bad_request", "topic"),
        ({"type": "unread", "topics": ["open:x"], "readers": 1}, "bad_request", "readers"),
        ({"type": "unread", "topics": ["open:x"], "readers": "true"}, "bad_request", "readers"),
        ({"type": "unread", "topics": ["open:x"], "readers": ["ann"]}, "bad_request", "readers"),
    ):
        error = await ann.call(**command)
        assert (error["type"], error["code"]) == ("error", code)
        assert problem in error["message"]
    await close(ann)
