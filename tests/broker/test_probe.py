"""A broker that hears nothing notices, whatever its connections look like."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from redis.exceptions import RedisError

from chat_server.broker.common import GuardedListener
from chat_server.broker.redis.broker import RedisBroker
from chat_server.broker.redis.pipeline import Pipeline, pack
from chat_server.broker.redis.probe import Deaf, PubSubProbe
from chat_server.broker.redis.refusals import Refusal
from chat_server.broker.redis.subscriber import PubSubConnection
from chat_server.protocol.errors import Unavailable
from chat_server.settings import BrokerSettings, RedisSettings

from ..rig.proxy import RedisProxy
from ..rig.redis_server import RedisServer
from .fakes import ScriptedConnection
from .helpers import TOPIC, Recorder, Run, draft, until

TIMEOUT = 1.5
CHANNEL = "chat:probe:1"


@pytest.fixture
async def proxy(own_redis: RedisServer) -> AsyncIterator[RedisProxy]:
    async with RedisProxy(own_redis.port) as running:
        yield running


Start = Callable[[str], Any]


@pytest.fixture
def start(proxy: RedisProxy, run: Run) -> Start:
    def _start(url: str) -> Any:
        redis = RedisSettings(url=url, timeout_seconds=TIMEOUT, canary_seconds=0.1)
        return run(RedisBroker(redis, BrokerSettings()))

    return _start


async def test_a_deaf_broker_says_so_until_it_hears_again(
    start: Start, proxy: RedisProxy, own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    broker, recorder = await start(proxy.url)
    other, _ = await start(own_redis.url)
    await broker.subscribe(TOPIC)
    await other.publish(draft("heard"))
    await recorder.wait_for(1)
    assert (broker.status == "deaf", broker.deaf_seconds) == (False, 0.0)

    proxy.muted = True
    missed = await other.publish(draft("missed"))
    await until(lambda: broker.status == "deaf")
    assert not broker.available
    with pytest.raises(Unavailable):
        await broker.publish(draft())
    before = proxy.connections
    await until(lambda: proxy.connections > before + 1)
    assert broker.status == "deaf", "a new connection that hears nothing is no better"
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(errors) == 1, "said once, not at every attempt"
    assert (recorder.losses, recorder.returns) == (1, 0)
    assert other.available
    assert other.status == "ok"

    proxy.muted = False
    await until(lambda: recorder.returns == 1)
    assert broker.available
    assert broker.status != "deaf"
    total = broker.deaf_seconds
    assert total >= TIMEOUT
    (event,) = (await broker.history(TOPIC, after=1, limit=9)).events
    assert event.seq == missed.seq
    await broker.publish(draft("heard again"))
    await recorder.wait_for(2)
    assert broker.deaf_seconds == total, "it counts no further"


async def test_a_server_that_is_away_or_frozen_is_not_unheard(
    start: Start, own_redis: RedisServer
) -> None:
    broker, recorder = await start(own_redis.url)
    own_redis.pause()
    await until(lambda: not broker.available)
    assert broker.status != "deaf"
    own_redis.resume()
    await until(lambda: recorder.returns == 1)
    own_redis.kill()
    await until(lambda: not broker.available)
    assert (broker.status == "deaf", broker.deaf_seconds) == (False, 0.0)


async def test_a_cut_connection_is_not_waited_for(start: Start, proxy: RedisProxy) -> None:
    _, recorder = await start(proxy.url)
    for _ in range(5):
        returns = recorder.returns
        proxy.cut()
        await until(lambda: recorder.returns > returns)  # noqa: B023 - it is awaited here


class Bench:
    """A probe over two connections that do what a test says."""

    def __init__(self) -> None:
        self.heard, self.sent = ScriptedConnection(), ScriptedConnection()
        self.subscriber = PubSubConnection(
            *(lambda: self.heard, str),
            timeout_seconds=TIMEOUT,
            limit=9,
        )
        self.subscriber.set_probe_channel(CHANNEL)
        self.pipeline = Pipeline(
            *(lambda: self.sent, []),
            timeout_seconds=TIMEOUT,
            limit=9,
            batch_size=9,
            on_trouble=lambda _: None,
        )
        self.results: list[Refusal | None] = []
        self.probe = PubSubProbe(
            lambda: self.pipeline.send(pack("EVALSHA"), bool),
            lambda: self.pipeline.send(pack("PUBLISH", CHANNEL, b""), bool),
            self.subscriber,
            self._note,
            every_seconds=0.01,
            timeout_seconds=TIMEOUT,
        )

    async def _note(self, refusal: Refusal | None) -> None:
        self.results.append(refusal)

    async def open(self) -> None:
        self.sent.answer()  # the scripts, of which it has none
        self.pipeline.start()
        self.heard.answer([b"subscribe", CHANNEL.encode(), 1], [b"pong", b""])
        await self.subscriber.open(GuardedListener(Recorder()))
        self.heard.written.clear()

    async def pong(self) -> None:
        await until(lambda: b"PING" in b"".join(self.heard.written))
        self.heard.written.clear()
        self.heard.answer([b"pong", b""])

    def bring(self) -> None:
        self.heard.answer([b"message", CHANNEL.encode(), b""])


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    await made.open()
    yield made
    await made.subscriber.close()
    await made.pipeline.stop()


async def test_one_that_comes_late_behind_others_is_heard(bench: Bench) -> None:
    singing = asyncio.create_task(bench.probe.check())
    bench.sent.answer(1)
    for _ in range(8):
        await asyncio.sleep(TIMEOUT / 5)
        bench.heard.answer([b"message", b"busy", b"1  0 signal {}"])
        assert not singing.done()
    bench.bring()
    await singing
    assert not bench.probe.deaf


async def test_one_that_did_not_come_before_the_pong_has_some_time(bench: Bench) -> None:
    singing = asyncio.create_task(bench.probe.check())
    bench.sent.answer(1)
    await bench.pong()
    await asyncio.sleep(TIMEOUT / 5)
    bench.bring()
    await singing
    assert bench.probe.deaf_seconds == 0.0


async def test_one_that_never_comes(bench: Bench) -> None:
    singing = asyncio.create_task(bench.probe.check())
    bench.sent.answer(1)
    await bench.pong()
    with pytest.raises(Deaf):
        await singing
    assert bench.probe.deaf
    assert bench.probe.deaf_seconds >= TIMEOUT
    singing = asyncio.create_task(bench.probe.check())
    bench.sent.answer(1)
    bench.bring()
    await singing
    assert not bench.probe.deaf


@pytest.mark.parametrize("connection", ["heard", "sent"])
async def test_a_lost_connection_is_not_deafness(bench: Bench, connection: str) -> None:
    singing = asyncio.create_task(bench.probe.check())
    await asyncio.sleep(0)
    getattr(bench, connection).fail(RedisError("cut"))
    with pytest.raises(Unavailable):
        await singing
    assert not bench.probe.deaf


async def test_what_is_given_up_leaves_nothing(bench: Bench) -> None:
    singing = asyncio.create_task(bench.probe.check())
    await asyncio.sleep(0)
    singing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await singing
    await asyncio.sleep(0)
    assert not bench.subscriber._probes
