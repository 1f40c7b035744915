"""What Redis may lose of presence, and how workers and watchers come to agree again."""

import pytest

from chat_server.broker.redis.broker import RedisBroker
from chat_server.protocol.errors import Unavailable
from chat_server.settings import BrokerSettings, RedisSettings

from ..rig.redis_server import RedisServer, patient
from .helpers import TOPIC, Run, until
from .presence import Lease, changes, shown, told

KEYS = ("users", "who", "leaving", "leases", "lease:one", "lease:two")


@pytest.fixture
def settings(own_redis: RedisServer) -> RedisSettings:
    return patient(own_redis.url)


@pytest.mark.parametrize("lost", KEYS)
async def test_a_key_that_is_evicted_takes_the_others_with_it(
    own_redis: RedisServer, settings: RedisSettings, run: Run, lost: str
) -> None:
    """With `maxmemory` a Redis that is set to evict keys does so one by one."""
    broker, recorder = await run(RedisBroker(settings, BrokerSettings()))
    await broker.subscribe(TOPIC)
    one, two = Lease(broker, "one", grace=60.0), Lease(broker, "two", grace=60.0)
    await one.write(ada=1, bob=1)
    await two.write(ada=1)
    await one.write(bob=0)
    assert own_redis.run("DEL", f"chat:{{{TOPIC}}}:presence:{lost}") == 1
    # Each finds out by its next write, or has nothing to find out.
    for lease, users in ((one, {"ada": 1}), (two, {"ada": 1}), (one, {"ada": 1})):
        if not (await lease.write()).known:
            before, lease.name = lease.name, f"{lease.name}-again"
            lease.number = lease.confirmed = 0
            await lease.write(users, again=True)
            assert not await broker.presence.end(TOPIC, before, dead=False)
    page = await broker.presence.page(TOPIC, limit=9)
    assert shown(page) == {"ada": 2}
    assert (page.count, page.connections) == (1, 2)
    await until(lambda: any(each.more for each in changes(recorder)))
    assert set(own_redis.run("KEYS", "*presence*")) == {
        f"chat:{{{TOPIC}}}:presence:{name}".encode()
        for name in (*KEYS[:4], f"lease:{one.name}", f"lease:{two.name}")
    }


async def test_nothing_is_left_of_those_who_have_gone(
    own_redis: RedisServer, settings: RedisSettings, run: Run
) -> None:
    broker, recorder = await run(RedisBroker(settings, BrokerSettings()))
    await broker.subscribe(TOPIC)
    lease = Lease(broker, "one", grace=0.001)
    await lease.write(ada=1)
    for key in own_redis.run("KEYS", "*presence*"):
        assert 100_000 < own_redis.run("PTTL", key) <= 151_000, "it expires if nobody is left"
    await lease.write(ada=0)

    async def empty() -> bool:
        attended = await broker.presence.settle(TOPIC)
        return bool(attended.count == 0)

    while not await empty():
        pass
    assert own_redis.run("KEYS", "*presence*") == []
    await until(lambda: told(recorder) == ["+ada", "-ada"])


async def test_a_full_redis_takes_nobody_and_forgets_nobody(
    own_redis: RedisServer, settings: RedisSettings, run: Run
) -> None:
    broker, _ = await run(RedisBroker(settings, BrokerSettings()))
    lease = Lease(broker, "one")
    await lease.write(ada=1)
    own_redis.run("CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(Unavailable):
        await lease.write(bob=1)
    with pytest.raises(Unavailable):
        await Lease(broker, "two").write(cat=1)  # the first write of a worker to this topic
    with pytest.raises(Unavailable):
        await Lease(broker, "two", topic="room:new").write(cat=1)
    assert shown(await broker.presence.page(TOPIC, limit=9)) == {"ada": 1}
    own_redis.run("CONFIG", "SET", "maxmemory", "0")
    assert (await lease.write(bob=1)).count == 2


async def test_scripts_that_were_flushed_are_loaded_again(
    own_redis: RedisServer, settings: RedisSettings, run: Run
) -> None:
    broker, _ = await run(RedisBroker(settings, BrokerSettings()))
    lease = Lease(broker, "one")
    await lease.write(ada=1)
    own_redis.run("SCRIPT", "FLUSH")
    assert (await lease.write(bob=1)).count == 2
