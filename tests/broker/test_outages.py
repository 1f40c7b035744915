"""What happens to the Redis broker when Redis does not do as it should."""

import asyncio
import contextlib
import gc
import itertools
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from chat_server.broker.redis import subscriber
from chat_server.broker.redis.broker import RedisBroker
from chat_server.protocol.errors import Unavailable
from chat_server.settings import BrokerSettings, RedisSettings

from ..rig.redis_server import RedisServer
from .helpers import TOPIC, Run, draft, text_of, until

Start = Callable[..., Any]

FROZEN_SECONDS = 2.0
"""What a broker waits for a server that is frozen: as long as a test lasts."""


@pytest.fixture
def start(own_redis: RedisServer, run: Run) -> Iterator[Start]:
    """Start brokers on a server that the test may harm."""

    def _start(url: str = "", timeout: float = 15.0, **settings: Any) -> Any:
        redis = RedisSettings(url=url or own_redis.url, timeout_seconds=timeout)
        return run(RedisBroker(redis, BrokerSettings(**settings)))

    yield _start
    own_redis.resume()


async def assert_away(broker: RedisBroker) -> None:
    """Check that everything fails, and at once: nothing waits until it is given up."""
    assert not broker.available
    began = time.monotonic()
    for awaitable in (
        broker.publish(draft()),
        broker.signal(TOPIC, b"{}"),
        broker.history(TOPIC, limit=1),
    ):
        with pytest.raises(Unavailable):
            await awaitable
    assert (await broker.health()).latency_seconds is None
    assert time.monotonic() - began < broker._timeout


async def test_a_killed_server_is_noticed_and_awaited(start: Start, own_redis: RedisServer) -> None:
    broker, recorder = await start()
    topics = [f"room:{number}" for number in range(1_100)]
    await asyncio.gather(*(broker.subscribe(topic) for topic in topics))
    before = await broker.publish(draft(topic="room:7"))
    await recorder.wait_for(1)

    own_redis.kill()
    await until(lambda: not broker.available)
    await assert_away(broker)
    with pytest.raises(Unavailable):
        await broker.subscribe("room:while-away")
    broker.unsubscribe("room:0")
    assert (recorder.losses, recorder.returns) == (1, 0)

    own_redis.start()
    await until(lambda: recorder.returns == 1)
    assert broker.available
    after = await broker.publish(draft("again", topic="room:7"))
    assert (after.seq, after.epoch != before.epoch) == (1, True)
    for topic in ("room:0", "room:1099", "room:while-away"):
        await broker.publish(draft(topic=topic))
    await recorder.wait_for(4)
    assert [event.topic for event in recorder.events[1:]] == [
        *("room:7", "room:1099", "room:while-away")
    ]
    assert (recorder.losses, recorder.returns) == (1, 1)


async def test_what_waits_when_the_server_dies_fails(start: Start, own_redis: RedisServer) -> None:
    broker, _ = await start(timeout=90.0)
    own_redis.pause()
    futures = [asyncio.ensure_future(broker.publish(draft())) for _ in range(1_000)]
    futures.append(asyncio.ensure_future(broker.subscribe(TOPIC)))
    futures.append(asyncio.ensure_future(broker.history(TOPIC, limit=1)))
    await asyncio.sleep(0)
    futures.append(asyncio.ensure_future(broker.publish(draft())))
    own_redis.kill()
    await asyncio.wait(futures)
    assert all(isinstance(future.exception(), Unavailable) for future in futures)


async def test_a_frozen_server_is_given_up_and_found_again(
    start: Start, own_redis: RedisServer
) -> None:
    broker, recorder = await start(timeout=FROZEN_SECONDS)
    await broker.subscribe(TOPIC)
    own_redis.pause()
    began = time.monotonic()
    with pytest.raises(Unavailable):
        await broker.publish(draft("in doubt"))
    assert 0.8 * FROZEN_SECONDS < time.monotonic() - began < 30
    await assert_away(broker)
    assert recorder.losses == 1
    # It stays away for several attempts to connect, which the kernel accepts in its stead.
    await asyncio.sleep(2.5 * FROZEN_SECONDS)
    await assert_away(broker)
    own_redis.resume()
    await until(lambda: recorder.returns == 1)
    place = await broker.publish(draft("fine"))
    await until(lambda: "fine" in map(text_of, recorder.events))
    # Redis ran what it had received, once at most.
    assert place.seq in (1, 2)
    assert (recorder.losses, recorder.returns) == (1, 1)


