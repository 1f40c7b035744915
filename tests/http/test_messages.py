"""`/api/topics/{topic}/messages`: publish and read by HTTP."""

import json
import re

import pytest

from tests.rig.chat_client import chat
from tests.rig.raw_client import request
from tests.rig.server import mint
from tests.rig.tokens import forge
from tests.server.inprocess import make_settings, serving

from ..rig.clock import ManualClock
from .client import MESSAGES, Client, client, problem


async def _fill(http: Client, count: int) -> None:
    for number in range(1, count + 1):
        assert (await http.publish(number)).status_code == 201


async def test_publishes_and_reads_what_was_published() -> None:
    data = {"text": "Grüße 👋 \u2028</script>", "n": [1, -2.5, None, True, 2**53]}
    async with client() as http:
        token = mint("ada", name="Ada")
        response = await http.ask("POST", MESSAGES, token=token, json={"data": data})
        assert response.status_code == 201
        assert response.content_type == "application/json"
        answer = await response.get_json()
        assert set(answer) == {"topic", "seq", "epoch", "at", "duplicate"}
        assert (answer["topic"], answer["seq"], answer["duplicate"]) == ("room:lobby", 1, False)
        history = await (await http.history()).get_json()
        assert history == {
            "topic": "room:lobby",
            "epoch": answer["epoch"],
            "messages": [
                {
                    "type": "message",
                    "topic": "room:lobby",
                    "seq": 1,
                    "at": answer["at"],
                    "from": {"user": "ada", "name": "Ada"},
                    "data": data,
                }
            ],
            "more": False,
        }


@pytest.mark.parametrize("data", [None, False, 0, "", [], {}])
async def test_any_value_is_data(data: object) -> None:
    async with client() as http:
        assert (await http.publish(data)).status_code == 201
        [message] = (await (await http.history()).get_json())["messages"]
        assert message["data"] == data


async def test_a_repeated_key_is_a_duplicate_of_the_same_user_only() -> None:
    async with client() as http:
        first = await http.publish("a", key="k")
        again = await http.publish("b", key="k")
        other = await http.ask("POST", MESSAGES, token=mint("bob"), json={"data": "c", "key": "k"})
        elsewhere = await http.publish("d", key="k", path="/api/topics/room:other/messages")
        statuses = [r.status_code for r in (first, again, other, elsewhere)]
        assert statuses == [201, 200, 201, 201]
        answers = [await r.get_json() for r in (first, again)]
        assert answers[1] == {**answers[0], "duplicate": True}
        history = await (await http.history()).get_json()
        assert [m["data"] for m in history["messages"]] == ["a", "c"]


@pytest.mark.parametrize(
    ("query", "seqs", "more"),
    [
        ({}, [1, 2, 3, 4, 5], False),
        ({"limit": 2}, [4, 5], True),
        ({"limit": 5}, [1, 2, 3, 4, 5], False),
        ({"before": 3}, [1, 2], False),
        ({"before": 4, "limit": 2}, [2, 3], True),
        ({"before": 1}, [], False),
        ({"before": 0}, [], False),
        ({"before": 100}, [1, 2, 3, 4, 5], False),
        ({"after": 3}, [4, 5], False),
        ({"after": 0, "limit": 2}, [1, 2], True),
        ({"after": 5}, [], False),
        ({"after": 100}, [], False),
        ({"before": 2**53 - 1}, [1, 2, 3, 4, 5], False),
    ],
)
async def test_reads_the_part_that_is_asked_for(
    query: dict[str, int], seqs: list[int], more: bool
) -> None:
    async with client() as http:
        await _fill(http, 5)
        history = await (await http.history(**query)).get_json()
        assert [m["seq"] for m in history["messages"]] == seqs
        assert history["more"] is more


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 301}, "limit"),
        ({"limit": -1}, "limit"),
        ({"limit": "ten"}, "limit"),
        ({"limit": "1.5"}, "limit"),
        ({"limit": ""}, "limit"),
        ({"before": -1}, "before"),
        ({"before": 2**53}, "before"),
        ({"before": 2**70}, "before"),
        ({"after": "x"}, "after"),
        ({"after": "1" * 5000}, "after"),
        ({"before": 5, "after": 1}, "before"),
    ],
)
async def test_a_query_that_is_none_names_the_parameter(
    query: dict[str, object], named: str
) -> None:
    async with client() as http:
        body = await problem(await http.history(**query), 400, "bad_request")
        assert body["detail"].startswith(named)


