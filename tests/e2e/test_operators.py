"""Operators' orders reach every worker: two workers, a Redis that keeps what it is told."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import jwt as pyjwt
import pytest

from tests.cli.program import run
from tests.rig.chat_client import Chat, chat, open_websocket
from tests.rig.ports import free_port
from tests.rig.raw_client import RawClient, request
from tests.rig.redis_server import RedisServer, running
from tests.rig.server import ServerProcess
from tests.rig.tokens import secret
from tests.rig.waiting import SECONDS
from tests.server.processes import PATIENT, connect_to, http_to, ready_workers

from .cluster import eventually
from .room import token

ENVIRON = {"CHAT_AUTH__AUDIENCE": "chat", **PATIENT}
UNANSWERED_SECONDS = 15.0
"""Seconds after which nobody answers an order; a worker takes two, and more on a slow machine."""
BLOCKED = 4403
REVOKED = 4401


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that survives its end."""
    with running(RedisServer(tmp_path, durable=True)) as started:
        yield started


@pytest.fixture
def server(kept: RedisServer) -> Iterator[ServerProcess]:
    flags = ("--workers", "2", "--redis-url", kept.url)
    with ServerProcess(*flags, environ=ENVIRON) as started:
        yield started


@pytest.fixture
async def pids(server: ServerProcess) -> list[int]:
    """The two workers."""
    return sorted(await ready_workers(server, 2))


@pytest.fixture
async def clients() -> AsyncIterator[AsyncExitStack]:
    """Closes the clients of a test."""
    async with AsyncExitStack() as stack:
        yield stack


def operator(*patterns: str, **claims: Any) -> str:
    """Return the token of an operator for these topics, or for everything."""
    return token("op", iat=int(time.time()), topics={"admin": patterns or ["**"]}, **claims)


async def ask(server: ServerProcess, method: str, path: str, **fields: object) -> tuple[int, Any]:
    """Make a request of an operator, to whichever worker takes it."""
    async with await RawClient.connect(server.port) as wire:
        return await ask_by(wire, method, path, **fields)


