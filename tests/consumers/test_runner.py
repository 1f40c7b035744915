"""Every event of every topic is taken once and in order, whatever fails in between."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence

import pytest

from chat_server.broker.memory import MemoryBroker
from chat_server.clock import SystemClock
from chat_server.consumers import follower, reading, runner
from chat_server.consumers.ports import Batch, Consumer, Cursor
from chat_server.consumers.runner import Consumers
from chat_server.events import Retention
from chat_server.realtime.ports import Broker, Feed
from chat_server.settings import BrokerSettings

from ..broker.helpers import TOPIC, Store, draft
from ..rig.waiting import until, until_async
from .doubles import Collector, Grant, HeldFeed, Shelf

FOLLOWED = Retention(1_000, 3_600.0, held_size=4_000, held_bytes=1_000_000)
TOPICS = [f"room:{number}" for number in range(20)]

Run = Callable[..., Consumers]


@pytest.fixture
async def run() -> AsyncIterator[Run]:
    """Starts consumers, and stops them after the test."""
    running: list[Consumers] = []

    def _run(broker: Broker, *consumers: Consumer, lease: Grant | None = None) -> Consumers:
        assert isinstance(broker, Feed)
        running.append(Consumers(broker, broker.feed, lease or Grant(), consumers))
        running[-1].start()
        return running[-1]

    yield _run
    for consumers in running:
        await consumers.stop()


async def publish(broker: Broker, topics: Sequence[str], count: int = 1, text: str = "") -> None:
    for number in range(count):
        for topic in topics:
            await broker.publish(draft(text or str(number), topic=topic, retention=FOLLOWED))


def has_taken(shelf: Shelf, topics: Sequence[str], count: int) -> Callable[[], bool]:
    return lambda: all(shelf.taken.get(topic) == [*range(1, count + 1)] for topic in topics)


async def test_what_is_published_is_taken_once_and_in_order(store: Store, run: Run) -> None:
    broker, _ = await store.start()
    shelf = Shelf()
    run(broker, Collector(shelf))
    await publish(broker, [*TOPICS, "other:room"], 10)
    await until(has_taken(shelf, TOPICS, 10))
    await publish(broker, TOPICS, 3)
    await until(has_taken(shelf, TOPICS, 13))
    assert "other:room" not in shelf.taken
    assert shelf.gaps == {}


async def test_what_no_hint_tells_is_found_by_a_sweep(store: Store, run: Run) -> None:
    broker, _ = await store.start()
    await publish(broker, TOPICS, 5)
    assert isinstance(broker, Feed)
    await broker.feed.share()
    assert await broker.feed.take(1_000), "the hints are gone"
    shelf = Shelf()
    run(broker, Collector(shelf))
    await until(has_taken(shelf, TOPICS, 5))


async def test_a_long_log_is_taken_in_parts(
    store: Store, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "BATCH_EVENTS", 7)
    monkeypatch.setattr(follower, "TAKE_BYTES", 300)
    broker, _ = await store.start()
    await publish(broker, TOPICS[:3], 50)
    shelf, collector = Shelf(), Collector(Shelf())
    collector.shelf = shelf
    run(broker, collector)
    await until(has_taken(shelf, TOPICS[:3], 50))
    assert collector.calls >= 7


async def test_failures_of_the_consumer_lose_nothing_and_repeat_nothing(
    store: Store, run: Run
) -> None:
    broker, _ = await store.start()
    shelf = Shelf()
    collector = Collector(shelf)
    collector.refuses, collector.forgets = 3, 3
    run(broker, collector)
    for _ in range(10):
        await publish(broker, TOPICS)
    await until(has_taken(shelf, TOPICS, 10))
    assert (collector.refuses, collector.forgets < 3) == (0, True)


async def test_a_topic_that_cannot_be_taken_harms_no_other(store: Store, run: Run) -> None:
    broker, _ = await store.start()
    shelf = Shelf()
    collector = Collector(shelf)
    collector.poison = TOPICS[7]
    run(broker, collector)
    await publish(broker, TOPICS, 3)
    others = [topic for topic in TOPICS if topic != TOPICS[7]]
    await until(has_taken(shelf, others, 3))
    assert TOPICS[7] not in shelf.taken
    collector.poison = ""
    await publish(broker, [TOPICS[7]])
    await until(has_taken(shelf, [TOPICS[7]], 4))


async def test_a_slow_consumer_holds_up_no_other_but_the_trimming(store: Store, run: Run) -> None:
    broker, _ = await store.start()
    few = Retention(2, 3_600.0, held_size=100, held_bytes=1_000_000)
    quick, slow = Collector(Shelf(), "quick"), Collector(Shelf(), "slow")
    slow.refuses = 10**9
    run(broker, quick, slow)
    for number in range(10):
        await broker.publish(draft(str(number), retention=few))
    await until(has_taken(quick.shelf, [TOPIC], 10))
    slow.refuses = 0
    await until(has_taken(slow.shelf, [TOPIC], 10))

    async def is_trimmed() -> bool:
        await broker.publish(draft(retention=few))
        return len((await broker.history(TOPIC, limit=100)).events) <= 4

    await until_async(is_trimmed)
    assert slow.shelf.gaps == {}


async def test_what_the_store_has_lost_is_a_gap(store: Store, run: Run) -> None:
    broker, _ = await store.start()
    few = Retention(3, 3_600.0)
    shelf = Shelf()
    lease = Grant()
    first = run(broker, Collector(shelf), lease=lease)
    await publish(broker, [TOPIC], 2)
    await until(has_taken(shelf, [TOPIC], 2))
    await first.stop()
    for _ in range(10):
        await broker.publish(draft(retention=few))
    run(broker, Collector(shelf))
    await until(lambda: shelf.taken[TOPIC] == [1, 2, 10, 11, 12])
    assert shelf.gaps == {TOPIC: [(3, 9)]}


async def test_only_the_holder_of_the_lease_takes(shared_store: Store, run: Run) -> None:
    one, _ = await shared_store.start()
    other, _ = await shared_store.start()
    shelf = Shelf()
    leases = Grant(held=False), Grant()
    first = run(one, Collector(shelf), lease=leases[0])
    second = run(other, Collector(shelf), lease=leases[1])
    await publish(one, TOPICS, 3)
    await until(has_taken(shelf, TOPICS, 3))
    assert (first.is_leading, second.is_leading) == (False, True)
    leases[0].held, leases[1].held = True, False
    await until(lambda: first.is_leading and not second.is_leading)
    await publish(other, TOPICS, 2)
    await until(has_taken(shelf, TOPICS, 5))
    await first.stop()
    assert leases[0].released


async def test_two_that_hold_the_lease_repeat_nothing(shared_store: Store, run: Run) -> None:
    one, _ = await shared_store.start()
    other, _ = await shared_store.start()
    shelf = Shelf()
    run(one, Collector(shelf))
    run(other, Collector(shelf))
    for _ in range(20):
        await publish(one, TOPICS)
    await until(has_taken(shelf, TOPICS, 20))


async def test_a_stop_takes_what_was_stored_before(store: Store, run: Run) -> None:
    broker, _ = await store.start()
    shelf = Shelf()
    consumers = run(broker, Collector(shelf))
    await until(lambda: consumers.is_leading)
    await publish(broker, TOPICS, 5)
    await consumers.stop(drain_seconds=30)
    assert has_taken(shelf, TOPICS, 5)()


@pytest.mark.parametrize("held", ["share", "take"])
async def test_a_stop_waits_for_hints_that_are_on_their_way(held: str) -> None:
    broker, _ = await Store("memory").start()
    assert isinstance(broker, Feed)
    shelf = Shelf()
    feed = HeldFeed(broker.feed, held)
    consumers = Consumers(broker, feed, Grant(), [Collector(shelf)])
    consumers.start()
    await until(lambda: consumers.is_leading)
    await publish(broker, TOPICS, 5)
    await until(lambda: feed.is_holding)
    stop = asyncio.create_task(consumers.stop(drain_seconds=30))
    for _ in range(100):  # So many turns are enough for a stop that waits for nothing.
        await asyncio.sleep(0)
    feed.gate.set()
    await stop
    assert has_taken(shelf, TOPICS, 5)()


async def test_an_epoch_that_begins_further_on_changes_nothing(store: Store, run: Run) -> None:
    broker, _ = await store.start()
    shelf = Shelf()
    run(broker, Collector(shelf))
    await publish(broker, [TOPIC], 3)
    epoch = (await broker.history(TOPIC, limit=0)).epoch
    await broker.begin_epoch(TOPIC, epoch)
    await publish(broker, [TOPIC], 2)
    await until(has_taken(shelf, [TOPIC], 5))
    assert shelf.cursors[TOPIC].epoch != epoch
    assert shelf.back == []


async def test_seqs_that_are_given_out_again_are_taken_again(store: Store, run: Run) -> None:
    """As after a failover that lost what the consumer has: it is the only one to notice."""
    broker, _ = await store.start()
    await publish(broker, [TOPIC], 4, text="new")
    page = await broker.history(TOPIC, limit=10)
    shelf = Shelf()
    shelf.taken[TOPIC], shelf.texts[TOPIC] = [1, 2, 3], ["lost"] * 3
    shelf.cursors[TOPIC] = Cursor(page.epoch, 3, at=1)
    run(broker, Collector(shelf))
    await until(lambda: shelf.cursors[TOPIC].epoch != page.epoch)
    await publish(broker, [TOPIC], 1, text="later")
    await until(lambda: shelf.texts[TOPIC][-1:] == ["later"])
    assert (await broker.history(TOPIC, limit=0)).epoch == shelf.cursors[TOPIC].epoch


async def test_a_store_that_begins_anew_is_taken_from_its_beginning(store: Store, run: Run) -> None:
    broker, _ = await store.start()
    shelf = Shelf()
    shelf.taken[TOPIC] = [*range(1, 100)]
    shelf.cursors[TOPIC] = Cursor("lost", 99, at=5)
    run(broker, Collector(shelf))
    await publish(broker, [TOPIC], 3)
    await until(lambda: shelf.taken[TOPIC][99:] == [1, 2, 3])
    assert shelf.back == [TOPIC]
    assert shelf.gaps == {}


async def test_many_hints_are_no_more_than_a_sweep_will_find(
    store: Store, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower, "MAX_PENDING", 3)
    monkeypatch.setattr(runner, "SWEEP_SECONDS", 0.05)
    broker, _ = await store.start()
    shelf = Shelf()
    run(broker, Collector(shelf))
    await publish(broker, TOPICS, 2)
    await until(has_taken(shelf, TOPICS, 2))


async def test_a_lease_that_cannot_be_let_go_keeps_nobody(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "RELEASE_SECONDS", 0.01)
    broker, _ = await store.start()
    assert isinstance(broker, Feed)
    consumers = Consumers(broker, broker.feed, Frozen(), [Collector(Shelf())])
    consumers.start()
    await until(lambda: consumers.is_leading)
    async with asyncio.timeout(90):
        await consumers.stop()


class Frozen(Grant):
    """A lease in a database that does not answer any more."""

    async def release(self) -> None:
        await asyncio.Event().wait()


async def test_a_fault_of_our_own_is_logged_and_ends_nothing(
    store: Store, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    broker, _ = await store.start()
    shelf = Shelf()
    faulty = Faulty(shelf)
    run(broker, faulty)
    await publish(broker, TOPICS, 2)
    await until(has_taken(shelf, TOPICS, 2))
    assert "the consumers have failed" in caplog.text
    assert "no cursors today" in caplog.text


class Faulty(Collector):
    """Raises what no consumer may, once."""

    async def cursors(self, topics: Collection[str]) -> Mapping[str, Cursor]:
        if not self.forgets:
            self.forgets = 1
            raise RuntimeError("no cursors today")
        return await super().cursors(topics)

    async def take(self, batches: Sequence[Batch]) -> None:
        self.forgets = 0
        await super().take(batches)
        self.forgets = 1


async def test_who_shares_a_database_and_no_log_is_told(caplog: pytest.LogCaptureFixture) -> None:
    broker = MemoryBroker(BrokerSettings(), SystemClock())
    consumers = [
        Consumers(broker, broker.feed, Grant(held=False), [], is_shared=shared)
        for shared in (True, False)
    ]
    for each in consumers:
        each.start()
    await until(lambda: "share a Redis" in caplog.text)
    for each in consumers:
        await each.stop()
    assert caplog.text.count("share a Redis") == 1