async def test_a_silent_server_is_noticed_without_any_traffic(
    start: Start, own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriber, "PING_SECONDS", 0.1)
    broker, recorder = await start(timeout=FROZEN_SECONDS)
    await asyncio.sleep(0.5)
    assert broker.available, "a server that answers is not given up"
    own_redis.pause()
    await until(lambda: not broker.available)
    own_redis.resume()
    await until(lambda: recorder.returns == 1)
    assert recorder.losses == 1


async def test_a_subscription_does_not_wait_for_ever(start: Start, own_redis: RedisServer) -> None:
    broker, _ = await start(timeout=FROZEN_SECONDS)
    own_redis.pause()
    began = time.monotonic()
    with pytest.raises(Unavailable):
        await broker.subscribe(TOPIC)
    assert time.monotonic() - began < 30


async def test_a_cut_subscriber_connection_is_made_again(
    start: Start, own_redis: RedisServer
) -> None:
    broker, recorder = await start()
    await broker.subscribe(TOPIC)
    await broker.publish(draft())
    await recorder.wait_for(1)
    assert own_redis.command("CLIENT", "KILL", "TYPE", "pubsub").startswith(b":1")
    await until(lambda: recorder.returns == 1)
    await broker.publish(draft())
    await recorder.wait_for(2)
    assert recorder.seqs() == [1, 2]
    assert recorder.losses == 1


async def test_publications_under_way_survive_a_cut_subscriber(
    start: Start, own_redis: RedisServer
) -> None:
    broker, _ = await start()
    own_redis.pause()
    futures = [asyncio.ensure_future(broker.publish(draft())) for _ in range(10)]
    await asyncio.sleep(0.05)
    broker._subscriber.abort()
    await until(lambda: not broker.available)
    own_redis.resume()
    places = await asyncio.gather(*futures)
    assert [place.seq for place in places] == list(range(1, 11))


async def test_all_connections_are_made_anew(start: Start) -> None:
    broker, recorder = await start()
    await broker.publish(draft())
    await broker.history(TOPIC, limit=1)
    before = [
        pipeline._connection for pipeline in broker._pipelines if pipeline._connection is not None
    ]
    broker._subscriber.abort()
    await until(lambda: recorder.returns == 1)
    await broker.publish(draft())
    await broker.history(TOPIC, limit=1)
    after = [
        pipeline._connection for pipeline in broker._pipelines if pipeline._connection is not None
    ]
    assert len(before) == len(after) == 2
    assert not set(before) & set(after), "they might lead to a server that was replaced"


async def test_a_cut_connection_is_a_reason_to_look(
    start: Start, own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriber, "PING_SECONDS", 30.0)
    broker, _ = await start(timeout=FROZEN_SECONDS)
    own_redis.pause()
    future = asyncio.ensure_future(broker.publish(draft()))
    await until(lambda: broker._publisher._connection is not None)
    await asyncio.sleep(0.05)
    connection = broker._publisher._connection
    connection.abort()
    with pytest.raises(Unavailable):
        await future
    assert broker.available, "one connection alone says little"
    began = time.monotonic()
    await until(lambda: not broker.available)
    assert time.monotonic() - began < subscriber.PING_SECONDS / 2


async def test_idle_connections_that_the_server_closes_are_made_again(
    start: Start, own_redis: RedisServer
) -> None:
    broker, recorder = await start()
    await broker.subscribe(TOPIC)
    await broker.publish(draft())
    await broker.history(TOPIC, limit=1)
    own_redis.command("CLIENT", "KILL", "TYPE", "normal")
    connections = [
        pipeline._connection for pipeline in broker._pipelines if pipeline._connection is not None
    ]
    await until(lambda: all(connection.dead for connection in connections))
    assert broker.available
    assert (await broker.publish(draft())).seq == 2
    assert len((await broker.history(TOPIC, limit=9)).events) == 2
    assert recorder.losses == 0


async def test_forgotten_scripts_are_loaded_again(start: Start, own_redis: RedisServer) -> None:
    broker, recorder = await start()
    await broker.subscribe(TOPIC)
    for number in itertools.count():
        futures = [broker.publish(draft(f"{number}-{n}")) for n in range(50)]
        own_redis.command("SCRIPT", "FLUSH")
        places = await asyncio.gather(*futures)
        page = await broker.history(TOPIC, limit=1)
        assert [place.seq for place in places] == list(range(number * 50 + 1, number * 50 + 51))
        assert page.seq == number * 50 + 50
        if number == 5:
            break
    await recorder.wait_for(300)
    assert [text_of(event) for event in recorder.events] == [
        f"{number}-{n}" for number in range(6) for n in range(50)
    ]
    assert (recorder.losses, broker.available) == (0, True)


