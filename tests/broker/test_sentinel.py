"""What happens to the Redis broker when sentinels move the master."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chat_server.broker.redis.broker import RedisBroker
from chat_server.broker.redis.connection import CONNECTION_ERRORS
from chat_server.broker.redis.topology import Sentinels, master_connector
from chat_server.broker.redis.urls import parse_redis_url
from chat_server.events import Retention
from chat_server.protocol.errors import Unavailable
from chat_server.settings import BrokerSettings, RedisSettings

from ..rig.certificates import make_certificate
from ..rig.redis_sentinel import SentinelTrio
from ..rig.redis_server import RedisServer, running
from .acl import rules
from .helpers import TOPIC, Run, draft, text_of, until

Start = Callable[..., Any]

EVERYTHING = Retention(1_000_000, 3_600.0)


@pytest.fixture
def trio(tmp_path: Path) -> Iterator[SentinelTrio]:
    """Servers and sentinels to be harmed."""
    with running(SentinelTrio(tmp_path)) as trio:
        yield trio


@pytest.fixture
def start(trio: SentinelTrio, run: Run) -> Start:
    def _start(url: str = "") -> Any:
        redis = RedisSettings(url=url or trio.url, timeout_seconds=3.0)
        return run(RedisBroker(redis, BrokerSettings()))

    return _start


async def publish_until(broker: RedisBroker, texts: list[str], done: Callable[[], bool]) -> None:
    """Publish one after the other until `done`, and keep the texts that were acknowledged."""
    number = 0
    while not done():
        number += 1
        try:
            await broker.publish(draft(str(number), retention=EVERYTHING))
        except Unavailable:
            await asyncio.sleep(0.02)
        else:
            texts.append(str(number))


async def test_a_killed_master_is_replaced(start: Start, trio: SentinelTrio) -> None:
    broker, recorder = await start()
    other, heard = await start()
    await asyncio.gather(broker.subscribe(TOPIC), other.subscribe(TOPIC))
    before = await broker.publish(draft("before"))
    await asyncio.gather(recorder.wait_for(1), heard.wait_for(1))
    old = trio.master()
    await until(lambda: old.has_replicated_to(trio.servers[1]))
    old.kill()
    await until(lambda: not broker.available)
    await until(lambda: recorder.returns == heard.returns == 1, 90)
    assert trio.master() is not old
    after = await broker.publish(draft("after"))
    await asyncio.gather(recorder.wait_for(2), heard.wait_for(2))
    assert (after.epoch, after.seq) == (before.epoch, 2), "the replica had everything"
    assert [text_of(event) for event in heard.events] == ["before", "after"]
    # The old master comes back, is made a replica, and nobody is led to it.
    old.start()
    await until(lambda: _is_replica(old), 90)
    third, _ = await start()
    assert (await third.publish(draft("third"))).seq == 3


def _is_replica(server: RedisServer) -> bool:
    try:
        return b"role:slave" in server.command("INFO", "replication")
    except ConnectionError:
        return False  # A sentinel that makes it one drops its clients.


async def test_publishing_goes_on_over_an_ordered_failover(
    start: Start, trio: SentinelTrio
) -> None:
    broker, recorder = await start()
    await broker.subscribe(TOPIC)
    acknowledged: list[str] = []
    old = trio.master()
    publishing = asyncio.create_task(
        publish_until(broker, acknowledged, lambda: recorder.returns > 0)
    )
    await until(lambda: len(acknowledged) > 20)
    await asyncio.to_thread(trio.fail_over)
    async with asyncio.timeout(90):
        await publishing
    assert trio.master() is not old
    await broker.publish(draft("last", retention=EVERYTHING))
    await until(lambda: "last" in map(text_of, recorder.events))
    page = await broker.history(TOPIC, limit=100_000)
    stored = [text_of(event) for event in page.events]
    assert [event.seq for event in page.events] == list(range(1, len(stored) + 1))
    # Replication is asynchronous: what the old master took in its last moment may be gone. What is
    # there is in the order in which it was published.
    assert stored[-1] == "last"
    assert stored[:-1] == sorted(set(stored[:-1]), key=int)


async def test_sentinels_that_are_away_are_passed_over(start: Start, trio: SentinelTrio) -> None:
    trio.sentinels[0].pause()
    trio.sentinels[1].kill()
    broker, _ = await start()
    await until(lambda: broker.available)
    assert (await broker.publish(draft())).seq == 1


async def test_sentinels_that_come_later_are_awaited(start: Start, trio: SentinelTrio) -> None:
    for sentinel in trio.sentinels:
        sentinel.kill()
    broker, recorder = await start()
    assert not broker.available
    with pytest.raises(Unavailable):
        await broker.publish(draft())
    trio.sentinels[2].start()
    await until(lambda: recorder.returns == 1)
    assert (await broker.publish(draft())).seq == 1


async def test_a_service_that_no_sentinel_knows_is_named(
    start: Start, trio: SentinelTrio, caplog: pytest.LogCaptureFixture
) -> None:
    broker, _ = await start(trio.url.replace("/chat", "/chad"))
    assert not broker.available
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "'chad'" in record.getMessage()


async def test_a_replica_is_not_taken_for_the_master(
    trio: SentinelTrio, monkeypatch: pytest.MonkeyPatch
) -> None:
    topology = parse_redis_url(trio.url)
    assert topology is not None
    replica = topology.seeds[0]._replace(port=trio.servers[1].port)

    async def master(sentinels: Sentinels, seconds: float) -> Any:
        return replica

    monkeypatch.setattr(Sentinels, "master", master)
    connection = master_connector(topology)()
    with pytest.raises(CONNECTION_ERRORS, match="is no master"):
        await connection.open(5)
    await connection.close()


async def test_credentials_for_servers_and_sentinels(
    start: Start, trio: SentinelTrio, caplog: pytest.LogCaptureFixture
) -> None:
    for server in trio.servers:
        server.command("ACL", "SETUSER", "bob", "on", ">s3cret", "~*", "&*", "+@all")
    for sentinel in trio.sentinels:
        sentinel.command("ACL", "SETUSER", "eve", "on", ">w0rd", "+@all")
        sentinel.command("ACL", "SETUSER", "default", "off")
    url = trio.url.replace("://", "://bob:s3cret@")
    refused, _ = await start(url)
    assert not refused.available
    wrong, _ = await start(url + "?sentinel_username=eve&sentinel_password=wr0ng")
    assert not wrong.available
    assert "does not let us in" in caplog.text
    assert not {"s3cret", "w0rd", "wr0ng"} & set(caplog.text.split())
    right, _ = await start(url + "?sentinel_username=eve&sentinel_password=w0rd")
    assert (await right.publish(draft())).seq == 1


@pytest.fixture
def secure_trio(tmp_path: Path) -> Iterator[SentinelTrio]:
    with running(SentinelTrio(tmp_path, make_certificate(tmp_path))) as trio:
        yield trio


async def test_tls_with_users_that_may_do_no_more_than_they_must(
    secure_trio: SentinelTrio, run: Run
) -> None:
    trio = secure_trio
    for server in trio.servers:
        server.command("ACL", "SETUSER", "bob", "on", ">s3cret", *rules("sentinel"))
    for sentinel in trio.sentinels:
        sentinel.command("ACL", "SETUSER", "eve", "on", ">w0rd", "-@all", "+sentinel")
    url = trio.url.replace("://", "://bob:s3cret@")
    url += "&sentinel_username=eve&sentinel_password=w0rd"
    redis = RedisSettings(url=url, timeout_seconds=3.0)
    broker, recorder = await run(RedisBroker(redis, BrokerSettings()))
    await broker.subscribe(TOPIC)
    assert (await broker.publish(draft("before", key="k"))).seq == 1
    await recorder.wait_for(1)
    old = trio.master()
    await until(lambda: old.has_replicated_to(trio.servers[1]))
    old.kill()
    await until(lambda: recorder.returns == 1, 90)
    assert (await broker.publish(draft("after"))).seq == 2
    await recorder.wait_for(2)
    assert [text_of(event) for event in recorder.events] == ["before", "after"]
