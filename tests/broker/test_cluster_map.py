"""How the broker over a cluster follows the map, with shards that do what a test says."""

import asyncio
from asyncio import Future
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any

import pytest

from chat_server.broker.common import busy, failed, rejected, unavailable
from chat_server.broker.redis import cluster as module
from chat_server.broker.redis.cluster import ClusterBroker
from chat_server.broker.redis.refusals import Moved
from chat_server.broker.redis.topology import SlotRange
from chat_server.broker.redis.urls import Address
from chat_server.events import Event
from chat_server.protocol.errors import Unavailable
from chat_server.realtime.ports import Listener
from chat_server.settings import BrokerSettings, RedisSettings

from .helpers import TOPIC, until

A, B, C = (Address(name, 1) for name in "abc")
OTHER = "room:quiet"
HALF = 8_191
"""The last slot of the first shard; TOPIC's comes after it, OTHER's before."""


class Shard:
    """Stands for a `RedisBroker`."""

    deaf_seconds = 0.0

    def __init__(self, bench: "Bench", *_: Any, connect: Callable[[], Any], **__: Any) -> None:
        self.bench = bench
        self.name = connect()
        self.available = True
        self.home = ""
        self.topics: set[str] = set()
        self.trouble: Unavailable | None = None
        self.listener: Listener
        self.subscribing = 0
        bench.made.append(self)

    def set_hash_tag(self, home: str) -> None:
        self.home = home

    async def start(self, listener: Listener) -> None:
        self.listener = listener

    async def stop(self) -> None:
        pass

    def flushed(self) -> "Future[bool]":
        return _done(True)

    def subscribe(self, topic: str) -> "Future[Any]":
        self.subscribing += 1
        self.bench.story.append(f"subscribed to {topic} on {self.name}")
        if self.trouble is not None:
            return failed(self.trouble)
        self.topics.add(topic)
        return _done(None) if self.available else failed(unavailable())

    def unsubscribe(self, topic: str) -> None:
        self.topics.discard(topic)

    def go_away(self) -> None:
        self.available = False
        self.listener.on_lost()

    def come_back(self) -> None:
        self.available = True
        self.listener.on_restored()


class Bench:
    """A broker whose map is what the nodes say, and what it tells its listener.

    Attributes:
        maps: by node, the masters of both halves.
        asked: the nodes that were asked first.
        story: what happened, in order.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.maps = dict.fromkeys((A, B, C), (A, B))
        self.asked: list[Address] = []
        self.story: list[str] = []
        self.made: list[Shard] = []
        monkeypatch.setattr(module, "find_shards", self._find)
        monkeypatch.setattr(module, "REFRESH_SECONDS", (0.001, 0.005, 30.0))
        monkeypatch.setattr(module, "RedisBroker", lambda *a, **k: Shard(self, *a, **k))
        self.broker = ClusterBroker(RedisSettings(url="redis+cluster://a:1,b:1"), BrokerSettings())
        monkeypatch.setattr(self.broker, "_connect", lambda address: address.host)

    async def _find(
        self, connect: Any, nodes: Sequence[Address], seconds: float
    ) -> tuple[Address, list[SlotRange]]:
        await asyncio.sleep(0)
        self.asked.append(nodes[0])
        first, second = self.maps[nodes[0]]
        return nodes[0], [SlotRange(0, HALF, first), SlotRange(HALF + 1, 16_383, second)]

    def shard(self, address: Address) -> Shard:
        return next(shard for shard in reversed(self.made) if shard.name == address.host)

    async def look(self) -> None:
        """Wait until the map was looked at again."""
        await self.broker.refreshed()

    def on_events(self, events: Sequence[Event]) -> None:
        raise AssertionError

    def on_lost(self, topics: Iterable[str] | None = None) -> None:
        self.story.append("lost " + ", ".join(sorted(topics or ())))

    def on_restored(self, topics: Iterable[str] | None = None) -> None:
        self.story.append("restored " + ", ".join(sorted(topics or ())))


@pytest.fixture
async def bench(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    made = Bench(monkeypatch)
    await made.broker.start(made)
    await asyncio.gather(made.broker.subscribe(TOPIC), made.broker.subscribe(OTHER))
    assert (made.shard(A).topics, made.shard(B).topics) == ({OTHER}, {TOPIC})
    made.story.clear()
    yield made
    await made.broker.stop()


async def test_each_shard_that_is_lost_concerns_its_own_topics(bench: Bench) -> None:
    one, two = bench.shard(A), bench.shard(B)
    for step in (one.go_away, two.go_away, one.come_back, two.come_back):
        step()
        await bench.look()
    assert bench.story == [
        *(f"lost {OTHER}", f"lost {TOPIC}"),
        *(f"restored {OTHER}", f"restored {TOPIC}"),
    ]


@pytest.mark.parametrize("to", [A, C], ids=["known", "new"])
async def test_a_topic_that_moves_is_lost_before_it_is_heard_elsewhere(
    bench: Bench, to: Address
) -> None:
    bench.maps = dict.fromkeys((A, B, C), (A, to))
    await bench.look()
    await until(lambda: len(bench.story) == 3)
    await bench.look()
    assert bench.story == [
        *(f"lost {TOPIC}", f"subscribed to {TOPIC} on {to.host}", f"restored {TOPIC}"),
    ]
    assert bench.shard(B).topics == set()


async def test_a_shard_that_has_left_says_nothing_of_who_has_its_address_now(bench: Bench) -> None:
    old = bench.shard(B)
    for first, second in ((A, A), (A, B)):
        bench.maps = dict.fromkeys((A, B, C), (first, second))
        await bench.look()
        await bench.look()
    assert bench.shard(B).topics == {TOPIC}
    bench.story.clear()
    old.go_away()
    assert bench.story == ["lost "]


async def test_a_master_that_was_cut_off_and_replaced_is_not_believed(bench: Bench) -> None:
    await until(lambda: bench.asked[-1] == A)
    bench.maps |= {B: (C, B), C: (C, B)}
    bench.shard(A).go_away()
    await until(lambda: bench.broker.available)
    assert {address.host for address in bench.broker._shards} == {"b", "c"}
    assert bench.shard(C).topics == {OTHER}


@pytest.mark.parametrize("trouble", [busy(), rejected(), Moved(None)], ids=["busy", "no", "moved"])
async def test_a_subscription_that_could_not_move_is_tried_again(
    bench: Bench, trouble: Unavailable
) -> None:
    target = bench.shard(A)
    target.trouble = trouble
    bench.maps = dict.fromkeys((A, B, C), (A, A))
    await bench.look()
    # While an attempt is under way the topic has a shard.
    await until(lambda: target.subscribing > 3 and bench.broker._topics[TOPIC] is None)
    assert f"restored {TOPIC}" not in bench.story, "it would be taken for repaired"
    target.trouble = None
    await until(lambda: TOPIC in target.topics)
    await bench.look()
    assert bench.story[-1] == f"restored {TOPIC}"


async def test_what_was_unsubscribed_is_not_tried_again(bench: Bench) -> None:
    target = bench.shard(A)
    target.trouble = busy()
    bench.maps = dict.fromkeys((A, B, C), (A, A))
    await bench.look()
    await until(lambda: target.subscribing > 2)
    bench.broker.unsubscribe(TOPIC)
    target.trouble = None
    await bench.look()
    await bench.look()
    assert target.topics == {OTHER}
    assert TOPIC not in bench.broker._topics


def _done(result: Any) -> "Future[Any]":
    future: Future[Any] = asyncio.get_running_loop().create_future()
    future.set_result(result)
    return future
