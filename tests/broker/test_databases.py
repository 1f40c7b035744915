"""RedisTopology servers share one Redis by using databases of their own."""

from pathlib import Path

import pytest

from chat_server.broker.redis.broker import RedisBroker
from chat_server.broker.redis.connection import database_of
from chat_server.settings import BrokerSettings

from ..rig.redis_sentinel import SentinelTrio
from ..rig.redis_server import RedisServer, patient, running
from .helpers import TOPIC, Run, draft, text_of


@pytest.mark.parametrize(
    ("url", "number"),
    [
        ("", 0),
        ("redis://localhost", 0),
        ("redis://localhost:1/0", 0),
        ("redis://u:p@localhost/7", 7),
        ("redis://localhost?db=3", 3),
        ("rediss://localhost/2", 2),
        ("unix:///run/redis.sock?db=5", 5),
        ("unix:///run/redis.sock", 0),
        ("redis+sentinel://localhost/service/4", 4),
        ("redis+sentinel://localhost/service", 0),
        ("redis+cluster://localhost", 0),
    ],
)
def test_the_number_in_an_address(url: str, number: int) -> None:
    assert database_of(url) == number


async def assert_apart(run: Run, one: str, other: str) -> None:
    """Check that brokers of these addresses share neither events nor signals."""
    heard = []
    for url in (one, other, one, other):
        broker, recorder = await run(RedisBroker(patient(url), BrokerSettings()))
        assert broker.status == "ok"
        await broker.subscribe(TOPIC)
        heard.append((broker, recorder))
    for number, (broker, _) in enumerate(heard):
        assert (await broker.publish(draft(str(number)))).seq == number // 2 + 1
        await broker.signal(TOPIC, b"%d" % number)
    for number, (_, recorder) in enumerate(heard):
        events = await recorder.wait_for(4)
        assert [e.payload for e in events if not e.seq] == [
            b"%d" % n for n in range(number % 2, 4, 2)
        ]
        assert [text_of(e) for e in events if e.seq] == [str(n) for n in range(number % 2, 4, 2)]


async def test_databases_of_one_server(redis_server: RedisServer, run: Run) -> None:
    url = redis_server.url.removesuffix("/0")
    await assert_apart(run, f"{url}/0", f"{url}/1")


async def test_databases_over_a_socket(tmp_path: Path, run: Run) -> None:
    path = tmp_path / "redis.sock"
    with running(RedisServer(tmp_path, "--unixsocket", str(path))):
        await assert_apart(run, f"unix://{path}?db=2", f"unix://{path}?db=3")


async def test_databases_behind_sentinels(sentinel_trio: SentinelTrio, run: Run) -> None:
    await assert_apart(run, sentinel_trio.url, f"{sentinel_trio.url}/9")


async def test_database_0_has_the_channels_of_earlier_versions(
    redis_server: RedisServer, run: Run
) -> None:
    broker, _ = await run(RedisBroker(patient(redis_server.url), BrokerSettings()))
    await broker.subscribe("room:of-old")
    assert b"chat:{room:of-old}" in redis_server.command("PUBSUB", "CHANNELS", "chat:*old*")
