"""How many bytes are kept, of each topic and in all."""

import asyncio

import pytest

from chat_server.broker import memory, topic_log
from chat_server.broker.memory import MemoryBroker
from chat_server.events import Retention
from chat_server.settings import BrokerSettings

from ..rig.clock import ManualClock
from .helpers import TOPIC, Recorder, Store, draft

KIB = 1_024


def kept(size: int) -> Retention:
    return Retention(1_000, 3_600.0, size)


@pytest.mark.parametrize("text", [10, 1 * KIB, 20 * KIB])
async def test_a_topic_keeps_a_number_of_bytes(store: Store, text: int) -> None:
    broker, _ = await store.start()
    quota = 16 * (text + 100)
    for _ in range(60):
        await broker.publish(draft("x" * text, retention=kept(quota)))
    page = await broker.history(TOPIC, limit=1_000, max_bytes=2**30)
    assert sum(len(event.payload) for event in page.events) <= quota
    assert len(page.events) >= 15
    assert [event.seq for event in page.events] == list(range(61 - len(page.events), 61))
    assert page.seq == 60


async def test_one_that_is_larger_than_all_is_kept_alone(store: Store) -> None:
    broker, _ = await store.start()
    for seq in range(1, 5):
        await broker.publish(draft("x" * 5_000, retention=kept(2_000)))
        page = await broker.history(TOPIC, limit=9)
        assert [event.seq for event in page.events] == [seq]


async def test_small_ones_behind_a_large_one(store: Store) -> None:
    broker, _ = await store.start()
    await broker.publish(draft("x" * 20_000, retention=kept(16_000)))
    for _ in range(300):
        await broker.publish(draft("x" * 100, retention=kept(16_000)))
    page = await broker.history(TOPIC, limit=1_000)
    assert 15_000 < sum(len(event.payload) for event in page.events) <= 16_000


async def test_another_quota_holds_after_a_while(store: Store) -> None:
    broker, _ = await store.start()
    for quota in (100_000, 10_000, 0, 50_000):
        await asyncio.gather(
            *(broker.publish(draft("x" * 200, retention=kept(quota))) for _ in range(500))
        )
        page = await broker.history(TOPIC, limit=1_000, max_bytes=2**30)
        size = sum(len(event.payload) for event in page.events)
        assert size > 0.8 * quota if quota else size > 100_000
        assert size <= (quota or 10**9)


class TestMemory:
    @staticmethod
    async def _start(**settings: int) -> MemoryBroker:
        broker = MemoryBroker(BrokerSettings(**settings), ManualClock())
        await broker.start(Recorder())
        return broker

    async def test_the_whole_keeps_a_number_of_bytes_and_the_oldest_go(self) -> None:
        broker = await self._start(memory_max_bytes=100 * KIB)
        for number in range(40):
            broker._clock.advance(1)  # type: ignore[attr-defined]
            retention = Retention(1_000, 3_600.0 + number % 3)
            await broker.publish(draft("x" * 4 * KIB, topic=f"room:{number}", retention=retention))
        left = [
            number
            for number in range(40)
            if (await broker.history(f"room:{number}", limit=9)).events
        ]
        assert left == list(range(40 - len(left), 40)), "the oldest have gone"
        assert 20 <= len(left) <= 25
        assert (await broker.history("room:0", limit=9)).seq == 1, "its position stays"

    async def test_bytes_are_counted_whatever_makes_events_go(self) -> None:
        broker = await self._start(memory_max_topics=3)
        for number in range(10):
            for size in (2, 1):
                retention = Retention(size, 10.0)
                await broker.publish(draft(topic=f"room:{number}", retention=retention))
        pages = [await broker.history(name, limit=9) for name in list(broker._topics)]
        held = [event for page in pages for event in page.events]
        assert broker._bytes == sum(len(e.payload) + topic_log.ENTRY_BYTES for e in held)
        await broker.publish(draft(topic="room:9", retention=Retention(0, 10.0)))
        broker._clock.advance(20)  # type: ignore[attr-defined]
        await broker.history("room:8", limit=1)
        assert broker._bytes == 0

    async def test_who_only_reads_makes_no_message_go(self) -> None:
        broker = await self._start(memory_max_topics=100)
        for number in range(100):
            await broker.publish(draft(topic=f"room:{number}"))
        for number in range(1_000):
            await broker.history(f"unknown:{number}", limit=50)
            broker.subscribe(f"mine:{number % 300}")
            await broker.history(f"mine:{number % 300}", limit=50)
        for number in range(100):
            assert len((await broker.history(f"room:{number}", limit=9)).events) == 1
        assert len(broker._unused) <= 400, "what only readers know is bounded, too"

    async def test_a_topic_without_events_is_kept_while_somebody_is_subscribed(self) -> None:
        broker = await self._start()
        broker.subscribe(TOPIC)
        epochs = {name: (await broker.history(name, limit=0)).epoch for name in (TOPIC, "room:b")}
        for _ in range(5):
            broker._clock.advance(memory.UNUSED_SECONDS * 0.8)  # type: ignore[attr-defined]
            await broker.publish(draft(topic="room:other"))
        assert (await broker.history(TOPIC, limit=0)).epoch == epochs[TOPIC]
        assert "room:b" not in broker._unused
        assert (await broker.publish(draft())).epoch == epochs[TOPIC]
