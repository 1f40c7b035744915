"""How long Redis keeps the position of a topic that nothing was published to."""

import pytest

from chat_server.broker.redis import PASSING_MS, RedisBroker
from chat_server.settings import BrokerSettings, RedisSettings

from ..support.redis_server import RedisServer
from .helpers import TOPIC, Run, draft

LONG_MS = 10 * PASSING_MS


@pytest.fixture
async def brokers(own_redis: RedisServer, run: Run) -> list[RedisBroker]:
    """Brokers of two workers, which keep positions for longer than a mere read does."""
    redis = RedisSettings(url=own_redis.url)
    settings = BrokerSettings(position_seconds=LONG_MS / 1_000)
    return [(await run(RedisBroker(redis, settings)))[0] for _ in range(2)]


def kept_ms(redis: RedisServer, topic: str = TOPIC) -> int:
    reply = redis.command("PTTL", f"chat:{{{topic}}}:meta")
    return int(reply.strip().lstrip(b":"))


async def test_reading_alone_keeps_it_for_a_moment(
    own_redis: RedisServer, brokers: list[RedisBroker]
) -> None:
    one, other = brokers
    found = await one.read(TOPIC, limit=50, newest=True)
    assert 0 < kept_ms(own_redis) <= PASSING_MS
    assert (await other.read(TOPIC, limit=0)).epoch == found.epoch
    assert kept_ms(own_redis) <= PASSING_MS


@pytest.mark.parametrize("first", ["read", "subscribe"])
async def test_a_subscription_keeps_it_whoever_else_reads(
    own_redis: RedisServer, brokers: list[RedisBroker], first: str
) -> None:
    one, other = brokers
    if first == "read":
        await other.read(TOPIC, limit=50)
    await one.subscribe(TOPIC)
    await one.read(TOPIC, limit=1, newest=True)
    await other.read(TOPIC, limit=50)
    assert LONG_MS / 2 < kept_ms(own_redis) <= LONG_MS


async def test_a_publication_keeps_it_whoever_reads(
    own_redis: RedisServer, brokers: list[RedisBroker]
) -> None:
    one, other = brokers
    await one.read(TOPIC, limit=50)
    await one.publish(draft())
    await other.read(TOPIC, limit=50)
    assert kept_ms(own_redis) > LONG_MS / 2


async def test_a_subscriber_does_not_shorten_what_history_needs(
    own_redis: RedisServer, brokers: list[RedisBroker]
) -> None:
    one, _ = brokers
    await one.publish(draft())
    before = kept_ms(own_redis)
    assert before > 2 * LONG_MS, "its history is kept for longer"
    await one.subscribe(TOPIC)
    await one.read(TOPIC, limit=1, newest=True)
    assert kept_ms(own_redis) > 2 * LONG_MS
