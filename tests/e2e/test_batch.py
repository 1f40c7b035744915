"""Batches by HTTP, over a Redis and over a cluster of them."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.rig.chat_client import Chat, chat
from tests.rig.raw_client import request
from tests.rig.redis_cluster import RedisCluster
from tests.rig.redis_server import RedisServer, running
from tests.rig.server import ServerProcess

from .cluster import one_on_each
from .room import token

ENVIRON = {
    "CHAT_AUTH__AUDIENCE": "chat",
    "CHAT_LIMITS__MESSAGE_BURST": "100000",
    "CHAT_REDIS__TIMEOUT_SECONDS": "4",
    "CHAT_HTTP__REQUEST_TIMEOUT_SECONDS": "12",
}
TOPICS = [f"room:{name}" for name in "abcde"]


@pytest.fixture(scope="module", params=["one", "cluster"])
def store(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RedisServer | RedisCluster]:
    directory = tmp_path_factory.mktemp("redis")
    kind = RedisServer if request.param == "one" else RedisCluster
    with running(kind(directory, durable=True)) as started:
        yield started


@pytest.fixture(scope="module")
def workers(store: RedisServer | RedisCluster) -> Iterator[ServerProcess]:
    with ServerProcess("--workers", "2", "--redis-url", store.url, environ=ENVIRON) as started:
        yield started


async def publish_many(
    server: ServerProcess, messages: list[dict[str, Any]], sub: str = "mallory"
) -> list[dict[str, Any]]:
    answer = await request(
        server.port,
        "POST",
        "/api/messages",
        headers={"Authorization": f"Bearer {token(sub)}"},
        body=json.dumps({"messages": messages}).encode(),
    )
    assert answer.status == 200, answer
    results: list[dict[str, Any]] = answer.json()["results"]
    assert len(results) == len(messages)
    return results


def messages_of(run: str, count: int, topics: list[str]) -> list[dict[str, Any]]:
    return [
        {"topic": topics[n % len(topics)], "data": [run, n], "key": f"{run}-{n}"}
        for n in range(count)
    ]


async def received(member: Chat, topic: str, count: int) -> list[Any]:
    """Return the data of the next messages of a topic, whose seqs must follow one another."""
    pushed = [await member.next() for _ in range(count)]
    assert {push["topic"] for push in pushed} == {topic}
    seqs = [push["seq"] for push in pushed]
    assert seqs == list(range(seqs[0], seqs[0] + count))
    return [push["data"] for push in pushed]


async def test_subscribers_on_all_workers_see_each_message_once_and_in_order(
    workers: ServerProcess,
) -> None:
    for member in await one_on_each(workers):
        async with member:
            for topic in TOPICS:
                await member.ok(type="subscribe", topic=topic)
            run = token(str(id(member)))[-8:]
            sent = messages_of(run, 500, TOPICS)
            results = await publish_many(workers, sent)
            assert [each["topic"] for each in results] == [each["topic"] for each in sent]
            pushed: dict[str, list[Any]] = {topic: [] for topic in TOPICS}
            for _ in sent:
                push = await member.next()
                pushed[push["topic"]].append((push["seq"], push["data"]))
            for number, topic in enumerate(TOPICS):
                places = [each["seq"] for each in results[number :: len(TOPICS)]]
                data = [each["data"] for each in sent[number :: len(TOPICS)]]
                assert pushed[topic] == list(zip(places, data, strict=True))
                assert places == list(range(places[0], places[0] + len(places)))


async def test_a_batch_that_is_repeated_is_stored_once(workers: ServerProcess) -> None:
    sent = messages_of("twice", 200, TOPICS)
    first, again = await asyncio.gather(
        publish_many(workers, sent), publish_many(workers, sent), return_exceptions=False
    )
    for one, other in zip(first, again, strict=True):
        assert (one["seq"], one["epoch"], one["at"]) == (other["seq"], other["epoch"], other["at"])
        assert {one["duplicate"], other["duplicate"]} == {True, False}


async def test_batches_of_several_users_keep_the_order_of_each(workers: ServerProcess) -> None:
    topic = "room:shared"
    async with await chat(workers.ws_url, token("reader")) as reader:
        await reader.ok(type="subscribe", topic=topic)
        await asyncio.gather(
            *(publish_many(workers, messages_of(name, 100, [topic]), name) for name in "abc")
        )
        data = await received(reader, topic, 300)
    for name in "abc":
        assert [n for who, n in data if who == name] == list(range(100))


async def test_what_redis_does_not_take_is_told_and_can_be_repeated(
    workers: ServerProcess, store: RedisServer | RedisCluster
) -> None:
    sent = messages_of("away", 40, TOPICS)
    sent[7] = {"topic": "not a topic", "data": 1}
    servers = [store] if isinstance(store, RedisServer) else [store.owner(TOPICS[0])]
    for one in servers:
        one.pause()
    try:
        results = await publish_many(workers, sent)
    finally:
        for one in servers:
            one.resume()
    codes = [each.get("error", {}).get("code") for each in results]
    assert codes.pop(7) == "bad_request"
    assert set(codes) <= {None, "unavailable"}
    assert "unavailable" in codes
    if isinstance(store, RedisCluster):
        assert None in codes, "the other masters are there"
    sent.pop(7)
    async with asyncio.timeout(90):
        while True:
            places = await publish_many(workers, sent)
            if not any("error" in each for each in places):
                break
            await asyncio.sleep(0.1)
    for number, topic in enumerate(TOPICS):
        mine = [each["seq"] for each in places if each["topic"] == topic]
        assert len(set(mine)) == len(mine), (number, topic)
    results.pop(7)
    for before, after in zip(results, places, strict=True):
        if "error" not in before:
            assert (before["seq"], after["duplicate"]) == (after["seq"], True)
