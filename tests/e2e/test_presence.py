"""Who is in a room, over real sockets: workers are killed and drained, and Redis forgets."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.rig.chat_client import JSON, MSGPACK, Chat, chat
from tests.rig.raw_client import Answer, request
from tests.rig.redis_server import RedisServer, running
from tests.rig.server import ServerProcess
from tests.rig.waiting import SECONDS
from tests.server.processes import connect_to

from .cluster import health
from .differences import way
from .room import ANY, token

ENVIRON = {
    "CHAT_AUTH__AUDIENCE": "chat",
    # A worker that gets no time for as long loses its users, whom nobody has told to go.
    "CHAT_BROKER__PRESENCE_LEASE_SECONDS": "6",
    "CHAT_LIMITS__MESSAGES_PER_SECOND": "1000000",
    "CHAT_LIMITS__MESSAGE_BURST": "1000000",
    "CHAT_NAMESPACES__ROOM__PRESENCE": "true",
    "CHAT_NAMESPACES__ROOM__PRESENCE_GRACE_SECONDS": "0.2",
    "CHAT_NAMESPACES__HALL__PRESENCE": "true",
    "CHAT_NAMESPACES__HALL__PRESENCE_BATCH": "3",
    "CHAT_NAMESPACES__HALL__PRESENCE_GRACE_SECONDS": "0",
    "CHAT_NAMESPACES__HOME__PRESENCE": "true",
    "CHAT_NAMESPACES__HOME__PRESENCE_GRACE_SECONDS": "60",
}

PRESENT = {**ANY, "presence": ["**"]}


def blind_token(sub: str) -> str:
    """Return a token that grants everything but presence."""
    return token(sub, topics={**ANY, "presence": []})


def seeing(sub: str, **claims: Any) -> str:
    """Return a token that grants presence too."""
    return token(sub, topics=PRESENT, **claims)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis to be flushed and restarted."""
    with running(RedisServer(tmp_path)) as started:
        yield started


@pytest.fixture
def server(transport: str, store: RedisServer) -> Iterator[ServerProcess]:
    environ = {**way(transport), **ENVIRON}
    with ServerProcess("--workers", "2", "--redis-url", store.url, environ=environ) as started:
        yield started


class People:
    """Clients that are closed at the end."""

    def __init__(self, server: ServerProcess) -> None:
        self.server = server
        self.pids: list[int] = []
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> "People":
        self.pids = [int(name.rsplit("-", 2)[1]) for name in await health(self.server)]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def on(self, worker: int, sub: str, **claims: Any) -> Chat:
        """Return a client of the worker with this number."""
        client = await connect_to(self.server.ws_url, self.pids[worker], seeing(sub, **claims))
        return await self._stack.enter_async_context(client)

    async def anywhere(self, sub: str, encoding: str = JSON, **claims: Any) -> Chat:
        """Return a client of whichever worker."""
        client = await chat(self.server.ws_url, seeing(sub, **claims), encoding=encoding)
        return await self._stack.enter_async_context(client)


@pytest.fixture
async def people(server: ServerProcess) -> AsyncIterator[People]:
    async with People(server) as them:
        yield them


def short(push: dict[str, Any]) -> str:
    """Return `+user` for a join and `-user` for a leave."""
    user: str = push["user"]
    return {"join": "+", "leave": "-"}[push["type"]] + user


async def watch(client: Chat, topic: str) -> dict[str, int]:
    """Subscribe with presence; return the users on the first page with their connections."""
    ok = await client.ok(type="subscribe", topic=topic, presence=True)
    page = ok["presence"]
    assert (page["topic"], page["count"], page["more"]) == (topic, len(page["users"]), False)
    return {user["user"]: user["connections"] for user in page["users"]}


async def listed(client: Chat, topic: str) -> dict[str, int]:
    """Return the users in a topic with their connections."""
    page = await client.ok(type="presence", topic=topic)
    return {user["user"]: user["connections"] for user in page["users"]}


