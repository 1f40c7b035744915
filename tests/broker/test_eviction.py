"""A Redis that may evict keys is warned of, because what it evicts is lost untold."""

import pytest

from chat_server.broker.redis.broker import RedisBroker
from chat_server.broker.redis.cluster import ClusterBroker
from chat_server.settings import BrokerSettings

from ..rig.redis_cluster import RedisCluster
from ..rig.redis_server import RedisServer, patient
from .helpers import Run, until

WARNING = "maxmemory-policy is {}; set it to noeviction"


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the warnings of eviction so far."""
    return [text for text in map(str, caplog.messages) if "maxmemory-policy" in text]


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
async def test_a_policy_that_evicts_is_told_of_at_the_start(
    own_redis: RedisServer, run: Run, caplog: pytest.LogCaptureFixture, policy: str
) -> None:
    own_redis.run("CONFIG", "SET", "maxmemory-policy", policy)
    broker, _ = await run(RedisBroker(patient(own_redis.url), BrokerSettings()))
    await until(lambda: bool(told(caplog)))
    [warning] = told(caplog)
    assert warning.endswith(WARNING.format(policy))
    assert broker.status == "ok"


async def test_a_redis_that_evicts_nothing_is_not_told_of_but_one_that_takes_its_place_is(
    own_redis: RedisServer, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    settings = patient(own_redis.url, canary_seconds=0.05)
    _, recorder = await run(RedisBroker(settings, BrokerSettings()))
    own_redis.configure("--maxmemory-policy", "allkeys-random")
    own_redis.restart()
    await until(lambda: recorder.returns == 1)
    await until(lambda: bool(told(caplog)))
    [warning] = told(caplog)
    assert warning.endswith(WARNING.format("allkeys-random"))


async def test_an_acl_may_hide_the_policy(
    own_redis: RedisServer, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    own_redis.run("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    own_redis.run("ACL", "SETUSER", "default", "-info")
    settings = patient(own_redis.url, canary_seconds=0.05)
    broker, _ = await run(RedisBroker(settings, BrokerSettings()))
    await until(lambda: denials(own_redis) > 0)
    await broker._probe.check()
    assert broker.status == "ok"
    assert told(caplog) == []


def denials(server: RedisServer) -> int:
    """Return how often INFO was denied."""
    return sum(entry[entry.index(b"object") + 1] == b"info" for entry in server.run("ACL", "LOG"))


async def test_a_node_of_a_cluster_is_told_of(
    redis_cluster: RedisCluster, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    node = redis_cluster.nodes[0]
    node.run("CONFIG", "SET", "maxmemory-policy", "allkeys-lfu")
    try:
        settings = patient(redis_cluster.url)
        await run(ClusterBroker(settings, BrokerSettings()))
        await until(lambda: bool(told(caplog)))
    finally:
        node.run("CONFIG", "SET", "maxmemory-policy", "noeviction")
    assert told(caplog)[0].endswith(WARNING.format("allkeys-lfu"))