async def test_an_unknown_parameter_does_no_harm() -> None:
    async with client() as http:
        assert (await http.history(color="red")).status_code == 200


async def test_reading_counts_against_the_rate_as_publishing_does() -> None:
    limits = {"limits__messages_per_second": 0.5, "limits__message_burst": 3}
    async with client(clock=ManualClock(wall=1e9), auth__require_expiry=False, **limits) as http:
        ada, bob = forge(sub="ada", exp=None), forge(sub="bob", exp=None)
        for topic in ("room:a", "room:b"):
            path = f"/api/topics/{topic}/messages"
            assert (await http.ask("GET", path, token=ada)).status_code == 200
        answer = await http.ask("POST", MESSAGES, token=ada, json={"data": 1})
        assert answer.status_code == 201
        answer = await http.ask("GET", MESSAGES, token=ada)
        body = await problem(answer, 429, "rate_limited")
        assert (body["retry_in_ms"], answer.headers["Retry-After"]) == (2000, "2")
        assert (await http.ask("GET", MESSAGES, token=bob)).status_code == 200


async def test_large_bodies_count_more() -> None:
    limits = {"limits__messages_per_second": 0.5, "limits__message_burst": 4}
    async with client(clock=ManualClock(wall=1e9), auth__require_expiry=False, **limits) as http:
        ada = forge(sub="ada", exp=None)
        large = {"data": "x" * 9_000}
        assert (await http.ask("POST", MESSAGES, token=ada, json=large)).status_code == 201
        assert (await http.ask("POST", MESSAGES, token=ada, json={"data": 1})).status_code == 201
        body = await problem(await http.ask("GET", MESSAGES, token=ada), 429, "rate_limited")
        assert body["retry_in_ms"] == 2000


async def test_reading_is_paid_for_by_what_was_read() -> None:
    limits = {"limits__read_bytes_per_second": 1000, "limits__read_burst_bytes": 1000}
    async with client(clock=ManualClock(wall=1e9), auth__require_expiry=False, **limits) as http:
        ada, bob = forge(sub="ada", exp=None), forge(sub="bob", exp=None)
        for _ in range(2):
            await http.ask("POST", MESSAGES, token=ada, json={"data": "x" * 2_000})
        assert (await http.ask("GET", MESSAGES, token=ada)).status_code == 200
        body = await problem(await http.ask("GET", MESSAGES, token=ada), 429, "rate_limited")
        assert body["detail"] == "too much was read in too short a time"
        assert 3_000 <= body["retry_in_ms"] <= 3_500
        assert (await http.ask("GET", MESSAGES, token=bob)).status_code == 200


async def test_a_topic_nobody_knows_is_empty() -> None:
    async with client() as http:
        history = await (await http.history()).get_json()
        assert (history["messages"], history["more"]) == ([], False)
        assert history["epoch"]


@pytest.mark.parametrize(
    "target",
    [
        "room:a%20b",
        "room:a+b",
        "room:a/b",
        "room:a%2Fb",
        "room:a%252Fb",
        "room:%00",
        "room:%FF",
        "room:%C3%BC",
        "room:%E2%82%AC",
        "room:",
        ":room",
        "room::a",
        "%20",
        "room:*",
        "room:**",
        "room:{sub}",
        "room:" + "x" * 295,
        "room:%",
        "room:%zz",
        "../../etc",
        "..%2f..%2fetc",
    ],
)
async def test_a_topic_that_is_none_is_refused_on_the_wire(target: str) -> None:
    async with serving(make_settings()) as server:
        headers = {"Authorization": f"Bearer {mint('ada', publish=['**'], history=['**'])}"}
        path = f"/api/topics/{target}/messages".replace(" ", "%20")
        for method, body in (("POST", b'{"data":1}'), ("GET", b"")):
            answer = await request(server.port, method, path, headers=headers, body=body)
            assert answer.status == 400, answer
            assert answer.json()["code"] == "bad_request"
            assert answer.json()["detail"].startswith("topic: ")


@pytest.mark.parametrize("topic", ["room:" + "x" * 250, "a.b_c~d@e-f:1", "room%3Alobby", "a:a:a:a"])
async def test_a_topic_that_is_one_is_accepted_on_the_wire(topic: str) -> None:
    async with serving(make_settings()) as server:
        headers = {"Authorization": f"Bearer {mint('ada', publish=['**'])}"}
        path = f"/api/topics/{topic}/messages"
        answer = await request(server.port, "POST", path, headers=headers, body=b'{"data":1}')
        assert answer.status == 201
        assert answer.json()["topic"] == topic.replace("%3A", ":")