async def pushed(client: Chat) -> dict[str, Any]:
    """Return the next push about somebody else than the client's own user."""
    while (push := await client.next()).get("user") == client.welcome["user"]:
        pass
    return push


async def get(server: ServerProcess, path: str, bearer: str) -> Answer:
    return await request(
        server.port, "GET", f"/api/topics/{path}", headers={"Authorization": f"Bearer {bearer}"}
    )


@pytest.mark.usefixtures("quiet")
async def test_a_user_of_both_workers_comes_once_and_goes_once(people: People) -> None:
    watcher = await people.on(0, "ada", name="Ada")
    assert await watch(watcher, "room:a") == {"ada": 1}
    bobs = [await people.on(worker, "bob", name="Bob", info={"n": 1}) for worker in (1, 0, 1)]
    for bob in bobs:
        await bob.ok(type="subscribe", topic="room:a")
    push = await pushed(watcher)
    assert push == {
        "type": "join",
        "topic": "room:a",
        "user": "bob",
        "name": "Bob",
        "info": {"n": 1},
    }
    await until_listed(watcher, "room:a", {"ada": 1, "bob": 3})
    page = await watcher.ok(type="presence", topic="room:a")
    assert page["users"] == [
        {"user": "ada", "name": "Ada", "connections": 1},
        {"user": "bob", "name": "Bob", "info": {"n": 1}, "connections": 3},
    ]
    assert (page["count"], page["connections"], page["more"]) == (2, 4, False)
    await bobs[0].ok(type="unsubscribe", topic="room:a")
    await bobs[1].websocket.close()
    carol = await people.on(1, "carol")
    await carol.ok(type="subscribe", topic="room:a")
    assert short(await pushed(watcher)) == "+carol"
    await bobs[2].websocket.close()
    assert short(await pushed(watcher)) == "-bob"
    assert await listed(watcher, "room:a") == {"ada": 1, "carol": 1}


@pytest.mark.usefixtures("quiet")
async def test_the_same_in_both_encodings_and_by_http(
    server: ServerProcess, people: People
) -> None:
    json, msgpack = await people.anywhere("ada"), await people.anywhere("bob", MSGPACK)
    await watch(json, "room:a")
    assert await watch(msgpack, "room:a") == {"ada": 1, "bob": 1}
    carol = await people.anywhere("carol", info={"seat": 7})
    await carol.ok(type="subscribe", topic="room:a")
    assert await pushed(json) == {
        "type": "join",
        "topic": "room:a",
        "user": "bob",
    }
    assert await pushed(json) == await pushed(msgpack)
    answers = [await client.ok(type="presence", topic="room:a") for client in (json, msgpack)]
    assert answers[0] == {**answers[1], "id": answers[0]["id"]}
    answer = await get(server, "room:a/presence?limit=2&after=ada", seeing("nobody"))
    assert answer.json() == {
        "topic": "room:a",
        "count": 3,
        "connections": 3,
        "users": [
            {"user": "bob", "connections": 1},
            {"user": "carol", "info": {"seat": 7}, "connections": 1},
        ],
        "more": False,
    }
    empty = await get(server, "room:nobody/presence", seeing("nobody"))
    assert empty.json() == {
        "topic": "room:nobody",
        "count": 0,
        "connections": 0,
        "users": [],
        "more": False,
    }


