"""What happens is counted where it happens: once, and under the right name."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NoReturn

import pytest
from websockets.exceptions import InvalidStatus

from chat_server.http import metrics as scrapes
from chat_server.metrics.samples import Samples
from chat_server.protocol.batch import BATCH_PATH
from chat_server.realtime.registry import Registry
from tests.rig.chat_client import JSON, MSGPACK, chat, open_websocket
from tests.rig.fakes import turns
from tests.rig.raw_client import RawClient, request
from tests.rig.rfc6455 import upgrade
from tests.rig.server import mint
from tests.rig.waiting import until
from tests.server.inprocess import make_settings, serving

from .test_samples import values

Numbers = dict[tuple[str, ...], float]

MESSAGES = "/api/topics/room:a/messages"


class World:
    """A server with metrics, asked over sockets."""

    def __init__(self, port: int, url: str) -> None:
        self.port = port
        self.url = url

    async def numbers(self) -> Numbers:
        """Return all numbers."""
        answer = await request(self.port, "GET", "/metrics")
        assert answer.status == 200, answer.body
        return values(answer.body)

    async def publish(self, token: str, body: bytes = b'{"data":1}') -> int:
        """Publish by HTTP and return the status."""
        headers = {"Authorization": f"Bearer {token}"}
        return (await request(self.port, "POST", MESSAGES, headers=headers, body=body)).status


@asynccontextmanager
async def world(**flags: object) -> AsyncIterator[World]:
    async with serving(make_settings(metrics__enabled=True, **flags)) as server:
        yield World(server.port, server.ws_url)


@pytest.fixture(autouse=True)
def every_scrape_collects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrapes, "SHARED_SECONDS", 0.0)


async def test_scrapes_of_one_moment_share_a_collection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrapes, "SHARED_SECONDS", 3_600.0)
    collected: list[int] = []
    may_end = asyncio.Event()
    async with serving(make_settings(metrics__enabled=True)) as server:
        metrics: scrapes.Metrics = server.app.extensions["chat_server"].metrics

        async def collect() -> Samples:
            collected.append(len(collected))
            await may_end.wait()
            return await metrics.own()

        metrics.totals = collect
        first = asyncio.create_task(metrics.recent())
        await until(lambda: len(collected) == 1)
        others = [asyncio.create_task(metrics.recent()) for _ in range(20)]
        await turns()
        first.cancel()  # whoever scrapes may go, and another one goes on
        await until(lambda: len(collected) == 2)
        may_end.set()
        assert len({id(samples) for samples in await asyncio.gather(*others)}) == 1
        accepts = ("", "application/openmetrics-text; version=1.0.0")
        for accept in accepts * 2:
            headers = {"Accept": accept}
            answer = await request(server.port, "GET", "/metrics", headers=headers)
            assert answer.body.endswith(b"# EOF\n") is bool(accept)
            assert values(answer.body)["chat_workers",] == 1
        assert len(collected) == 2


async def test_the_format_of_the_highest_weight_is_sent() -> None:
    openmetrics = "application/openmetrics-text; version=1.0.0"
    accepts = {
        f"{openmetrics}; escaping=allow-utf-8; q=0.6, text/plain; version=1.0.0; q=0.5": True,
        f"{openmetrics}, text/plain": True,
        f"text/plain; q=0.6, {openmetrics}; q=0.5": False,
        f"text/plain, {openmetrics}; q=0": False,
        f"{openmetrics}; q=0": False,
        f"*/*, {openmetrics}; q=0.1": False,
    }
    async with serving(make_settings(metrics__enabled=True)) as server:
        for accept, is_openmetrics in accepts.items():
            answer = await request(server.port, "GET", "/metrics", headers={"Accept": accept})
            assert answer.body.endswith(b"# EOF\n") is is_openmetrics, accept


async def test_a_scrape_a_moment_later_collects_again() -> None:
    async with serving(make_settings(metrics__enabled=True)) as server:
        metrics: scrapes.Metrics = server.app.extensions["chat_server"].metrics
        assert await metrics.recent() is not await metrics.recent()


async def test_a_scrape_looks_at_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    def looked_at(registry: Registry) -> NoReturn:
        raise AssertionError("there may be very many")

    async with world() as server, await chat(server.url, mint("ada")) as ada:
        await ada.ok(type="subscribe", topic="room:a")
        with monkeypatch.context() as patch:
            patch.setattr(Registry, "__iter__", looked_at)
            assert (await server.numbers())["chat_subscriptions",] == 1


async def test_connections_by_transport_encoding_and_close_code() -> None:
    async with world() as server:
        one, two = chat(server.url, mint("ada")), chat(server.url, mint("ada"), encoding=MSGPACK)
        async with await one as ada, await two as other:
            await ada.ok(type="subscribe", topic="room:a")
            await ada.ok(type="subscribe", topic="room:b")
            await other.ok(type="subscribe", topic="room:a")
            shown = await server.numbers()
            assert shown["chat_connections", "chat.v1.json", "direct"] == 1
            assert shown["chat_connections", "chat.v1.msgpack", "direct"] == 1
            assert shown["chat_users",] == 1
            assert shown["chat_topics",] == 2
            assert shown["chat_subscriptions",] == 3
        shown = await server.numbers()
        assert shown["chat_connections", "chat.v1.json", "direct"] == 0
        assert shown["chat_connections_opened_total", "chat.v1.json", "direct"] == 1
        assert shown["chat_connections_closed_total", "1000"] == 2
        assert shown["chat_subscriptions",] == 0


async def test_messages_commands_and_deliveries() -> None:
    async with world() as server, await chat(server.url, mint("ada")) as ada:
        await ada.ok(type="subscribe", topic="room:a")
        await ada.ok(type="publish", topic="room:a", data="by websocket")
        assert (await ada.next())["data"] == "by websocket"
        assert await server.publish(mint("bob")) == 201
        assert (await ada.next())["data"] == 1
        assert (await ada.call(type="edit", topic="room:a", seq=99, data=1))["code"] == "not_found"
        assert (await ada.call(type="publish", topic="Not a topic", data=1))["type"] == "error"
        shown = await server.numbers()
        assert shown["chat_commands_total", "publish", "ok"] == 2
        assert shown["chat_commands_total", "edit", "not_found"] == 1
        assert shown["chat_errors_total", "not_found"] == 1
        assert shown["chat_errors_total", "bad_request"] == 1
        assert shown["chat_deliveries_total",] == 2
        assert shown["chat_messages_received_total",] == 4
        assert shown["chat_messages_sent_total",] == 5  # with the welcome
        assert shown["chat_publish_seconds_count",] == 2
        assert shown["chat_delivery_seconds_count",] == 1  # of sixteen
        assert shown["chat_http_responses_total", "201"] == 1
        assert shown["chat_store_up",] == 1


async def test_a_batch_counts_each_of_its_messages() -> None:
    async with world() as server:
        body = (
            b'{"messages":[{"topic":"room:a","data":1},{"topic":"room:b","data":2},{"topic":""}]}'
        )
        headers = {"Authorization": f"Bearer {mint('bob')}", "Content-Length": str(len(body))}
        assert (
            await request(server.port, "POST", "/api/messages", headers=headers, body=body)
        ).status == 200
        shown = await server.numbers()
        assert shown["chat_commands_total", "publish", "ok"] == 2
        assert shown["chat_commands_total", "publish", "bad_request"] == 1
        assert shown["chat_http_responses_total", "200"] == 1


async def test_resumes_gaps_and_what_was_replayed() -> None:
    async with world(namespaces__default__history_size=3) as server:
        async with await chat(server.url, mint("ada")) as ada:
            first = await ada.ok(type="publish", topic="room:a", data=0)
            for number in range(2):
                await ada.ok(type="publish", topic="room:a", data=number)
        async with await chat(server.url, mint("ada")) as ada:
            since = {"epoch": first["epoch"], "seq": first["seq"]}
            answer = await ada.ok(type="subscribe", topic="room:a", since=since)
            assert answer["recovered"] is True
            for number in range(5):
                await ada.ok(type="publish", topic="room:a", data=number)
        async with await chat(server.url, mint("ada")) as ada:
            answer = await ada.ok(type="subscribe", topic="room:a", since=since)
            assert answer["recovered"] is False
        shown = await server.numbers()
        assert shown["chat_resumes_total", "recovered"] == 1
        assert shown["chat_resumes_total", "expired"] == 1
        assert shown["chat_replayed_events_total",] == 2


async def test_what_is_refused() -> None:
    async with world(limits__message_burst=1, limits__messages_per_second=0.001) as server:
        assert await server.publish("no token") == 401
        head, payload, _ = mint("ada").split(".")
        forged = f"{head}.{payload}.{mint('bob').split('.')[2]}"
        for token in ("none", forged):
            async with await open_websocket(server.url, [JSON, f"bearer.{token}"]) as refused:
                await refused.wait_closed()
                assert refused.close_code == 4401
        with pytest.raises(InvalidStatus):
            await chat(server.url, forged)
        assert await server.publish(mint("bob")) == 201
        assert await server.publish(mint("bob")) == 429
        shown = await server.numbers()
        assert shown["chat_tokens_refused_total", "malformed"] == 2
        assert shown["chat_tokens_refused_total", "signature"] == 2
        assert shown["chat_rate_limited_total", "messages"] == 1
        assert shown["chat_http_responses_total", "401"] == 2
        assert shown["chat_http_responses_total", "429"] == 1


def refusals(shown: Numbers) -> dict[str, float]:
    """Return how often each limit has refused something."""
    return {key[1]: n for key, n in shown.items() if key[0] == "chat_rate_limited_total"}


@pytest.mark.parametrize("limit", ["messages_per_user", "messages_per_topic"])
async def test_a_refusal_is_counted_once_whatever_way_it_takes(limit: str) -> None:
    async with world(**{f"namespaces__default__{limit}": "1/1h"}) as server:
        async with await chat(server.url, mint("ada")) as ada:
            await ada.ok(type="publish", topic="room:a", data=1)
            await ada.call(type="publish", topic="room:a", data=2)
        headers = {"Authorization": f"Bearer {mint('ada')}"}
        by_quart = headers | {"Origin": f"http://127.0.0.1:{server.port}"}
        batch = b'{"messages":[{"topic":"room:a","data":4}]}'
        for path, head, body, status in (
            (MESSAGES, headers, b'{"data":3}', 429),
            (MESSAGES, by_quart, b'{"data":3}', 429),
            (BATCH_PATH, headers, batch, 200),
        ):
            answer = await request(server.port, "POST", path, headers=head, body=body)
            assert answer.status == status, answer.body
        shown = await server.numbers()
    assert refusals(shown) == {limit: 4}
    assert shown["chat_commands_total", "publish", "rate_limited"] == 4


async def test_a_connections_own_limit_is_counted() -> None:
    async with (
        world(limits__messages_per_connection="1/1h") as server,
        await chat(server.url, mint("ada")) as ada,
    ):
        await ada.ok(type="publish", topic="room:a", data=1)
        await ada.call(type="publish", topic="room:a", data=2)
        assert refusals(await server.numbers()) == {"messages_per_connection": 1}


@pytest.mark.parametrize(
    ("reason", "status", "path", "headers"),
    [
        ("origin", 403, "/ws", {"Origin": "https://evil.example"}),
        ("host", 400, "/ws", {"Host": "a..b"}),
        ("upgrade", 426, "/ws", {"Upgrade": ""}),
        ("version", 426, "/ws", {"Sec-WebSocket-Version": "8"}),
        ("key", 400, "/ws", {"Sec-WebSocket-Key": "short"}),
        ("subprotocol", 400, "/ws", {"Sec-WebSocket-Protocol": "mqtt"}),
        ("token", 401, "/ws", {"Authorization": "Bearer nonsense"}),
        ("token", 401, "/ws", {"Authorization": "Bearer a b"}),
        ("path", 404, "/chat/ws", {}),
    ],
)
async def test_refused_handshakes_by_reason(
    reason: str, status: int, path: str, headers: dict[str, str]
) -> None:
    async with world() as server, await RawClient.connect(server.port) as client:
        await client.send(upgrade(path=path, token=mint("ada"), headers=headers))
        assert (await client.read_answer()).status == status
        shown = await server.numbers()
    refused = {key[1:]: n for key, n in shown.items() if key[0] == "chat_handshakes_refused_total"}
    assert refused == {(reason, str(status)): 1}


async def test_blocked_users_are_refused_by_that_reason() -> None:
    async with world() as server:
        headers = {"Authorization": f"Bearer {mint('op', admin=['**'])}"}
        body = b'{"user":"bob","seconds":60,"reason":"spam"}'
        answer = await request(server.port, "POST", "/api/admin/block", headers=headers, body=body)
        assert answer.status == 200, answer.body
        with pytest.raises(InvalidStatus):
            await chat(server.url, mint("bob"))
        shown = await server.numbers()
    assert shown["chat_handshakes_refused_total", "blocked", "403"] == 1


async def test_without_metrics_there_is_nothing() -> None:
    async with serving(make_settings()) as server:
        assert (await request(server.port, "GET", "/metrics")).status == 404


async def test_a_token_keeps_the_numbers_from_others() -> None:
    async with world(metrics__token="scrape") as server:
        for headers in ({}, {"Authorization": "Bearer scrap"}, {"Authorization": "Bearer scrapé"}):
            answer = await request(server.port, "GET", "/metrics", headers=headers)
            assert answer.status == 401
            assert b"chat_" not in answer.body
        answer = await request(
            server.port, "GET", "/metrics", headers={"Authorization": "Bearer scrape"}
        )
        assert answer.status == 200
