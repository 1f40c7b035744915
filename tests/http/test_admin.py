"""`/api/admin`: who may do what, and what is not taken."""

import logging
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from quart import Response

from chat_server.events import Position
from chat_server.extension import ChatServer
from chat_server.operators.purging import History
from chat_server.protocol.errors import Unavailable
from tests.rig.chat_client import Closed, chat
from tests.rig.raw_client import request
from tests.rig.tokens import forge
from tests.server.inprocess import make_settings, serving

from .client import Client, client, problem


def operator(*patterns: str, sub: str = "op") -> str:
    return forge(sub=sub, iat=int(time.time()), topics={"admin": patterns or ["**"]})


async def order(http: Client, verb: str, jwt: str | None = None, **fields: object) -> Response:
    return await http.ask("POST", f"/api/admin/{verb}", token=jwt or operator(), json=fields)


async def look(http: Client, path: str, jwt: str | None = None) -> Response:
    return await http.ask("GET", f"/api/admin/{path}", token=jwt or operator())


async def test_nobody_is_an_operator_without_the_grant() -> None:
    everything = {
        name: ["**"] for name in ("subscribe", "publish", "history", "presence", "moderate")
    }
    async with client(limits__message_burst=1_000) as http:
        for jwt in (forge(sub="ada", topics=everything), forge(sub="ada"), forge(topics=None)):
            for path in ("nodes", "connections", "connections/x", "topics", "blocks"):
                await problem(await look(http, path, jwt), 403, "forbidden")
            verbs = ("block", "unblock", "revoke", "disconnect", "unsubscribe", "close", "open")
            for verb in (*verbs, "announce"):
                await problem(await order(http, verb, jwt, user="bob"), 403, "forbidden")
        await problem(await http.ask("GET", "/api/admin/nodes"), 401, "unauthorized")


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("usr=bob", "usr: is no field here; there are user, address, topic, client, after, limit"),
        ("limit[]=3", "limit[]: is no field here"),
        ("limit=5&limit=6", "limit: is given 2 times; give it once"),
        ("x" * 1_000, "x" * 100 + "…: is no field here"),
    ],
)
async def test_a_filter_that_is_misspelled_is_not_passed_over(query: str, said: str) -> None:
    async with client() as http:
        answer = await look(http, f"connections?{query}")
        assert said in (await problem(answer, 400, "bad_request"))["detail"]


async def test_an_order_says_whether_that_was_so_already_and_needs_a_reason() -> None:
    async with client() as http:
        for verb, fields, already in (
            ("open", {"topic": "room:1"}, True),
            ("close", {"topic": "room:1", "seconds": 60}, False),
            ("close", {"topic": "room:1", "seconds": 60}, True),
            ("open", {"topic": "room:1"}, False),
            ("unsubscribe", {"topic": "room:1", "user": "bob"}, True),
            ("revoke", {"kid": "a"}, False),
            ("revoke", {"kid": "a"}, True),
        ):
            answer = await order(http, verb, reason="x", **fields)
            assert (await answer.get_json())["already"] is already, (verb, fields)
            for reason in ("", "  ", "\u2003\t"):
                refused = await order(http, verb, reason=reason, **fields)
                assert list((await problem(refused, 422, "invalid"))["fields"]) == ["reason"]


async def test_an_operator_of_some_topics_does_nothing_elsewhere() -> None:
    async with client() as http:
        jwt = operator("room:**")
        why: dict[str, Any] = {"reason": "spam"}
        for verb, fields in (
            ("block", {"user": "bob", "seconds": 60}),
            ("unblock", {"user": "bob"}),
            ("revoke", {"jti": "x"}),
            ("disconnect", {"user": "bob"}),
            ("announce", {"data": 1}),
            ("unsubscribe", {"user": "bob", "topic": "other:1"}),
            ("close", {"topic": "other:1"}),
            ("close", {"topic": "other:1", "seconds": 60}),
            ("open", {"topic": "other:1"}),
            ("delete", {"topic": "other:1", "seq": 1}),
            ("purge", {"topic": "other:1"}),
        ):
            await problem(await order(http, verb, jwt, **why, **fields), 403, "forbidden")
        for path in (
            "nodes",
            "connections",
            "connections?topic=other:1",
            "connections/x",
            "blocks",
        ):
            await problem(await look(http, path, jwt), 403, "forbidden")
        for verb, fields in (
            ("unsubscribe", {"user": "bob", "topic": "room:1"}),
            ("close", {"topic": "room:1"}),
            ("close", {"topic": "room:1", "seconds": 60}),
            ("open", {"topic": "room:1"}),
        ):
            assert (await order(http, verb, jwt, **why, **fields)).status_code == 200, verb
        for path in ("connections?topic=room:1", "topics"):
            assert (await look(http, path, jwt)).status_code == 200, path


