"""How long Redis keeps the position of a topic that nothing was published to."""

import asyncio

import pytest

from chat_server.broker.redis import prolonging
from chat_server.broker.redis.broker import RedisBroker
from chat_server.broker.redis.storage import PASSING_MS
from chat_server.settings import BrokerSettings

from ..rig.redis_server import RedisServer, patient
from .helpers import TOPIC, Run, draft, until

LONG_MS = 10 * PASSING_MS


@pytest.fixture
async def brokers(own_redis: RedisServer, run: Run) -> list[RedisBroker]:
    """Brokers of two workers, which keep positions for longer than a mere read does."""
    redis = patient(own_redis.url)
    settings = BrokerSettings(position_seconds=LONG_MS / 1_000)
    return [(await run(RedisBroker(redis, settings)))[0] for _ in range(2)]


def kept_ms(redis: RedisServer, topic: str = TOPIC) -> int:
    reply = redis.command("PTTL", f"chat:{{{topic}}}:meta")
    return int(reply.strip().lstrip(b":"))


async def test_reading_alone_keeps_it_for_a_moment(
    own_redis: RedisServer, brokers: list[RedisBroker]
) -> None:
    one, other = brokers
    page = await one.history(TOPIC, limit=50, newest=True)
    assert 0 < kept_ms(own_redis) <= PASSING_MS
    assert (await other.history(TOPIC, limit=0)).epoch == page.epoch
    assert kept_ms(own_redis) <= PASSING_MS


async def test_a_subscription_prolongs_it_until_there_is_an_event(
    own_redis: RedisServer, brokers: list[RedisBroker], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = brokers
    await one.subscribe(TOPIC)
    epoch = (await one.history(TOPIC, limit=1, newest=True)).epoch
    assert 0 < kept_ms(own_redis) <= PASSING_MS, "anyone may subscribe to what nobody uses"
    monkeypatch.setattr(prolonging, "PROLONG_SECONDS", 0.05)
    for broker in brokers:
        broker._tasks.append(asyncio.create_task(broker._prolonging.run()))
    for _ in range(3):
        own_redis.command("PEXPIRE", f"chat:{{{TOPIC}}}:meta", "30000")
        await until(lambda: kept_ms(own_redis) > 30_000)
    assert (await other.history(TOPIC, limit=0)).epoch == epoch
    one.unsubscribe(TOPIC)
    await until(lambda: not one._prolonging._unused)
    own_redis.command("PEXPIRE", f"chat:{{{TOPIC}}}:meta", "30000")
    await asyncio.sleep(0.3)
    assert kept_ms(own_redis) <= 30_000


async def test_an_event_ends_the_prolonging(
    own_redis: RedisServer, brokers: list[RedisBroker], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = brokers
    await one.subscribe(TOPIC)
    await one.history(TOPIC, limit=1, newest=True)
    await one.publish(draft())
    monkeypatch.setattr(prolonging, "PROLONG_SECONDS", 0.05)
    one._tasks.append(asyncio.create_task(one._prolonging.run()))
    await until(lambda: not one._prolonging._unused)
    assert kept_ms(own_redis) > LONG_MS


async def test_a_publication_keeps_it_whoever_reads(
    own_redis: RedisServer, brokers: list[RedisBroker]
) -> None:
    one, other = brokers
    await one.history(TOPIC, limit=50)
    await one.publish(draft())
    await other.history(TOPIC, limit=50)
    assert kept_ms(own_redis) > LONG_MS / 2


async def test_a_subscriber_does_not_shorten_what_history_needs(
    own_redis: RedisServer, brokers: list[RedisBroker]
) -> None:
    one, _ = brokers
    await one.publish(draft())
    before = kept_ms(own_redis)
    assert before > 2 * LONG_MS, "its history is kept for longer"
    await one.subscribe(TOPIC)
    await one.history(TOPIC, limit=1, newest=True)
    assert kept_ms(own_redis) > 2 * LONG_MS