async def ask_by(wire: RawClient, method: str, path: str, **fields: object) -> tuple[int, Any]:
    """Make the last request of a connection, one of an operator."""
    body = json.dumps(fields).encode() if method == "POST" else b""
    head = (
        f"{method} /api/admin/{path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer "
        f"{operator()}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    await wire.send(head.encode(), body)
    answer = await wire.read_answer()
    return answer.status, answer.json()


async def order(server: ServerProcess, verb: str, **fields: object) -> dict[str, Any]:
    """Give an order that must be taken."""
    status, answer = await ask(server, "POST", verb, reason="spam", **fields)
    assert status == 200, answer
    found: dict[str, Any] = answer
    return found


async def publish(server: ServerProcess, jwt: str) -> int:
    """Publish by HTTP, and return the status."""
    body = b'{"data":1}'
    head = (
        "POST /api/topics/room:1/messages HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
        f"Authorization: Bearer {jwt}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    async with await RawClient.connect(server.port) as wire:
        await wire.send(head.encode(), body)
        return (await wire.read_answer()).status


async def connected(
    server: ServerProcess, pids: list[int], clients: AsyncExitStack, jwt: str
) -> list[Chat]:
    """Return three clients of a user, on both workers."""
    chosen = [pids[0], pids[0], pids[1]]
    return [
        await clients.enter_async_context(await connect_to(server.ws_url, pid, jwt))
        for pid in chosen
    ]


async def stays_out(server: ServerProcess, jwt: str, code: int = BLOCKED) -> None:
    """Demand that a token is refused in each way that it can come, by several workers."""
    status = {BLOCKED: 403, REVOKED: 401}[code]
    for _ in range(8):
        assert await publish(server, jwt) == status
        async with await RawClient.connect(server.port) as wire:
            await wire.send(
                b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
                b"Authorization: Bearer " + jwt.encode() + b"\r\n\r\n"
            )
            assert (await wire.read_answer()).status == status
        bare = Chat(await open_websocket(server.ws_url, ["chat.v1.json", f"bearer.{jwt}"]))
        assert await bare.closed() == code
        late = Chat(await open_websocket(server.ws_url, ["chat.v1.json"]))
        await late.send(type="auth", token=jwt)
        assert await late.closed() == code


async def test_a_blocked_user_is_gone_everywhere_and_stays_out(
    server: ServerProcess, kept: RedisServer, pids: list[int], clients: AsyncExitStack
) -> None:
    bob = token("bob")
    gone = await connected(server, pids, clients, bob)
    [ada] = [await clients.enter_async_context(await chat(server.ws_url, token("ada")))]
    answer = await order(server, "block", user="bob", seconds=3_600)
    assert len(answer["confirmed"]) == 2
    assert (answer["missing"], answer["connections"]) == ([], 3)
    for client in gone:
        assert await client.closed() == BLOCKED
        goodbye = client.unread[-1]
        assert (goodbye["type"], goodbye["reason"]) == ("goodbye", "blocked: spam")
    await stays_out(server, bob)
    await ada.ok(type="publish", topic="room:1", data="still here")
    await ada.websocket.close()

    await asyncio.to_thread(server.stop)
    await asyncio.to_thread(kept.restart)
    await asyncio.to_thread(server.start)
    await stays_out(server, bob)
    status, listed = await ask(server, "GET", "blocks")
    assert (status, [each["target"] for each in listed["denials"]]) == (200, ["bob"])

    await order(server, "unblock", user="bob")
    await connected(server, sorted(await ready_workers(server, 2)), clients, bob)
    written = server.stderr
    assert " chat_server.audit: op: block users=bob until=" in written
    assert "connections=3: spam " in written


async def test_a_frozen_worker_obeys_when_it_wakes(
    server: ServerProcess, pids: list[int], clients: AsyncExitStack
) -> None:
    bob = token("bob")
    gone = await connected(server, pids, clients, bob)
    wire = await clients.enter_async_context(await http_to(server, pids[0]))
    frozen = pids[1]
    os.kill(frozen, signal.SIGSTOP)
    try:
        fields = {"user": "bob", "seconds": 3_600, "reason": "spam"}
        status, answer = await ask_by(wire, "POST", "block", **fields)
    finally:
        os.kill(frozen, signal.SIGCONT)
    assert status == 200, answer
    assert [name for name in answer["missing"] if f"-{frozen}-" in name] == answer["missing"]
    assert len(answer["confirmed"]) == len(answer["missing"]) == 1
    [(name, seconds)] = answer["silent"].items()
    assert [name] == answer["missing"]
    assert 1.0 < seconds < 60.0
    for client in gone:
        assert await client.closed() == BLOCKED
    await stays_out(server, bob)


async def test_orders_from_the_shell_get_past_a_frozen_worker(
    kept: RedisServer, clients: AsyncExitStack
) -> None:
    """And what came to it by a connection that was given up is not done when it wakes."""
    flags = ("--workers", "2", "--redis-url", kept.url)
    with ServerProcess(*flags, environ=ENVIRON) as server:
        bob = token("bob")
        pids = sorted(await ready_workers(server, 2))
        gone = await connected(server, pids, clients, bob)
        frozen = pids[1]
        os.kill(frozen, signal.SIGSTOP)
        try:
            for _ in range(2):  # it may be repeated
                block = ("block", "bob", "--for", "1h", "--reason", "spam")
                code, out, err = await run(*block, url=server.url, token=operator())
                assert (code, "1 worker has obeyed, " in out) == (0, True), err
                assert f"-{frozen}-" in err
                said = " has not confirmed, and obeys as soon as it runs; it was last heard "
                assert re.search(said + "[0-9]+ s ago\n$", err), err
            hanging = await given_to_nobody(server)
        finally:
            os.kill(frozen, signal.SIGCONT)
        for client in gone:
            # 1006: it has waited for a pong for too long, and gone by itself.
            assert await client.closed() in (BLOCKED, 1006)
        await stays_out(server, bob)
        assert len((await order(server, "block", user="eve", seconds=60))["confirmed"]) == 2
        status, listed = await ask(server, "GET", "blocks")
        assert (status, {each["target"] for each in listed["denials"]} & hanging) == (200, set())


async def given_to_nobody(server: ServerProcess) -> set[str]:
    """Order blocks until some are not answered; return whose those are."""
    hanging: set[asyncio.Task[dict[str, Any]]] = set()
    while not hanging:  # the kernel chooses the worker
        orders = [
            asyncio.create_task(
                order(server, "block", user=f"user{n}", seconds=3_600), name=f"user{n}"
            )
            for n in range(8)
        ]
        done, hanging = await asyncio.wait(orders, timeout=UNANSWERED_SECONDS)
        for task in done:
            task.result()
    for task in hanging:
        task.cancel()
    await asyncio.wait(hanging)
    return {task.get_name() for task in hanging}


@pytest.mark.parametrize("by", ["jti", "user", "kid"])
async def test_a_revoked_token_ends_its_connections_and_another_is_as_good_as_before(
    server: ServerProcess, pids: list[int], clients: AsyncExitStack, by: str
) -> None:
    now = int(time.time())
    old, new = bearer("bob", "1", "a", now - 60), bearer("bob", "2", "b", now)
    target = {"jti": {"jti": "1"}, "kid": {"kid": "a"}}.get(
        by, {"user": "bob", "issued_before": now - 30}
    )
    gone = await connected(server, pids, clients, old)
    stays = await clients.enter_async_context(await connect_to(server.ws_url, pids[1], new))
    answer = await order(server, "revoke", **target)
    assert (len(answer["confirmed"]), answer["connections"]) == (2, 3)
    for client in gone:
        assert await client.closed() == REVOKED
    await stays_out(server, old, REVOKED)
    renewal = await stays.call(type="auth", token=old)
    assert (renewal["type"], renewal["code"]) == ("error", "unauthorized")
    await stays.ok(type="publish", topic="room:1", data="still here")


def bearer(sub: str, jti: str, kid: str, iat: int) -> str:
    """Return a token with everything that it can be revoked by."""
    claims = {"sub": sub, "jti": jti, "iat": iat, "exp": iat + 3_600, "aud": "chat"}
    topics = {"subscribe": ["**"], "publish": ["**"], "history": ["**"]}
    return pyjwt.encode({**claims, "topics": topics}, secret(), headers={"kid": kid})


async def test_orders_about_topics_reach_both_workers(
    server: ServerProcess, pids: list[int], clients: AsyncExitStack
) -> None:
    gone = await connected(server, pids, clients, token("bob"))
    for client in gone:
        await client.ok(type="subscribe", topic="room:1")
        await client.ok(type="subscribe", topic="room:2")
    answer = await order(server, "unsubscribe", user="bob", topic="room:1")
    assert answer["connections"] == 3
    for client in gone:
        told = await client.next()
        assert (told["type"], told["code"], told["topic"]) == ("error", "forbidden", "room:1")
        await client.ok(type="subscribe", topic="room:1")
    assert (await order(server, "announce", data={"text": "tea"}))["connections"] == 3
    for client in gone:
        push = await client.next()
        assert (push["type"], push["topic"]) == ("signal", "system:announcements")
        assert (push["from"], push["data"]) == (None, {"text": "tea"})
    status, found = await ask(server, "GET", "topics?topic=room:*")
    assert (status, found["missing"], found["more"]) == (200, [], False)
    counted = {each["topic"]: each["subscribers"] for each in found["topics"]}
    assert counted == {"room:1": 3, "room:2": 3}

    assert (await order(server, "close", topic="room:1", seconds=60))["connections"] == 3
    for client in gone:
        told = await client.next()
        assert (told["type"], told["code"], told["topic"]) == ("error", "forbidden", "room:1")
        for verb in ({"type": "subscribe"}, {"type": "publish", "data": 1}):
            refused = await client.call(topic="room:1", **verb)
            assert refused["code"] == "forbidden", refused
    assert await publish(server, token("eve")) == 403
    await order(server, "open", topic="room:1")
    for client in gone:
        await client.ok(type="subscribe", topic="room:1")


async def test_lists_are_paged_over_both_workers(
    server: ServerProcess, pids: list[int], clients: AsyncExitStack
) -> None:
    for number in range(5):
        for client in await connected(server, pids, clients, token(f"user{number}")):
            await client.ok(type="subscribe", topic=f"room:{number}")
    status, answer = await ask(server, "GET", "nodes")
    assert status == 200
    assert {each["pid"] for each in answer["nodes"]} == set(pids)
    assert sum(each["connections"] for each in answer["nodes"]) == 15
    found: list[dict[str, Any]] = []
    while True:
        after = found[-1]["session"] if found else ""
        status, page = await ask(server, "GET", f"connections?limit=4&after={after}")
        assert (status, page["missing"]) == (200, [])
        found += page["connections"]
        if not page["more"]:
            break
        assert len(page["connections"]) == 4
    sessions = [each["session"] for each in found]
    assert (len(found), sessions) == (15, sorted(set(sessions)))
    for query in ("user=user3", "topic=room:3"):
        _, page = await ask(server, "GET", f"connections?{query}")
        assert [each["user"] for each in page["connections"]] == ["user3"] * 3, query
    status, view = await ask(server, "GET", f"connections/{sessions[7]}")
    assert (status, view["connection"]) == (200, found[7])
    assert view["topics"] == [f"room:{found[7]['user'][-1]}"]
    answer = await order(server, "disconnect", session=sessions[7])
    assert answer["connections"] == 1
    assert (await ask(server, "GET", f"connections/{sessions[7]}"))[0] == 404
    assert (await order(server, "disconnect", address="127.0.0.1"))["connections"] == 14


async def test_two_operators_at_once(server: ServerProcess, pids: list[int]) -> None:
    assert len(pids) == 2
    orders = [
        order(server, verb, **fields)
        for number in range(10)
        for verb, fields in (
            ("block", {"user": f"user{number}", "seconds": 60 + number}),
            ("block", {"user": "bob", "seconds": 100 + number}),
        )
    ]
    answers = await asyncio.gather(*orders)
    assert len({each["number"] for each in answers}) == 20
    assert all(len(each["confirmed"]) == 2 for each in answers)
    last = max(answers[1::2], key=lambda each: int(each["number"]))
    _, listed = await ask(server, "GET", "blocks")
    kept = {each["target"]: each["until"] for each in listed["denials"]}
    assert len(kept) == 11
    assert kept["bob"] == last["until"]


async def test_operators_who_contradict_each_other(
    server: ServerProcess, pids: list[int], clients: AsyncExitStack
) -> None:
    """The last word holds, on both workers."""
    orders = [
        order(server, verb, user=f"user{number}", **fields)
        for _ in range(4)
        for number in range(4)
        for verb, fields in (("block", {"seconds": 3_600}), ("unblock", {}))
    ]
    answers = await asyncio.gather(*orders)
    for number in range(4):
        of_user = answers[2 * number :: 8] + answers[2 * number + 1 :: 8]
        last = max(of_user, key=lambda each: int(each["number"]))
        if last["until"]:
            await stays_out(server, token(f"user{number}"))
        else:
            await connected(server, pids, clients, token(f"user{number}"))


async def test_what_redis_has_lost_is_not_taken_for_obeyed(
    server: ServerProcess, kept: RedisServer, pids: list[int], clients: AsyncExitStack
) -> None:
    """As by a failover to a replica that lacks the newest orders."""
    everybody = await connected(server, pids, clients, token("bob"))
    await order(server, "block", user="eve", seconds=3_600)
    keys = await asyncio.to_thread(kept.run, "KEYS", "chat:{!operators}:*")
    before = [(key, await asyncio.to_thread(kept.run, "DUMP", key)) for key in keys]
    for text in ("lost", "told"):
        answer = await order(server, "announce", data=text)
        assert (len(answer["confirmed"]), answer["connections"]) == (2, 3), text
        for client in everybody:
            assert (await client.next())["data"] == text
        for key, value in before:
            await asyncio.to_thread(kept.run, "RESTORE", key, 60_000, value, "REPLACE")


async def test_an_emptied_redis_lets_nobody_back_in(
    server: ServerProcess, kept: RedisServer, pids: list[int]
) -> None:
    bob = token("bob")
    assert len(pids) == 2
    await order(server, "block", user="bob", seconds=3_600)
    await asyncio.to_thread(kept.run, "FLUSHALL")
    await order(server, "block", user="eve", seconds=3_600)
    await stays_out(server, bob)
    await eventually(lambda: b"users bob" in kept.run("HKEYS", "chat:{!operators}:orders"))


async def test_operators_may_have_an_address_of_their_own(kept: RedisServer) -> None:
    port = free_port()
    flags = ("--workers", "2", "--redis-url", kept.url)
    environ = {**ENVIRON, "CHAT_OPERATORS__BIND": f"127.0.0.1:{port}"}
    environ |= {"CHAT_HTTP__ADMIN_PAGE": "true"}
    with ServerProcess(*flags, environ=environ) as server:
        await ready_workers(server, 2)
        headers = {"Authorization": f"Bearer {operator()}"}
        for path, status in (("/api/admin/nodes", 200), ("/admin", 200), ("/health/ready", 200)):
            here = await request(port, "GET", path, headers=headers)
            assert here.status == status, path
        for path in ("/api/admin/nodes", "/admin", "/admin/admin.js"):
            there = await request(server.port, "GET", path, headers=headers)
            assert there.status == 404, path
        nodes = (await request(port, "GET", "/api/admin/nodes", headers=headers)).json()
        assert (len(nodes["nodes"]), nodes["missing"]) == (2, [])
        async with await chat(server.ws_url, token("bob")) as bob:
            body = b'{"user":"bob","reason":"x","seconds":60}'
            answer = await request(port, "POST", "/api/admin/block", headers=headers, body=body)
            assert answer.json()["connections"] == 1
            assert await bob.closed() == BLOCKED
        assert "ERROR" not in server.stderr


def test_an_address_that_is_taken_is_named(tmp_path: Path) -> None:
    with ServerProcess() as other:
        taken = {"CHAT_OPERATORS__BIND": f"127.0.0.1:{other.port}"}
        flags = ("serve", "--bind", "127.0.0.1:0")
        done = subprocess.run(
            [sys.executable, "-m", "chat_server", *flags],
            env={**os.environ, "CHAT_ENVIRONMENT": "testing", **taken},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
    assert done.returncode != 0
    assert f"operators.bind: cannot listen on 127.0.0.1:{other.port}: Address" in done.stderr
    assert "Traceback" not in done.stderr