async def test_an_operator_of_some_topics_sees_nothing_of_others() -> None:
    async with serving(make_settings()) as served:
        grants = {"subscribe": ["**"]}
        async with await chat(served.ws_url, forge(sub="bob", topics=grants)) as bob:
            for topic in ("room:1", "other:1"):
                await bob.ok(type="subscribe", topic=topic)
            for jwt, topics, address in (
                (operator("room:**"), ["room:1"], None),
                (operator(), ["other:1", "room:1"], "127.0.0.1"),
            ):
                headers = {"Authorization": f"Bearer {jwt}"}
                path = "/api/admin/topics"
                answer = await request(served.port, "GET", path, headers=headers)
                assert [each["topic"] for each in answer.json()["topics"]] == topics
                path = "/api/admin/connections?topic=room:1"
                answer = await request(served.port, "GET", path, headers=headers)
                [row] = answer.json()["connections"]
                assert (row["user"], row["address"]) == ("bob", address)


@pytest.mark.parametrize(
    ("verb", "fields", "wrong"),
    [
        ("block", {"user": "bob", "seconds": 60}, "reason"),
        ("block", {"user": "bob", "reason": "x"}, "until"),
        ("block", {"user": "bob", "reason": "x", "seconds": 1, "until": 2**32}, "until"),
        ("block", {"user": "bob", "reason": "x", "until": 1}, "until"),
        ("block", {"user": "bob", "reason": "x", "seconds": 1e12}, "seconds"),
        ("block", {"user": "b" * 256, "reason": "x", "seconds": 1}, "user"),
        ("block", {"user": "bob", "reason": "x" * 257, "seconds": 1}, "reason"),
        ("revoke", {"reason": "x"}, "jti"),
        ("revoke", {"reason": "x", "jti": "a", "kid": "b"}, "jti"),
        ("revoke", {"reason": "x", "jti": "a", "issued_before": 1}, "issued_before"),
        ("disconnect", {"reason": "x"}, "user"),
        ("disconnect", {"reason": "x", "user": "a", "session": "b"}, "user"),
        ("announce", {"reason": "x"}, "data"),
    ],
)
async def test_a_wrong_order_names_the_field(verb: str, fields: dict[str, Any], wrong: str) -> None:
    async with client() as http:
        body = await problem(await order(http, verb, **fields), 422, "invalid")
        assert wrong in body["fields"]
        assert len(http.node.denials) == 0


@pytest.mark.parametrize("limit", ["0", "-1", "1001", "1000000000", "many"])
@pytest.mark.parametrize("path", ["connections", "topics", "blocks"])
async def test_a_page_has_a_size(path: str, limit: str) -> None:
    async with client() as http:
        await problem(await look(http, f"{path}?limit={limit}"), 400, "bad_request")


async def test_there_are_no_other_lists_and_no_topics_with_other_names() -> None:
    async with client() as http:
        await problem(await look(http, "blocks?list=users%0A"), 400, "bad_request")
        for verb, fields in (
            ("open", {}),
            ("close", {"seconds": 1}),
            ("unsubscribe", {"user": "a"}),
        ):
            answer = await order(http, verb, topic="not a topic", reason="x", **fields)
            await problem(answer, 400, "bad_request")


async def test_an_operator_cannot_block_himself() -> None:
    async with client() as http:
        answer = await order(http, "block", user="op", reason="x", seconds=60)
        body = await problem(answer, 400, "bad_request")
        assert "yourself" in body["detail"]
        assert (await look(http, "nodes")).status_code == 200


