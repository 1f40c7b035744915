"""Tokens: four ways to present one, many to be wrong, and what becomes of them in time."""

import asyncio
import json
import time
from typing import Any
from urllib.parse import quote

import pytest

from tests.rig import rfc6455
from tests.rig.chat_client import chat
from tests.rig.raw_client import RawClient, request
from tests.rig.rfc6455 import text
from tests.rig.server import ServerProcess
from tests.rig.tokens import bad_tokens

from .room import Room, token

AUTH_SECONDS = 5.0
GRACE_SECONDS = 3.0

ENVIRON = {
    "CHAT_AUTH__AUDIENCE": "chat",
    "CHAT_AUTH__LEEWAY_SECONDS": "0",
    "CHAT_GATEWAY__AUTH_TIMEOUT_SECONDS": str(AUTH_SECONDS),
    "CHAT_GATEWAY__REFRESH_GRACE_SECONDS": str(GRACE_SECONDS),
    "CHAT_LIMITS__MAX_CONNECTIONS_PER_USER": "10000",
    "CHAT_LOG__LEVEL": "DEBUG",
}

WAYS = ("header", "subprotocol", "query", "message")

BAD = bad_tokens()

pytestmark = pytest.mark.usefixtures("quiet")


async def present(server: ServerProcess, way: str, jwt: str) -> RawClient:
    """Open a connection and present a token."""
    if way == "header":
        client = await RawClient.connect(server.port)
        await client.send(rfc6455.upgrade(token=jwt))
    elif way == "subprotocol":
        headers = {"Sec-WebSocket-Protocol": f"chat.v1.json, bearer.{jwt}"}
        client = await RawClient.open(server.port, headers=headers)
    elif way == "query":
        client = await RawClient.open(server.port, path=f"/ws?token={jwt}")
    else:
        client = await RawClient.open(server.port)
        await client.send(text({"type": "auth", "id": 1, "token": jwt}))
    return client


@pytest.mark.parametrize("way", WAYS)
async def test_a_bad_token(
    server: ServerProcess, room: Room, way: str, subtests: pytest.Subtests
) -> None:
    for kind, jwt in BAD.items():
        with subtests.test(kind):
            async with await present(server, way, jwt) as client:
                if way == "header":
                    answer = await client.read_answer()
                    assert answer.status == 401
                    assert answer.headers["content-type"] == "application/problem+json"
                    assert answer.headers["www-authenticate"] == "Bearer"
                    assert answer.json()["code"] == "unauthorized"
                    said = answer.json()["detail"]
                else:
                    code, messages = await client.read_to_close()
                    assert code == 4401
                    [goodbye] = messages
                    assert (goodbye["type"], goodbye["code"]) == ("goodbye", 4401)
                    said = goodbye["reason"]
            assert said.startswith("token: ")
            assert jwt not in said
            assert jwt not in server.stderr


@pytest.mark.parametrize("way", WAYS)
async def test_a_good_token(server: ServerProcess, way: str) -> None:
    jwt = token("ada", name="Ada")
    async with await present(server, way, jwt) as client:
        if way == "header":
            assert (await client.read_answer()).status == 101
        welcome = await client.read_message()
        assert (welcome["type"], welcome["user"]) == ("welcome", "ada")
        assert welcome["expires_at"] > time.time()
        if way == "message":
            ok = await client.read_message()
            assert (ok["type"], ok["id"], ok["user"]) == ("ok", 1, "ada")
    assert jwt not in server.stderr


async def test_a_token_is_never_echoed(server: ServerProcess) -> None:
    jwt = token()
    async with await RawClient.connect(server.port) as client:
        for offered in (f"bearer.{jwt}, chat.v1.msgpack", f"chat.v1.msgpack, bearer.{jwt}"):
            headers = {"Sec-WebSocket-Protocol": offered}
            async with await RawClient.connect(server.port) as other:
                await other.send(rfc6455.upgrade(headers=headers))
                answer = await other.read_answer()
                assert answer.headers["sec-websocket-protocol"] == "chat.v1.msgpack"
                assert jwt not in str(answer.headers)
        await client.send(rfc6455.upgrade(headers={"Sec-WebSocket-Protocol": f"bearer.{jwt}"}))
        answer = await client.read_answer()
        assert answer.status == 101
        assert "sec-websocket-protocol" not in answer.headers
        assert (await client.read_message())["type"] == "welcome"


