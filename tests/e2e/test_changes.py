"""Messages that change, over real sockets: two workers, both encodings, resumes, and HTTP."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.rig.chat_client import JSON, MSGPACK, chat
from tests.rig.raw_client import request
from tests.rig.redis_server import RedisServer
from tests.rig.server import ServerProcess

from .room import token


@pytest.fixture(scope="module")
def workers(redis: RedisServer) -> Iterator[ServerProcess]:
    """Two workers over one Redis."""
    environ = {"CHAT_AUTH__AUDIENCE": "chat", "CHAT_LIMITS__MESSAGE_BURST": "10000"}
    with ServerProcess("--workers", "2", "--redis-url", redis.url, environ=environ) as started:
        yield started


async def test_every_verb_reaches_subscribers_in_either_encoding(workers: ServerProcess) -> None:
    topic = "room:verbs"
    async with (
        await chat(workers.ws_url, token("ann")) as ann,
        await chat(workers.ws_url, token("bob"), encoding=MSGPACK) as bob,
    ):
        await bob.ok(type="subscribe", topic=topic)
        place = await ann.ok(type="publish", topic=topic, data={"text": "a"}, state="streaming")
        seq = place["seq"]
        for text, state in (("b", "streaming"), ("ü", "complete")):
            await ann.ok(type="append", topic=topic, seq=seq, text=text, state=state)
        await ann.ok(type="edit", topic=topic, seq=seq, data={"text": "new"})
        await bob.ok(type="react", topic=topic, seq=seq, emoji="👍")
        await ann.ok(type="delete", topic=topic, seq=seq, key="k")
        pushed = await _pushes(bob, 6)
        assert [push["type"] for push in pushed] == [
            *("message", "appended", "appended", "edited", "reaction", "deleted")
        ]
        assert [push["seq"] for push in pushed] == [1, 2, 3, 4, 5, 6]
        assert {push["target"] for push in pushed[1:]} == {seq}
        assert [(push["text"], push["length"], push["state"]) for push in pushed[1:3]] == [
            ("b", 2, "streaming"),
            ("ü", 3, "complete"),
        ]
        assert pushed[4]["from"] == {"user": "bob"}
        again = await ann.ok(type="delete", topic=topic, seq=seq, key="k")
        assert (again["seq"], again["duplicate"]) == (6, True)
        error = await ann.call(type="edit", topic=topic, seq=seq, data=1)
        assert (error["code"], error["topic"]) == ("gone", topic)


@pytest.mark.parametrize("encoding", [JSON, MSGPACK])
async def test_a_seq_may_name_its_epoch(workers: ServerProcess, encoding: str) -> None:
    topic = f"room:epochs-{encoding}"
    async with await chat(workers.ws_url, token("ann"), encoding=encoding) as ann:
        place = await ann.ok(type="publish", topic=topic, data="a")
        changes: list[dict[str, Any]] = [
            {"type": "read"},
            {"type": "react", "emoji": "👍"},
            {"type": "append", "text": "b"},
            {"type": "edit", "data": "c"},
            {"type": "delete"},
        ]
        for change in changes:
            command = {**change, "topic": topic, "seq": place["seq"]}
            error = await ann.call(**command, epoch="elsewhere")
            assert (error["code"], error["topic"]) == ("not_found", topic)
            assert error["message"].startswith("epoch: the topic has begun anew since, without")
            for wrong in ("", "x" * 65, 5):
                error = await ann.call(**command, epoch=wrong)
                assert (error["code"], error["message"][:6]) == ("bad_request", "epoch:")
            await ann.ok(**command, epoch=place["epoch"])
        (message,) = (await ann.ok(type="history", topic=topic))["messages"]
        assert (message["deleted"], message["version"]) == (True, 5)


async def test_a_seq_may_name_its_epoch_by_http(workers: ServerProcess) -> None:
    base = "/api/topics/room:http-epochs/messages"
    place = await _http(workers, "POST", base, 201, {"data": "a"})
    for method, path, body in (
        ("POST", f"{base}/1/reactions", {"emoji": "x"}),
        ("POST", f"{base}/1/append", {"text": "x"}),
        ("PATCH", f"{base}/1", {"data": 1}),
        ("DELETE", f"{base}/1", None),
    ):
        for epoch, status in (("elsewhere", 404), ("", 400), (place["epoch"], 200)):
            sent = f"{path}?epoch={epoch}" if body is None else path
            answer = await _http(workers, method, sent, status, body and {**body, "epoch": epoch})
            assert answer.get("detail", "epoch:").startswith("epoch:")
            if status == 404:
                assert answer["code"] == "not_found"


async def test_whoever_comes_late_reads_it_whole(workers: ServerProcess) -> None:
    topic = "room:late"
    async with await chat(workers.ws_url, token("ann")) as ann:
        first = await ann.ok(type="publish", topic=topic, data="", state="streaming")
        for number in range(30):
            await ann.ok(type="append", topic=topic, seq=1, text=f"{number} ")
        await ann.ok(type="react", topic=topic, seq=1, emoji="👍")
        whole = "".join(f"{number} " for number in range(30))
        async with await chat(workers.ws_url, token("late"), encoding=MSGPACK) as late:
            ok = await late.ok(type="subscribe", topic=topic, last=5)
            assert (ok["recovered"], ok["seq"], ok["replayed"]) == (True, 32, 32)
            (message,) = await _pushes(late, 1)
            assert (message["data"], message["version"]) == (whole, 32)
            await ann.ok(type="append", topic=topic, seq=1, text="31")
            (live,) = await _pushes(late, 1)
            assert (live["seq"], live["text"], live["length"]) == (33, "31", len(whole) + 2)
        async with await chat(workers.ws_url, token("back")) as back:
            since = {"epoch": first["epoch"], "seq": 5}
            ok = await back.ok(type="subscribe", topic=topic, since=since)
            assert (ok["recovered"], ok["replayed"]) == (True, 28)
            merged, reaction, last = await _pushes(back, 3)
            assert (merged["first"], merged["seq"], merged["target"]) == (6, 31, 1)
            assert whole.endswith(merged["text"])
            assert (merged["length"], reaction["seq"], last["seq"]) == (len(whole), 32, 33)
            assert "first" not in last


async def test_a_strict_subscriber_loads_its_snapshot(workers: ServerProcess) -> None:
    topic = "room:strict"
    async with await chat(workers.ws_url, token("ann")) as ann:
        place = await ann.ok(type="publish", topic=topic, data=1)
        since = {"epoch": "another", "seq": 1}
        error = await ann.call(type="subscribe", topic=topic, since=since, strict=True)
        assert (error["code"], error["reason"]) == ("unrecoverable", "epoch_changed")
        now = {"epoch": place["epoch"], "seq": 1}
        assert {"epoch": error["epoch"], "seq": error["seq"]} == now
        answer = await _http(workers, "GET", f"/api/topics/{topic}/position", 200)
        assert answer == {"topic": topic, **now}
        ok = await ann.ok(type="subscribe", topic=topic, since=now, strict=True)
        assert ok["recovered"]


async def test_every_verb_by_http(workers: ServerProcess) -> None:
    base = "/api/topics/room:http/messages"
    await _http(workers, "POST", base, 201, {"data": "a", "state": "streaming"})
    grown = await _http(workers, "POST", f"{base}/1/append", 200, {"text": "b", "key": "k"})
    assert (grown["seq"], grown["target"], grown["length"]) == (2, 1, 2)
    again = await _http(workers, "POST", f"{base}/1/append", 200, {"text": "b", "key": "k"})
    assert (again["seq"], again["duplicate"], again["length"]) == (2, True, 2)
    await _http(workers, "POST", f"{base}/1/append", 200, {"text": "", "state": "complete"})
    await _http(workers, "POST", f"{base}/1/reactions", 200, {"emoji": "👍"})
    history = await _http(workers, "GET", base, 200)
    (message,) = history["messages"]
    assert (message["data"], message["state"], message["version"]) == ("ab", "complete", 4)
    await _http(workers, "PATCH", f"{base}/1", 200, {"data": {"x": None}})
    assert (await _http(workers, "GET", base, 200))["messages"][0]["data"] == {"x": None}
    await _http(workers, "DELETE", f"{base}/1?key=k", 200)
    for method, path, body in (
        ("PATCH", f"{base}/1", {"data": 1}),
        ("DELETE", f"{base}/1", None),
        ("POST", f"{base}/1/append", {"text": "x"}),
        ("POST", f"{base}/1/reactions", {"emoji": "x"}),
    ):
        assert (await _http(workers, method, path, 410, body))["code"] == "gone"
    for seq in ("7", "99999999999999999"):
        status = 404 if seq == "7" else 400
        await _http(workers, "PATCH", f"{base}/{seq}", status, {"data": 1})
    await _http(workers, "POST", base, 201, {"data": {"image": 1}, "state": "streaming"})
    (picture,) = (await _http(workers, "GET", f"{base}?limit=1", 200))["messages"]
    ending = f"{base}/{picture['seq']}/append"
    await _http(workers, "POST", ending, 200, {"text": "", "state": "cancelled"})
    (picture,) = (await _http(workers, "GET", f"{base}?limit=1", 200))["messages"]
    assert (picture["data"], picture["state"]) == ({"image": 1}, "cancelled")
    broken: list[dict[str, Any]] = [{}, {"data": 1, "key": ""}, {"text": 5}]
    for body in broken:
        await _http(workers, "PATCH", f"{base}/1", 400, body)


async def _pushes(client: Any, count: int) -> list[dict[str, Any]]:
    return [await client.next() for _ in range(count)]


async def _http(
    server: ServerProcess, method: str, path: str, status: int, body: Any = None
) -> dict[str, Any]:
    answer = await request(
        server.port,
        method,
        path,
        headers={"Authorization": f"Bearer {token('ann')}"},
        body=b"" if body is None else json.dumps(body).encode(),
    )
    assert answer.status == status, answer
    found: dict[str, Any] = answer.json()
    return found