async def test_a_block_ends_by_itself(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "chat_server.audit")
    async with serving(make_settings()) as served:
        headers = {"Authorization": f"Bearer {operator()}"}
        async with await chat(served.ws_url, forge(sub="bob")) as bob:
            body = b'{"user":"bob","reason":"calm down","seconds":0.5}'
            path = "/api/admin/block"
            answer = await request(served.port, "POST", path, body=body, headers=headers)
            assert answer.json()["connections"] == 1
            assert await bob.closed() == 4403
        while True:
            try:
                async with await chat(served.ws_url, forge(sub="bob"), bearer=True):
                    break
            except (Closed, AssertionError):
                continue
    [line] = [each for each in caplog.records if each.name == "chat_server.audit"]
    assert line.operator == "op"  # type: ignore[attr-defined]
    assert (line.action, line.reason) == ("block", "calm down")  # type: ignore[attr-defined]


async def test_lists_of_blocks_are_paged() -> None:
    async with client(limits__message_burst=1_000) as http:
        for number in range(5):
            await order(http, "block", user=f"user{number}", reason="x", seconds=60)
        first = await (await look(http, "blocks?limit=3")).get_json()
        assert ([each["target"] for each in first["denials"]], first["more"]) == (
            ["user0", "user1", "user2"],
            True,
        )
        rest = await (await look(http, "blocks?limit=3&after=user2")).get_json()
        assert ([each["target"] for each in rest["denials"]], rest["more"]) == (
            ["user3", "user4"],
            False,
        )


async def test_a_later_revocation_allows_nothing_that_an_earlier_has_taken() -> None:
    async with client() as http:
        now = int(time.time())
        for before, seconds in ((now, 3_600), (now - 600, 60)):
            taken = await order(
                http, "revoke", user="bob", issued_before=before, seconds=seconds, reason="lost"
            )
            assert taken.status_code == 200
        [kept] = (await (await look(http, "blocks?list=issued")).get_json())["denials"]
        assert (kept["target"], kept["at"]) == ("bob", now)
        assert kept["until"] >= now + 3_600


async def test_it_is_explained_who_was_sent_a_message_and_who_was_not() -> None:
    async with serving(make_settings()) as served:
        headers = {"Authorization": f"Bearer {operator()}"}

        async def explain(query: str) -> Any:
            path = f"/api/admin/explain?topic=room:a&{query}"
            return (await request(served.port, "GET", path, headers=headers)).json()

        async with await chat(served.ws_url, forge(sub="bob")) as bob:
            await bob.ok(type="subscribe", topic="room:a")
            stored = await bob.ok(type="publish", topic="room:a", data="hello")
            assert (await bob.next())["type"] == "message"
            told = await explain("seq=1&user=bob")
            [worker] = told.pop("workers")
            assert told == {
                "topic": "room:a",
                "seq": 1,
                "last": 1,
                "epoch": stored["epoch"],
                "stored": True,
                "kind": "message",
                "at": stored["at"],
                "sender": {"user": "bob"},
                "missing": [],
                "silent": {},
            }
            assert (worker["seq"], worker["subscribers"]) == (1, 1)
            [story] = worker["connections"]
            assert story["verdict"] == "sent"
            assert abs(story["at"] - stored["at"] / 1_000) < 60
            unknown = await explain("seq=2&user=bob")
            assert (unknown["stored"], unknown["kind"], unknown["last"]) == (False, None, 1)
            assert (await explain("seq=1"))["workers"][0]["connections"] == []
        assert (await explain("seq=0"))["code"] == "bad_request"
        path = "/api/admin/explain?topic=room:a&seq=1"
        other = {"Authorization": f"Bearer {operator('other:**')}"}
        assert (await request(served.port, "GET", path, headers=other)).status == 403


async def test_any_message_can_be_deleted(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "chat_server.audit")
    async with client() as http:
        assert (await http.publish("rude")).status_code == 201
        jwt = operator("room:**")
        fields: dict[str, Any] = {"topic": "room:lobby", "seq": 1, "reason": "rude"}
        answer = await order(http, "delete", jwt, **fields)
        assert answer.status_code == 200
        [message] = (await (await http.history()).get_json())["messages"]
        assert (message["deleted"], message["data"]) == (True, None)
        await problem(await order(http, "delete", jwt, **fields), 410, "gone")
        await problem(await order(http, "delete", jwt, **{**fields, "seq": 9}), 404, "not_found")
    assert [each.getMessage() for each in caplog.records if each.name == "chat_server.audit"] == [
        "op: delete topic=room:lobby seq=1: rude"
    ]