@pytest.mark.parametrize("target", ["room:%0a", "room:a%0d%0aX:%20y", "%0a"])
async def test_a_topic_with_a_line_break_is_nothing(target: str) -> None:
    async with serving(make_settings()) as server:
        headers = {"Authorization": f"Bearer {mint('ada', history=['**'])}"}
        path = f"/api/topics/{target}/messages"
        answer = await request(server.port, "GET", path, headers=headers)
        assert answer.status in (400, 404)
        assert answer.headers["content-type"] == "application/problem+json"
        assert "x" not in answer.headers


async def test_an_empty_topic_is_nothing() -> None:
    async with serving(make_settings()) as server:
        headers = {"Authorization": f"Bearer {mint('ada')}"}
        answer = await request(server.port, "GET", "/api/topics//messages", headers=headers)
        assert answer.status in (308, 400, 404)


async def test_head_and_options() -> None:
    async with serving(make_settings()) as server:
        headers = {"Authorization": f"Bearer {mint('ada')}"}
        get = await request(server.port, "GET", MESSAGES, headers=headers)
        head = await request(server.port, "HEAD", MESSAGES, headers=headers)
        assert (head.status, head.body) == (200, b"")
        assert head.headers["content-length"] == str(len(get.body))
        options = await request(server.port, "OPTIONS", MESSAGES)
        assert options.status == 200
        assert "POST" in options.headers["allow"]


async def test_what_is_published_by_http_reaches_websockets() -> None:
    async with (
        serving(make_settings()) as server,
        await chat(server.ws_url, mint("bob")) as bob,
    ):
        await bob.ok(type="subscribe", topic="room:lobby")
        headers = {"Authorization": f"Bearer {mint('ada')}", "Content-Type": "application/json"}
        body = json.dumps({"data": "hello"}).encode()
        answer = await request(server.port, "POST", MESSAGES, headers=headers, body=body)
        message = await bob.next()
        assert message["seq"] == answer.json()["seq"]
        assert message["data"] == "hello"
        assert message["from"] == {"user": "ada"}


async def test_a_namespace_may_be_open_to_everybody_with_a_token() -> None:
    token = mint("ada", publish=[], history=[])
    async with client(namespaces__room__allow_publish=True) as http:
        stored = await http.ask("POST", MESSAGES, token=token, json={"data": 1})
        assert stored.status_code == 201
        await problem(await http.ask("GET", MESSAGES, token=token), 403, "forbidden")
        elsewhere = "/api/topics/team:a/messages"
        await problem(
            await http.ask("POST", elsewhere, token=token, json={"data": 1}), 403, "forbidden"
        )


async def test_rates_of_a_namespace_are_each_users_in_each_topic() -> None:
    async with client(namespaces__room__messages_per_user="2/1h") as http:
        statuses = [(await http.publish(number)).status_code for number in range(3)]
        assert statuses == [201, 201, 429]
        refused = await problem(await http.publish(4), 429, "rate_limited")
        assert refused["detail"] == "topic: too many messages of yours here"
        assert 1_700_000 < refused["retry_in_ms"] <= 1_800_000
        for token in (mint("bob"), mint("ada", moderate=["room:*"])):
            answer = await http.ask("POST", MESSAGES, token=token, json={"data": 1})
            assert answer.status_code == 201
        elsewhere = await http.publish(1, path="/api/topics/room:other/messages")
        assert elsewhere.status_code == 201


async def test_headers_tell_how_much_more_a_user_may_send() -> None:
    # So slow that nothing comes again while the test runs.
    async with client(limits__messages_per_second=0.001, limits__message_burst=40) as http:
        first = await http.publish(1)
        assert first.headers["RateLimit-Policy"] == '"messages";q=40;w=40000'
        assert re.fullmatch('"messages";r=39;t=(1000|9[0-9]{2})', first.headers["RateLimit"])
        large = await http.publish("x" * 40_000)
        assert large.headers["RateLimit"].startswith('"messages";r=29;t=1')
        assert (await http.history()).headers["RateLimit"].startswith('"messages";r=2')
        bot = forge(sub="bot", aud="chat", topics={"publish": ["**"]}, rate_factor=5)
        answer = await http.ask("POST", MESSAGES, token=bot, json={"data": 1})
        assert answer.headers["RateLimit-Policy"] == '"messages";q=200;w=40000'
        assert answer.headers["RateLimit"].startswith('"messages";r=199;t=')
        nobody = await http.ask("POST", MESSAGES, json={"data": 1})
        assert "RateLimit" not in nobody.headers
