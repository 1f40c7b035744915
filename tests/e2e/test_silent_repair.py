"""Nobody publishes after a fault: each worker has to find out by itself what it missed.

An event that comes later would show the hole, so that a worker which repairs nothing when Redis
returns would pass every other test.

Each `Fault` takes Redis away from the workers by `strike` and gives it back by `heal`. In between
the test stores events past the workers. A `Story` (see test_redis_faults.py) holds what a
subscriber got.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from chat_server.broker.redis.broker import RedisBroker
from chat_server.broker.redis.cluster import ClusterBroker
from chat_server.realtime.ports import Broker
from chat_server.settings import BrokerSettings
from tests.broker.helpers import Recorder, draft
from tests.rig.proxy import RedisProxy
from tests.rig.redis_cluster import RedisCluster
from tests.rig.redis_sentinel import SERVICE, SentinelTrio
from tests.rig.redis_server import KEPT, RedisServer, patient, running
from tests.rig.server import ServerProcess
from tests.rig.waiting import SECONDS, until

from .cluster import one_on_each, until_health
from .test_redis_faults import Story

TOPIC = "room:silent"
MISSED = ["missed 1", "missed 2", "missed 3"]
ENVIRON = {
    "CHAT_AUTH__AUDIENCE": "chat",
    "CHAT_LOG__LEVEL": "INFO",
    # A link that stands and says nothing is found out soon.
    "CHAT_REDIS__CANARY_SECONDS": "0.5",
    "CHAT_REDIS__TIMEOUT_SECONDS": "2",
}
NOWHERE = 1
"""A port on which nobody listens."""


class Fault:
    """Takes Redis away from the workers and gives it back; others reach it in between.

    Args:
        workers_url: by which the workers know Redis.
        url: by which others do.

    Attributes:
        status: what the workers say of themselves meanwhile.
    """

    status = "unavailable"

    def __init__(self, workers_url: str, url: str) -> None:
        self.workers_url = workers_url
        self.url = url

    async def strike(self) -> None:
        """Begin: from here on no worker hears anything."""
        raise NotImplementedError

    async def open_to_others(self) -> None:
        """Once the workers have noticed, let others store something, if they cannot yet."""

    async def go_on(self) -> None:
        """Do what is to happen between two events that the workers miss."""

    async def heal(self) -> None:
        """Let the workers reach Redis."""
        raise NotImplementedError


class Cut(Fault):
    """The connections of the workers are cut, and new ones refused."""

    def __init__(self, redis: RedisServer, proxy: RedisProxy) -> None:
        super().__init__(proxy.url, redis.url)
        self.redis = redis
        self.proxy = proxy

    async def strike(self) -> None:
        self.proxy.target = NOWHERE
        self.proxy.cut()

    async def heal(self) -> None:
        self.proxy.target = self.redis.port


class Kicked(Cut):
    """Redis drops its subscribers, as it does with those that read too slowly."""

    async def strike(self) -> None:
        self.proxy.target = NOWHERE
        kill = ("CLIENT", "KILL", "TYPE", "pubsub")
        assert await asyncio.to_thread(self.redis.command, *kill) == b":2\r\n"


class Frozen(Cut):
    """Redis stands still until the workers give it up."""

    async def strike(self) -> None:
        self.proxy.target = NOWHERE
        self.redis.pause()

    async def open_to_others(self) -> None:
        self.redis.resume()


class Restarted(Cut):
    """Redis dies, and comes back with all it had."""

    async def strike(self) -> None:
        self.proxy.target = NOWHERE
        await asyncio.to_thread(self.redis.kill)

    async def open_to_others(self) -> None:
        await asyncio.to_thread(self.redis.start)


class Muted(Cut):
    """The connections stand and answer, but bring no messages."""

    status = "deaf"

    async def strike(self) -> None:
        self.proxy.muted = True

    async def heal(self) -> None:
        self.proxy.muted = False


class FailedOver(Fault):
    """The master dies, and the workers cannot ask the sentinels who is the next one."""

    def __init__(self, trio: SentinelTrio, proxies: list[RedisProxy]) -> None:
        hosts = ",".join(proxy.url.split("/")[2] for proxy in proxies)
        super().__init__(f"redis+sentinel://{hosts}/{SERVICE}", trio.url)
        self.trio = trio
        self.proxies = proxies

    async def strike(self) -> None:
        for proxy in self.proxies:
            proxy.target = NOWHERE
            proxy.cut()
        old, replica = self.trio.servers
        await until(lambda: old.has_replicated_to(replica))
        old.kill()

    async def heal(self) -> None:
        assert self.trio.master() is self.trio.servers[1]
        for proxy, sentinel in zip(self.proxies, self.trio.sentinels, strict=True):
            proxy.target = sentinel.port


class SlotMoved(Fault):
    """The slot moves while no node lets the workers in: they miss what is before and after."""

    USER = "workers"
    PASSWORD = "secret"

    def __init__(self, cluster: RedisCluster) -> None:
        scheme, _, hosts = cluster.url.partition("://")
        super().__init__(f"{scheme}://{self.USER}:{self.PASSWORD}@{hosts}", cluster.url)
        self.cluster = cluster
        self.source = cluster.owner(TOPIC)
        self.target = next(node for node in cluster.nodes if node is not self.source)
        self._allow("on", f">{self.PASSWORD}", "~*", "&*", "+@all")

    def _allow(self, *rules: str) -> None:
        for node in self.cluster.nodes:
            self.cluster.run(node, "ACL", "SETUSER", self.USER, *rules)

    async def strike(self) -> None:
        await asyncio.to_thread(self._shut_out)

    def _shut_out(self) -> None:
        self._allow("off")
        for node in self.cluster.nodes:
            assert self.cluster.run(node, "CLIENT", "KILL", "USER", self.USER)

    async def go_on(self) -> None:
        await asyncio.to_thread(self.cluster.begin_move, TOPIC, self.target)
        await asyncio.to_thread(self.cluster.end_move, TOPIC, self.target)
        assert self.cluster.owner(TOPIC) is self.target

    async def heal(self) -> None:
        await asyncio.to_thread(self._allow, "on")


Setting = Callable[[Path], AbstractAsyncContextManager[Fault]]


def one_server(kind: type[Cut]) -> Setting:
    @asynccontextmanager
    async def setting(folder: Path) -> AsyncIterator[Fault]:
        with running(RedisServer(folder, *KEPT)) as redis:
            async with RedisProxy(redis.port) as proxy:
                yield kind(redis, proxy)

    return setting


@asynccontextmanager
async def sentinels(folder: Path) -> AsyncIterator[Fault]:
    with running(SentinelTrio(folder)) as trio:
        one, two, three = (RedisProxy(sentinel.port) for sentinel in trio.sentinels)
        async with one, two, three:
            yield FailedOver(trio, [one, two, three])


@asynccontextmanager
async def cluster(folder: Path) -> AsyncIterator[Fault]:
    with running(RedisCluster(folder)) as started:
        yield SlotMoved(started)


@pytest.mark.parametrize(
    "setting",
    [
        pytest.param(one_server(Cut), id="cut"),
        pytest.param(one_server(Kicked), id="kicked"),
        pytest.param(one_server(Frozen), id="frozen"),
        pytest.param(one_server(Restarted), id="restarted"),
        pytest.param(one_server(Muted), id="deaf"),
        pytest.param(sentinels, id="failed-over"),
        pytest.param(cluster, id="slot-moved"),
    ],
)
async def test_workers_repair_without_another_event(setting: Setting, tmp_path: Path) -> None:
    async with setting(tmp_path) as fault:
        server = ServerProcess("--workers", "2", "--redis-url", fault.workers_url, environ=ENVIRON)
        await asyncio.to_thread(server.__enter__)
        try:
            await _miss_and_repair(server, fault)
        finally:
            await asyncio.to_thread(server.__exit__, None, None, None)


async def _miss_and_repair(server: ServerProcess, fault: Fault) -> None:
    one, two = await one_on_each(server)
    async with one, two:
        stories = [await Story.begin(client, TOPIC) for client in (one, two)]
        await one.ok(type="publish", topic=TOPIC, data="heard")
        for story in stories:
            await story.follow("heard")

        await fault.strike()
        await until_health(server, fault.status)
        await fault.open_to_others()
        await store_past_the_workers(fault)
        await fault.heal()
        async with asyncio.timeout(SECONDS):
            for story in stories:
                await story.follow(MISSED[-1])

        await until_health(server, "ok")
        await two.ok(type="publish", topic=TOPIC, data="heard again")
        for story in stories:
            await story.follow("heard again")
            assert list(story.seen.values()) == ["heard", *MISSED, "heard again"]
            assert story.gaps == []


async def store_past_the_workers(fault: Fault) -> None:
    """Publish as a worker of another machine does, once it can."""
    settings, broker_settings = patient(fault.url), BrokerSettings()
    clustered = fault.url.startswith("redis+cluster:")
    broker: Broker = (ClusterBroker if clustered else RedisBroker)(settings, broker_settings)
    await broker.start(Recorder())
    try:
        await until(lambda: broker.accepts(TOPIC))
        for text in MISSED:
            await broker.publish(draft(text, topic=TOPIC))
            if text is MISSED[0]:
                await fault.go_on()
    finally:
        await broker.stop()