async def test_the_way_with_the_highest_precedence_counts(server: ServerProcess) -> None:
    good, bad = token("ada"), BAD["expired"]
    headers = {"Sec-WebSocket-Protocol": f"chat.v1.json, bearer.{bad}"}
    async with await RawClient.open(server.port, token=good, headers=headers) as client:
        assert (await client.read_message())["type"] == "welcome"
    async with await RawClient.open(
        server.port, headers=headers, path=f"/ws?token={good}"
    ) as client:
        assert (await client.read_to_close())[0] == 4401
    async with await RawClient.connect(server.port) as client:
        await client.send(rfc6455.upgrade(token=bad, path=f"/ws?token={good}"))
        assert (await client.read_answer()).status == 401


async def test_authentication_in_front_is_passed_over(server: ServerProcess) -> None:
    basic = {"Authorization": "Basic dXNlcjpwYXNz"}
    subprotocol = {**basic, "Sec-WebSocket-Protocol": f"chat.v1.json, bearer.{token('ada')}"}
    async with await RawClient.open(server.port, headers=subprotocol) as client:
        assert (await client.read_message())["user"] == "ada"
    path = f"/ws?token={token('ada')}"
    async with await RawClient.open(server.port, headers=basic, path=path) as client:
        assert (await client.read_message())["user"] == "ada"
    async with await RawClient.open(server.port, headers=basic) as client:
        await client.send(text({"type": "auth", "id": 1, "token": token("ada")}))
        assert (await client.read_message())["user"] == "ada"
    answer = await request(server.port, "GET", "/api/topics/room:lobby/messages", headers=basic)
    assert (answer.status, answer.json()["detail"]) == (
        401,
        "Authorization: must be 'Bearer <jwt>'",
    )


async def test_http_takes_the_header_only(server: ServerProcess) -> None:
    path = "/api/topics/room:lobby/messages"
    assert (await request(server.port, "GET", f"{path}?token={token()}")).status == 401
    bearer = {"Authorization": f"Bearer {token()}"}
    assert (await request(server.port, "GET", path, headers=bearer)).status == 200
    for kind, jwt in BAD.items():
        bearer = {"Authorization": f"Bearer {jwt}"}
        answer = await request(server.port, "GET", path, headers=bearer)
        assert (answer.status, answer.json()["code"]) == (401, "unauthorized"), kind


# In time ---------------------------------------------------------------------------------------


async def test_without_a_token_the_connection_is_closed(server: ServerProcess) -> None:
    began = time.monotonic()
    async with await RawClient.open(server.port) as client:
        # What it sends meanwhile does not prolong its time.
        for number in range(5):
            await client.send(text({"type": "ping", "id": number + 1}))
        code, messages = await client.read_to_close()
    assert code == 4408
    assert [m["type"] for m in messages] == ["pong"] * 5 + ["goodbye"]
    assert messages[-1]["code"] == 4408
    assert time.monotonic() - began >= 0.9 * AUTH_SECONDS


async def test_a_token_in_time_stops_the_clock(server: ServerProcess) -> None:
    async with await chat(server.ws_url) as client:
        await asyncio.sleep(0.5)
        await client.ok(type="auth", token=token("ada"))
        assert (await client.next())["type"] == "welcome"
        await asyncio.sleep(AUTH_SECONDS)
        await client.ok(type="subscribe", topic="room:a")


def short(seconds: int = 3, **claims: Any) -> str:
    """Return a token that expires in so many seconds, or half a second before or after."""
    expires_at = int(time.time() + 0.5) + seconds
    return token(**{"sub": "ada", "exp": expires_at, **claims})


async def test_an_expired_token_is_told_and_then_closed(server: ServerProcess, room: Room) -> None:
    async with await chat(server.ws_url, short()) as client:
        await client.ok(type="subscribe", topic=room.topic)
        notice = await client.next()
        told_at = time.monotonic()
        assert (notice["type"], notice["code"]) == ("error", "unauthorized")
        assert "id" not in notice
        assert client.welcome["expires_at"] <= time.time() + 0.05
        # Until the grace is over it still receives, but may do nothing.
        await room.bystander.ok(type="publish", topic=room.topic, data="meanwhile")
        await room.bystander.next()
        assert (await client.next())["data"] == "meanwhile"
        refused = await client.call(type="publish", topic=room.topic, data=1)
        assert refused["code"] == "unauthorized"
        assert (await client.call(type="ping"))["type"] == "pong"
        assert await client.closed() == 4401
        assert [m["type"] for m in client.unread] == ["goodbye"]
        assert 0.5 * GRACE_SECONDS < time.monotonic() - told_at < 10 * GRACE_SECONDS