async def test_wiped_data_is_another_epoch(start: Start, own_redis: RedisServer) -> None:
    broker, _ = await start()
    first = await broker.publish(draft(key="k"))
    own_redis.command("FLUSHALL")
    assert (await broker.begin_epoch(TOPIC, first.epoch)).epoch == "", "there is none to end"
    second = await broker.publish(draft(key="k"))
    assert (second.seq, second.duplicate) == (1, False)
    assert second.epoch != first.epoch


async def test_a_log_without_its_position_is_not_continued(
    start: Start, own_redis: RedisServer
) -> None:
    broker, _ = await start()
    for _ in range(5):
        await broker.publish(draft())
    own_redis.command("DEL", f"chat:{{{TOPIC}}}:meta")
    assert (await broker.publish(draft())).seq == 1
    assert [event.seq for event in (await broker.history(TOPIC, limit=9)).events] == [1]
    own_redis.command("DEL", f"chat:{{{TOPIC}}}:meta")
    assert (await broker.history(TOPIC, limit=9)).events == []


@pytest.mark.parametrize(
    "payload",
    [
        *(b"", b" ", b"\xff\xfe", b"{}", b"1", b"1 e 1 message", b"2 e 1 message {}"),
        *(b"1 e x message {}", b"1 e 1 unheard-of {}", b"1 \xff 1 message {}", b"1  -0 x {}"),
    ],
)
async def test_what_others_write_to_a_channel_is_dropped(
    start: Start, own_redis: RedisServer, payload: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    broker, recorder = await start()
    await broker.subscribe(TOPIC)
    for _ in range(3):
        own_redis.command("PUBLISH", f"chat:{{{TOPIC}}}", payload)
    await broker.publish(draft())
    await recorder.wait_for(1)
    assert recorder.seqs() == [1]
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1, "said once, not once per message"
    assert broker.available


async def test_big_numbers_stay_whole(start: Start, own_redis: RedisServer) -> None:
    broker, recorder = await start()
    await broker.subscribe(TOPIC)
    await broker.history(TOPIC, limit=0)
    own_redis.command("HSET", f"chat:{{{TOPIC}}}:meta", "seq", str(2**53 - 3))
    places = [await broker.publish(draft(key=str(n % 2))) for n in range(3)]
    assert [place.seq for place in places] == [2**53 - 2, 2**53 - 1, 2**53 - 2]
    page = await broker.history(TOPIC, after=2**53 - 2, limit=5)
    assert [event.seq for event in page.events] == [2**53 - 1]
    assert b'"seq":9007199254740991,"at":' in page.events[0].payload
    assert page.seq == 2**53 - 1
    await recorder.wait_for(2)
    assert recorder.seqs() == [2**53 - 2, 2**53 - 1]


async def test_a_server_without_memory_refuses_but_is_there(
    start: Start, own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    broker, recorder = await start()
    await broker.publish(draft())
    own_redis.command("CONFIG", "SET", "maxmemory", "1")
    for _ in range(5):
        with pytest.raises(Unavailable):
            await broker.publish(draft())
    assert caplog.text.count("Redis is full") == 1
    assert len((await broker.history(TOPIC, limit=5)).events) == 1
    assert broker.available
    own_redis.command("CONFIG", "SET", "maxmemory", "0")
    assert (await broker.publish(draft())).seq == 2, "a refused publication takes no seq"
    assert recorder.losses == 0


async def test_a_master_that_becomes_a_replica_is_left(
    start: Start, own_redis: RedisServer
) -> None:
    broker, recorder = await start()
    own_redis.command("REPLICAOF", "127.0.0.1", "1")
    with pytest.raises(Unavailable):
        await broker.publish(draft())
    await assert_away(broker)
    await until(lambda: recorder.returns == 1)
    assert broker.status == "readonly", "there is no other server to go to"
    own_redis.command("REPLICAOF", "NO", "ONE")
    await until(lambda: broker.status == "ok")
    assert (await broker.publish(draft())).seq == 1
    assert recorder.losses == 1


async def test_a_server_without_free_clients_is_awaited(
    start: Start, own_redis: RedisServer
) -> None:
    own_redis.command("CONFIG", "SET", "maxclients", "2")
    broker, recorder = await start()
    assert broker.available
    with pytest.raises(Unavailable):
        await broker.history(TOPIC, limit=1)
    # One connection too few is no reason to drop those that work.
    assert (await broker.publish(draft())).seq == 1
    assert recorder.losses == 0


async def test_an_absent_server_is_awaited_from_the_start(
    start: Start, own_redis: RedisServer
) -> None:
    own_redis.kill()
    broker, recorder = await start()
    await assert_away(broker)
    with pytest.raises(Unavailable):
        await broker.subscribe(TOPIC)
    assert (recorder.losses, recorder.returns) == (1, 0)
    own_redis.start()
    await until(lambda: recorder.returns == 1)
    await broker.publish(draft())
    await recorder.wait_for(1)


async def test_a_frozen_server_does_not_hold_up_the_start(
    start: Start, own_redis: RedisServer
) -> None:
    own_redis.pause()
    began = time.monotonic()
    broker, recorder = await start(timeout=FROZEN_SECONDS)
    assert time.monotonic() - began < 30
    await assert_away(broker)
    assert recorder.losses == 1
    own_redis.resume()
    await until(lambda: recorder.returns == 1)


async def test_stopping_does_not_wait_for_a_frozen_server(
    start: Start, own_redis: RedisServer
) -> None:
    broker, _ = await start(timeout=90.0)
    own_redis.pause()
    # More than the kernel takes in Redis' stead: closing in good order would wait for the rest.
    futures = [asyncio.ensure_future(broker.publish(draft("x" * 30_000_000)))]
    futures += [asyncio.ensure_future(broker.publish(draft())) for _ in range(500)]
    futures.append(asyncio.ensure_future(broker.history(TOPIC, limit=1)))
    futures.append(asyncio.ensure_future(broker.subscribe(TOPIC)))
    await asyncio.sleep(0.05)
    began = time.monotonic()
    await broker.stop()
    assert time.monotonic() - began < 45
    await asyncio.wait(futures)
    assert all(isinstance(future.exception(), Unavailable) for future in futures)


async def test_stopping_at_any_moment_of_a_reconnect(start: Start) -> None:
    for turns in range(30):
        broker, recorder = await start()
        futures = [
            asyncio.ensure_future(broker.publish(draft())),
            asyncio.ensure_future(broker.subscribe(TOPIC)),
            asyncio.ensure_future(broker.history(TOPIC, limit=1)),
        ]
        broker._subscriber.abort()
        for _ in range(turns):
            await asyncio.sleep(0)
        await broker.stop()
        await asyncio.wait(futures)
        assert all(isinstance(future.exception(), Unavailable | None) for future in futures)
        assert recorder.losses <= 1
    # A connection that nobody closed warns when it is collected.
    gc.collect()


async def test_too_many_waiting_publications_are_refused(
    start: Start, own_redis: RedisServer
) -> None:
    broker, _ = await start(max_pending=100)
    own_redis.pause()
    futures = [asyncio.ensure_future(broker.publish(draft())) for _ in range(100)]
    for _ in range(3):
        with pytest.raises(Unavailable) as caught:
            await broker.publish(draft())
        assert caught.value.retry_in_ms
    assert broker.available
    own_redis.resume()
    assert [(await future).seq for future in futures] == list(range(1, 101))
    assert (await broker.publish(draft())).seq == 101


async def test_a_slow_read_is_nobody_elses_trouble(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    broker, recorder = await start()
    await broker.subscribe(TOPIC)
    await broker.publish(draft())
    for pipeline in broker._readers:
        pipeline._timeout = 1e-9
    for _ in range(5):
        with pytest.raises(Unavailable):
            await broker.history(TOPIC, limit=9)
        assert broker.available
        await broker.publish(draft())
    assert caplog.text.count("to read") == 1
    for pipeline in broker._readers:
        pipeline._timeout = 15.0
    assert len((await broker.history(TOPIC, limit=9)).events) == 6
    await recorder.wait_for(6)
    assert recorder.losses == 0


async def test_what_others_write_into_a_topic_is_said_once(
    start: Start, own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    broker, _ = await start()
    names = {"string": "room:1", "seqless": "room:2", "epoch": "room:3", "words": "room:4"}
    metas = {kind: f"chat:{{{topic}}}:meta" for kind, topic in names.items()}
    own_redis.command("SET", metas["string"], "x")
    own_redis.command("HSET", metas["seqless"], "epoch", "e")
    own_redis.command("HSET", metas["epoch"], "epoch", b"\xff", "seq", "1")
    own_redis.command("HSET", metas["words"], "epoch", "e", "seq", "many")
    for _ in range(20):
        for topic in names.values():
            for attempt in (broker.history(topic, limit=9), broker.publish(draft(topic=topic))):
                with contextlib.suppress(Unavailable):
                    await attempt
    assert "Traceback" not in caplog.text
    assert caplog.text.count("topic room:1: another program wrote to its keys") == 1
    assert 2 <= len(caplog.records) <= 3
    assert broker.status == "ok"


async def test_a_foreign_entry_is_left_out(start: Start, own_redis: RedisServer) -> None:
    broker, _ = await start()
    await broker.publish(draft())
    own_redis.command("ZADD", f"chat:{{{TOPIC}}}:messages", "1.5", "half an entry")
    await broker.publish(draft())
    page = await broker.history(TOPIC, limit=9)
    assert [event.seq for event in page.events] == [1, 2]
