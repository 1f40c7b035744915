"""How long Redis keeps what a topic has: never shorter than asked, and never for good."""

import random
import time

import pytest

from chat_server.broker.redis.broker import RedisBroker
from chat_server.events import Retention
from chat_server.settings import BrokerSettings

from ..rig.redis_server import RedisServer, patient
from ..rig.waiting import until
from .helpers import TOPIC, Run
from .test_changes import append, appended, delete, edit, react, say

KEPT = Retention(3, 640.0)
POSITION = 6_400.0


@pytest.fixture
def began_at() -> float:
    """When the test began: no key was given its lifetime before."""
    return time.monotonic()


@pytest.fixture
async def broker(own_redis: RedisServer, run: Run) -> RedisBroker:
    redis = patient(own_redis.url)
    settings = BrokerSettings(position_seconds=POSITION)
    broker = RedisBroker(redis, settings)
    await run(broker)
    return broker


def lifetimes(redis: RedisServer) -> dict[str, int]:
    """Return for how many ms each key of the topic lives on; -1 for good."""
    names = ("meta", "messages", "changes", "state", "authors")
    keys = {name: f"chat:{{{TOPIC}}}:{name}" for name in names}
    return {name: redis.run("PTTL", key) for name, key in keys.items() if redis.run("EXISTS", key)}


def check(redis: RedisServer, began_at: float, retention: Retention = KEPT) -> None:
    for name, left in lifetimes(redis).items():
        lifetime = 1_000 * (POSITION if name == "meta" else retention.seconds)
        # A lifetime is renewed only when a 64th of it has passed.
        slack = 1_000 * retention.seconds / 64
        passed = 1_000 * (time.monotonic() - began_at)
        assert lifetime - passed - 1 <= left <= lifetime + slack + 1, name


@pytest.mark.parametrize("seed", range(5))
async def test_every_key_lives_as_long_as_asked_after_each_event(
    own_redis: RedisServer, broker: RedisBroker, began_at: float, seed: int
) -> None:
    chance = random.Random(seed)
    seqs = [await say(broker, retention=KEPT)]
    for _ in range(60):
        target = chance.choice(seqs[-3:])
        match chance.choice(["say", "edit", "react", "append", "delete", "unread", "evict"]):
            case "say":
                seqs.append(await say(broker, retention=KEPT))
            case "edit":
                await broker.change(edit(target, "new", retention=KEPT))
            case "react":
                remove = chance.random() < 0.5
                await broker.change(react(target, remove=remove, retention=KEPT))
            case "append":
                await appended(broker, append(target, "more", retention=KEPT))
            case "delete":
                await broker.change(delete(target, retention=KEPT))
            case "unread":
                await broker.cursors.unread([TOPIC], "bob")
            case _:
                own_redis.run("DEL", f"chat:{{{TOPIC}}}:{chance.choice(['state', 'changes'])}")
        check(own_redis, began_at)


async def test_a_lifetime_is_renewed_before_it_is_shorter_than_asked(
    own_redis: RedisServer, broker: RedisBroker, began_at: float
) -> None:
    key = f"chat:{{{TOPIC}}}:messages"
    await say(broker, retention=KEPT)
    first = own_redis.run("PEXPIRETIME", key)
    await say(broker, retention=KEPT)
    assert own_redis.run("PEXPIRETIME", key) == first, "nothing to renew"
    brief = Retention(3, 1.28)
    await say(broker, retention=brief)
    expiry = own_redis.run("PEXPIRETIME", key)
    assert expiry < first, "the setting was changed"
    await until(lambda: own_redis.run("PTTL", key) < 1_270)
    await say(broker, retention=brief)
    assert own_redis.run("PEXPIRETIME", key) > expiry
    await say(broker, retention=KEPT)
    check(own_redis, began_at)


async def test_a_history_that_is_switched_on_again_has_its_lifetime(
    own_redis: RedisServer, broker: RedisBroker, began_at: float
) -> None:
    await say(broker, retention=KEPT)
    await say(broker, retention=Retention(0, 640.0))
    assert set(lifetimes(own_redis)) == {"meta"}
    check(own_redis, began_at)
    await say(broker, retention=KEPT)
    assert set(lifetimes(own_redis)) == {"meta", "messages"}
    check(own_redis, began_at)