async def test_a_topics_history_is_purged_and_subscribers_are_told(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.INFO, "chat_server.audit")
    settings = make_settings(
        database__url=f"sqlite+aiosqlite:///{tmp_path / 'chat.db'}",
        namespaces__default__archive=True,
    )
    headers = {"Authorization": f"Bearer {operator('room:**')}"}
    purge = b'{"topic":"room:a","reason":"secrets"}'
    async with serving(settings) as served, await chat(served.ws_url, forge(sub="bob")) as bob:
        await bob.ok(type="subscribe", topic="room:a")
        await bob.ok(type="publish", topic="room:a", data="secret")
        assert (await bob.next())["data"] == "secret"
        answer = await request(served.port, "POST", "/api/admin/purge", body=purge, headers=headers)
        assert (answer.status, answer.json()["connections"]) == (200, 1)
        gap = await bob.next()
        assert (gap["type"], gap["reason"], gap["before"]) == ("gap", "epoch_changed", 2)
        page = await bob.ok(type="history", topic="room:a")
        assert (page["messages"], page["epoch"]) == ([], gap["epoch"])
        assert (await bob.ok(type="publish", topic="room:a", data="later"))["seq"] == 2
        assert (await bob.next())["data"] == "later"
        page = await bob.ok(type="history", topic="room:a")
        assert [each["data"] for each in page["messages"]] == ["later"]
    assert [each.getMessage() for each in caplog.records if each.name == "chat_server.audit"] == [
        "op: purge topic=room:a seq=1: secrets"
    ]


async def test_a_purge_says_what_it_could_not_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(topic: str, place: Position) -> None:
        raise Unavailable("the database is away")

    async with client() as http:
        chat_server: ChatServer = http.app.extensions["chat_server"]
        assert chat_server.operators is not None
        archive = SimpleNamespace(purge=away)
        monkeypatch.setattr(chat_server.operators, "_history", History(http.node.broker, archive))
        assert (await http.publish("secret")).status_code == 201
        answer = await order(http, "purge", topic="room:lobby", reason="x")
        body = await problem(answer, 503, "unavailable")
        assert "the archive not" in body["detail"]
        assert (await (await http.history()).get_json())["messages"] == []


async def test_a_purge_whose_subscribers_cannot_be_told_says_that_all_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def away(entries: object) -> None:
        raise Unavailable("the store is full; nothing was stored")

    async with client() as http:
        chat_server: ChatServer = http.app.extensions["chat_server"]
        monkeypatch.setattr(chat_server.operators, "_store", SimpleNamespace(put=away))
        assert (await http.publish("secret")).status_code == 201
        answer = await order(http, "purge", topic="room:lobby", reason="x")
        body = await problem(answer, 503, "unavailable")
        assert body["detail"].endswith("but subscribers were not told; purge it again")
        assert (await (await http.history()).get_json())["messages"] == []


@pytest.mark.parametrize(
    "path", ["connections?topic=room:*", "connections?topic=a b", "topics?topic=[", "topics?topic="]
)
async def test_a_filter_that_nothing_can_fit_is_refused(path: str) -> None:
    """An empty list would say that nobody is there."""
    async with client() as http:
        body = await problem(await look(http, path), 400, "bad_request")
        assert body["detail"].startswith("topic: must ")


@pytest.mark.parametrize(
    ("verb", "fields", "wrong"),
    [
        # Taken as it is, the first would revoke all that were ever issued.
        ("revoke", {"user": "bob", "issued_befor": 1}, "issued_befor"),
        ("close", {"topic": "room:a", "second": 60}, "second"),
        ("disconnect", {"address": "127.0.0.1/0"}, "address"),
        ("disconnect", {"address": "999.1.1.1"}, "address"),
    ],
)
async def test_an_order_that_is_misspelt_is_not_given(
    verb: str, fields: dict[str, Any], wrong: str
) -> None:
    async with client() as http:
        answer = await problem(await order(http, verb, reason="x", **fields), 422, "invalid")
        assert list(answer["fields"]) == [wrong]


async def test_addresses_are_not_tried_out_by_an_operator_of_some_topics() -> None:
    async with client() as http:
        path = "connections?topic=room:a&address=127.0.0.1"
        assert (await look(http, path)).status_code == 200
        await problem(await look(http, path, operator("room:**")), 403, "forbidden")