@pytest.mark.parametrize("late", [False, True])
async def test_a_refreshed_token_keeps_the_connection(
    server: ServerProcess, room: Room, late: bool
) -> None:
    async with await chat(server.ws_url, short(3 if late else 6)) as client:
        await client.ok(type="subscribe", topic=room.topic)
        if late:
            assert (await client.next())["code"] == "unauthorized"
        answer = await client.ok(type="auth", token=token("ada"))
        assert answer["user"] == "ada"
        assert answer["expires_at"] > time.time() + 60
        over = client.welcome["expires_at"] + GRACE_SECONDS + 0.5
        await asyncio.sleep(over - time.time())
        await client.ok(type="publish", topic=room.topic, data="fine")
        assert (await client.next())["data"] == "fine"
        assert client.unread == []


async def test_a_bad_refresh_changes_nothing(server: ServerProcess, room: Room) -> None:
    async with await chat(server.ws_url, token("ada")) as client:
        for kind, jwt in BAD.items():
            answer = await client.call(type="auth", token=jwt)
            assert (answer["type"], answer["code"]) == ("error", "unauthorized"), kind
        answer = await client.call(type="auth", token=token("bob"))
        assert answer["code"] == "unauthorized"
        await client.ok(type="subscribe", topic=room.topic)


async def test_a_refresh_with_fewer_rights_ends_subscriptions(
    server: ServerProcess, room: Room
) -> None:
    async with await chat(server.ws_url, token("ada")) as client:
        await client.ok(type="subscribe", topic=room.topic)
        await client.ok(type="subscribe", topic="room:kept")
        narrow = token("ada", topics={"subscribe": ["room:kept"], "publish": ["**"]})
        await client.ok(type="auth", token=narrow)
        notice = await client.next()
        assert (notice["code"], notice["topic"]) == ("forbidden", room.topic)
        assert "id" not in notice
        await room.check_undisturbed()
        await client.ok(type="publish", topic="room:kept", data="kept")
        assert (await client.next())["data"] == "kept"
        again = await client.call(type="subscribe", topic=room.topic)
        assert again["code"] == "forbidden"


async def test_permissions_are_those_of_the_token(server: ServerProcess, room: Room) -> None:
    topics = {"subscribe": ["room:*"], "publish": ["user:{sub}"], "history": []}
    async with await chat(server.ws_url, token("ada", topics=topics)) as client:
        await client.ok(type="subscribe", topic=room.topic)
        await client.ok(type="publish", topic="user:ada", data=1)
        for command in (
            {"type": "subscribe", "topic": "room:a:b"},
            {"type": "subscribe", "topic": "user:ada"},
            {"type": "subscribe", "topic": "room:last", "last": 5},
            {"type": "publish", "topic": room.topic, "data": 1},
            {"type": "publish", "topic": "user:bob", "data": 1},
            {"type": "signal", "topic": room.topic, "data": 1},
            {"type": "history", "topic": room.topic},
        ):
            answer = await client.call(**command)
            assert answer["code"] == "forbidden", command
            assert answer["topic"] == command["topic"]
            assert json.dumps(answer)


@pytest.mark.parametrize(
    ("sub", "topic"),
    [
        ("auth0|5f7", "user:auth0~7C5f7"),
        ("bob+test@example.org", "user:bob~2Btest@example.org"),
        ("spiffe://a/b", "user:spiffe~3A~2F~2Fa~2Fb"),
    ],
)
async def test_every_subject_has_a_topic_of_its_own(
    server: ServerProcess, sub: str, topic: str
) -> None:
    grants = {"subscribe": ["user:{sub}"], "publish": ["user:{sub}"]}
    mine, other = (token(user, topics=grants) for user in (sub, f"{sub}x"))
    async with await chat(server.ws_url, mine) as client:
        await client.ok(type="subscribe", topic=topic)
        for path in (topic, quote(topic, safe=""), topic.replace("~", "%7E")):
            answer = await request(
                server.port,
                "POST",
                f"/api/topics/{path}/messages",
                headers={"Authorization": f"Bearer {mine}"},
                body=b'{"data":1}',
            )
            assert answer.status == 201, path
            assert (await client.next())["from"]["user"] == sub
    async with await chat(server.ws_url, other) as client:
        assert (await client.call(type="subscribe", topic=topic))["code"] == "forbidden"