@pytest.mark.usefixtures("quiet")
async def test_what_is_asked_wrongly(server: ServerProcess, people: People) -> None:
    ada = await people.anywhere("ada")
    blind = await chat(server.ws_url, blind_token("eve"))
    asked: list[tuple[Chat, dict[str, Any], str, str]] = [
        (blind, {"type": "presence", "topic": "room:a"}, "forbidden", "presence"),
        (
            blind,
            {"type": "subscribe", "topic": "room:a", "presence": True},
            "forbidden",
            "presence",
        ),
        (ada, {"type": "presence", "topic": "other:a"}, "bad_request", "presence"),
        (
            ada,
            {"type": "subscribe", "topic": "other:a", "presence": True},
            "bad_request",
            "presence",
        ),
        (ada, {"type": "presence", "topic": "room:a", "limit": 0}, "bad_request", "limit"),
        (ada, {"type": "presence", "topic": "room:a", "limit": 1001}, "bad_request", "limit"),
        (ada, {"type": "presence", "topic": "room:a", "after": 7}, "bad_request", "after"),
        (ada, {"type": "presence", "topic": "room:a", "after": "x" * 256}, "bad_request", "after"),
        (ada, {"type": "presence", "topic": "room:a b"}, "bad_request", "topic"),
        (ada, {"type": "presence"}, "bad_request", "message"),
        (
            ada,
            {"type": "subscribe", "topic": "room:a", "presence": 1},
            "bad_request",
            "presence",
        ),
    ]
    for client, command, code, named in asked:
        error = await client.call(**command)
        assert (error["type"], error.get("code")) == ("error", code), (command, error)
        assert named in error["message"], error
    # Nobody was counted, and nothing is in the way of another attempt.
    assert await listed(ada, "room:a") == {}
    assert await watch(ada, "room:a") == {"ada": 1}
    await blind.ok(type="subscribe", topic="room:a")
    assert short(await pushed(ada)) == "+eve"
    answer = await get(server, "other:a/presence", seeing("ada"))
    assert (answer.status, answer.json()["code"]) == (400, "bad_request")
    assert (await get(server, "room:a/presence", blind_token("eve"))).status == 403
    await blind.websocket.close()


@pytest.mark.usefixtures("quiet")
async def test_a_new_token_without_the_grant_ends_the_watching(people: People) -> None:
    ada, bob = await people.anywhere("ada"), await people.anywhere("bob")
    await watch(ada, "room:a")
    await bob.ok(type="subscribe", topic="room:a")
    assert short(await pushed(ada)) == "+bob"
    await ada.ok(type="auth", token=blind_token("ada"))
    error = await ada.next()
    assert (error["type"], error["code"], error["topic"]) == ("error", "forbidden", "room:a")
    await ada.ok(type="subscribe", topic="room:a")


@pytest.mark.usefixtures("quiet")
async def test_a_large_room_is_told_once_a_second(people: People) -> None:
    watchers = [await people.on(worker, f"w{worker}") for worker in (0, 1)]
    crowd = [await people.on(n % 2, f"u{n:02}") for n in range(12)]
    for client in [*crowd[:2], *watchers]:
        await client.ok(type="subscribe", topic="hall:a", presence=client in watchers)
    began = time.monotonic()
    for client in crowd[2:]:
        await client.ok(type="subscribe", topic="hall:a")
    for watcher in watchers:
        joined: list[str] = []
        pushes = 0
        while len(set(joined)) < 10:
            push = await watcher.next()
            if push["type"] == "presence":
                pushes += 1
                joined += [user["user"] for user in push["joined"] if user["user"][0] == "u"]
                assert push["left"] == []
        assert set(joined) == {f"u{n:02}" for n in range(2, 12)}
        assert pushes <= 2 + time.monotonic() - began, "at most once a second"
        assert (push["count"], push["connections"]) == (14, 14)


@pytest.mark.usefixtures("quiet")
async def test_who_comes_back_elsewhere_at_once_has_never_left(people: People) -> None:
    watcher = await people.on(0, "ada")
    await watch(watcher, "home:a")
    bob = await people.on(0, "bob")
    await bob.ok(type="subscribe", topic="home:a")
    assert short(await pushed(watcher)) == "+bob"
    bob.websocket.transport.abort()
    again = await people.on(1, "bob")
    await again.ok(type="subscribe", topic="home:a")
    await again.ok(type="unsubscribe", topic="home:a")
    await again.ok(type="subscribe", topic="home:a")
    carol = await people.on(1, "carol")
    await carol.ok(type="subscribe", topic="home:a")
    assert short(await pushed(watcher)) == "+carol"
    await until_listed(watcher, "home:a", {"ada": 1, "bob": 1, "carol": 1})


async def test_users_of_a_killed_worker_are_gone_and_others_stay(people: People) -> None:
    watcher, bob, carol = (
        await people.on(0, "ada"),
        await people.on(1, "bob"),
        await people.on(1, "carol"),
    )
    await watch(watcher, "room:a")
    for client in (bob, carol):
        await client.ok(type="subscribe", topic="room:a")
        await pushed(watcher)
    os.kill(people.pids[1], signal.SIGKILL)
    # She comes back, to whichever worker there is; he does not.
    await bob.closed()
    again = await people.on(0, "carol")
    await again.ok(type="subscribe", topic="room:a")
    assert short(await pushed(watcher)) == "-bob"
    assert await listed(watcher, "room:a") == {"ada": 1, "carol": 1}


async def test_users_of_a_drained_server_do_not_flicker(
    transport: str, store: RedisServer, people: People
) -> None:
    watcher = await people.on(0, "ada")
    await watch(watcher, "home:a")
    environ = {
        **way(transport),
        "CHAT_SERVER__LAME_DUCK_SECONDS": "0",
        **ENVIRON,
    }
    with ServerProcess("--redis-url", store.url, environ=environ) as leaving:
        bob = await chat(leaving.ws_url, seeing("bob"))
        await bob.ok(type="subscribe", topic="home:a")
        assert short(await pushed(watcher)) == "+bob"
        stopping = asyncio.create_task(asyncio.to_thread(leaving.stop))
        goodbye = await bob.next()
        while goodbye["type"] != "goodbye":
            goodbye = await bob.next()
        assert await bob.closed() == 1012
        await stopping
        # The worker has told the store who is gone, and let go of its lease.
        assert await listed(watcher, "home:a") == {"ada": 1, "bob": 0}
        again = await people.on(1, "bob")
        await again.ok(type="subscribe", topic="home:a")
        carol = await people.on(1, "carol")
        await carol.ok(type="subscribe", topic="home:a")
        assert short(await pushed(watcher)) == "+carol"
        await until_listed(watcher, "home:a", {"ada": 1, "bob": 1, "carol": 1})
        leaving.start()


async def test_a_redis_that_forgot_everything_is_told_again(
    store: RedisServer, people: People
) -> None:
    watcher, bob = await people.on(0, "ada"), await people.on(1, "bob")
    await watch(watcher, "room:a")
    await bob.ok(type="subscribe", topic="room:a")
    assert short(await pushed(watcher)) == "+bob"
    store.run("FLUSHALL")
    await until_told_to_ask_again(watcher)
    await until_listed(watcher, "room:a", {"ada": 1, "bob": 1})
    await bob.websocket.close()
    await until_listed(watcher, "room:a", {"ada": 1})


async def test_a_redis_that_was_away_is_told_what_changed(
    store: RedisServer, people: People
) -> None:
    watcher, bob = await people.on(0, "ada"), await people.on(1, "bob")
    await watch(watcher, "room:a")
    await bob.ok(type="subscribe", topic="room:a")
    assert short(await pushed(watcher)) == "+bob"
    await asyncio.to_thread(store.stop)
    await bob.websocket.close()
    await asyncio.to_thread(store.start)
    await until_told_to_ask_again(watcher)
    await until_listed(watcher, "room:a", {"ada": 1})


async def until_told_to_ask_again(watcher: Chat) -> None:
    push = await watcher.next()
    while not (push["type"] == "presence" and push.get("more")):
        push = await watcher.next()


async def until_listed(client: Chat, topic: str, users: dict[str, int]) -> None:
    """Ask, as often as it takes, until these users are in a topic."""
    async with asyncio.timeout(SECONDS):
        while True:
            answer = await client.call(type="presence", topic=topic)
            seen = {user["user"]: user["connections"] for user in answer.get("users", ())}
            if seen == users:
                return
            await asyncio.sleep(0.05)
