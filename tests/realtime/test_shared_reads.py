"""One read of the store serves all who ask in the same moment, and nobody who asked later."""

import asyncio
from asyncio import Future
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_server.events import HistoryPage, Position
from chat_server.protocol.errors import Unavailable
from chat_server.realtime import shared_reads as module
from chat_server.realtime.shared_reads import (
    MAX_SPREAD,
    REPLAY_BYTES,
    REPLAY_CHUNK,
    PagesAfter,
    SharedReads,
)

from ..rig.fakes import FakeBroker, turns, until
from .helpers import ROOM

STORED = 3 * REPLAY_CHUNK


@pytest.fixture
def stored(broker: FakeBroker) -> FakeBroker:
    for number in range(STORED):
        broker.store(ROOM, number)
    return broker


def asked(broker: FakeBroker) -> list[tuple[int, int]]:
    """Where each read began, and how many events it may return."""
    return [(call[2], call[4]) for call in broker.calls if call[0] == "history"]


def seqs(page: HistoryPage) -> list[int]:
    return [event.seq for event in page.events]


async def test_who_asks_for_the_same_gets_the_same_page(stored: FakeBroker) -> None:
    reads = SharedReads(stored, lambda topic: None)
    one, *others = await asyncio.gather(*(reads.read(ROOM, STORED - 5) for _ in range(50)))
    assert asked(stored) == [(STORED - 5, REPLAY_CHUNK)]
    assert seqs(one) == [*range(STORED - 4, STORED + 1)]
    assert one.size == sum(len(event.payload) for event in one.events)
    assert all(other is one for other in others)


async def test_positions_near_each_other_are_read_together(stored: FakeBroker) -> None:
    reads = SharedReads(stored, lambda topic: None)
    afters = [STORED, STORED - 1, STORED - MAX_SPREAD, STORED - 10, STORED]
    pages = await asyncio.gather(*(reads.read(ROOM, after) for after in afters))
    assert asked(stored) == [(STORED - MAX_SPREAD, REPLAY_CHUNK + MAX_SPREAD)]
    for after, page in zip(afters, pages, strict=True):
        assert seqs(page) == [*range(after + 1, STORED + 1)]
        assert (page.seq, page.more, page.missing) == (STORED, False, 0)


async def test_who_is_far_behind_has_a_read_of_its_own(stored: FakeBroker) -> None:
    """Else those who missed little would be sent what is old, or wait for a second read."""
    reads = SharedReads(stored, lambda topic: None)
    far, near = await asyncio.gather(reads.read(ROOM, 0), reads.read(ROOM, STORED - 1))
    assert asked(stored) == [(0, REPLAY_CHUNK), (STORED - 1, REPLAY_CHUNK)]
    assert (seqs(far), far.more) == ([*range(1, REPLAY_CHUNK + 1)], True)
    assert (seqs(near), near.more) == ([STORED], False)


async def test_who_asks_while_a_read_is_under_way_gets_the_next(stored: FakeBroker) -> None:
    """The store may have made the answer before an event that the client knows to be stored."""
    stored.reads.shut = True
    reads = SharedReads(stored, lambda topic: None)
    early = reads.read(ROOM, STORED)
    await turns()
    stored.store(ROOM)
    late = [reads.read(ROOM, STORED) for _ in range(3)]
    await turns()
    assert len(asked(stored)) == 1
    stored.reads.open()
    assert seqs(await early) == []
    for page in await asyncio.gather(*late):
        assert seqs(page) == [STORED + 1]
    assert len(asked(stored)) == 2


async def test_those_beyond_the_bytes_of_a_page_are_read_once_more(broker: FakeBroker) -> None:
    for _ in range(8):
        broker.store(ROOM, "x" * (REPLAY_BYTES // 3))
    reads = SharedReads(broker, lambda topic: None)
    afters = [0, 1, 5, 6, 6, 8]
    pages = await asyncio.gather(*(reads.read(ROOM, after) for after in afters))
    assert [seqs(page)[:1] for page in pages] == [[1], [2], [6], [7], [7], []]
    assert [after for after, _ in asked(broker)] == [0, 5, 6]


async def test_a_topic_waits_for_no_other(stored: FakeBroker) -> None:
    stored.store("room:b")
    stored.reads.shut = True
    reads = SharedReads(stored, lambda topic: None)
    held = reads.read(ROOM, 0)
    await turns()
    stored.reads.shut = False
    assert seqs(await reads.read("room:b", 0)) == [1]
    assert not held.done()
    stored.reads.open()
    await held


async def test_who_leaves_takes_nothing_from_the_others(stored: FakeBroker) -> None:
    stored.reads.shut = True
    reads = SharedReads(stored, lambda topic: None)
    first, second, third = (reads.read(ROOM, STORED - 1) for _ in range(3))
    await turns()
    first.cancel()
    late = reads.read(ROOM, STORED - 1)
    late.cancel()
    stored.reads.open()
    assert seqs(await second) == seqs(await third) == [STORED]
    await turns()
    assert (reads._waiting, reads._tasks) == ({}, set())


async def test_each_gets_an_error_of_its_own(stored: FakeBroker) -> None:
    stored.reads.shut = True
    reads = SharedReads(stored, lambda topic: None)
    failed = [reads.read(ROOM, after) for after in (0, 0, 5, STORED)]
    await turns()
    late = reads.read(ROOM, 0)
    stored.reads.release(Unavailable("busy", retry_in_ms=250))
    found = await asyncio.gather(*failed, return_exceptions=True)
    assert len(set(map(id, found))) == len(failed)
    for error in found:
        assert isinstance(error, Unavailable)
        assert (error.message, error.retry_in_ms) == ("busy", 250)
    stored.reads.open()
    assert len(seqs(await late)) == REPLAY_CHUNK


@pytest.mark.parametrize("begun", [True, False])
async def test_at_the_end_nobody_waits_any_more(stored: FakeBroker, begun: bool) -> None:
    stored.reads.shut = True
    reads = SharedReads(stored, lambda topic: None)
    waiting: list[Future[HistoryPage]] = [reads.read(ROOM, 0), reads.read(ROOM, STORED)]
    if begun:
        await turns()
        waiting.append(reads.read(ROOM, 0))
    await reads.stop()
    assert all(page.cancelled() for page in waiting)
    assert (reads._waiting, reads._tasks) == ({}, set())


class Worker:
    """Where a worker stands in the topic, as far as a test lets it know."""

    def __init__(self, broker: FakeBroker) -> None:
        self.broker = broker
        self.position: Position | None = None
        self.reads = SharedReads(broker, lambda topic: self.position)

    def hear(self) -> None:
        """Let the worker receive what is stored."""
        topic = self.broker.topic(ROOM)
        self.position = Position(topic.epoch, topic.seq)

    async def read(self, behind: int) -> HistoryPage:
        self.broker.calls.clear()
        return await self.reads.read(ROOM, self.broker.topic(ROOM).seq - behind)


@pytest.fixture
async def worker(stored: FakeBroker) -> AsyncIterator[Worker]:
    worker = Worker(stored)
    worker.hear()
    yield worker
    await worker.reads.stop()


async def test_who_comes_later_is_read_the_last_event_only(worker: Worker) -> None:
    """It shows that nothing has come since, and the page that is kept has the rest."""
    await worker.read(20)
    first, second = await worker.read(20), await worker.read(20)
    assert first is second
    assert seqs(first) == [*range(STORED - 19, STORED + 1)]
    assert asked(worker.broker) == [(STORED - 1, REPLAY_CHUNK)]
    for behind in (0, 1, 5):
        assert seqs(await worker.read(behind)) == [*range(STORED - behind + 1, STORED + 1)]
        assert asked(worker.broker) == [(STORED - 1, REPLAY_CHUNK)]
    further = await worker.read(21)
    assert seqs(further) == [*range(STORED - 20, STORED + 1)]
    assert asked(worker.broker) == [(STORED - 21, REPLAY_CHUNK)]


@pytest.mark.parametrize("heard", [True, False])
@pytest.mark.parametrize("behind", [1, 2, 20])
async def test_what_has_come_since_is_read(worker: Worker, heard: bool, behind: int) -> None:
    await worker.read(20)
    worker.broker.store(ROOM)
    if heard:
        worker.hear()
    page = await worker.read(behind)
    assert seqs(page) == [*range(STORED + 2 - behind, STORED + 2)]
    once = heard or behind <= 2
    assert len(asked(worker.broker)) == (1 if once else 2)


@pytest.mark.parametrize("change", ["forget", "fail over", "wipe", "begin epoch"])
async def test_a_log_that_changed_is_read_anew(worker: Worker, change: str) -> None:
    await worker.read(20)
    broker, since = worker.broker, STORED - 10
    if change == "forget":
        broker.forget(ROOM)
    elif change == "fail over":
        broker.fail_over(ROOM, 1)
        broker.store(ROOM, "another in its place")
    elif change == "wipe":
        broker.wipe(ROOM)
    else:
        await broker.begin_epoch(ROOM, "epoch0")
    page = await worker.reads.read(ROOM, since)
    own = await broker.history(ROOM, after=since, limit=REPLAY_CHUNK)
    assert (page.epoch, page.seq, page.missing) == (own.epoch, own.seq, own.missing)
    assert page.events == own.events


async def test_nothing_is_kept_while_the_worker_may_have_missed_events(worker: Worker) -> None:
    await worker.read(20)
    worker.position = None
    await worker.read(20)
    assert asked(worker.broker) == [(STORED - 20, REPLAY_CHUNK)]


async def test_pages_are_kept_for_a_time_and_within_a_bound(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEEP_SECONDS", 0.3)
    reads = worker.reads
    page = await worker.read(20)
    for number in range(5):
        reads.keep(f"room:{number}", page, STORED - 20)
    assert len(reads._kept) == 6
    await until(lambda: not reads._kept)
    assert reads._kept_bytes == 0
    await until(lambda: reads._sweep is None)
    size = sum(len(event.payload) for event in page.events)
    monkeypatch.setattr(module, "MAX_KEPT_BYTES", 2 * size)
    for number in range(5):
        reads.keep(f"room:{number}", page, STORED - 20)
    assert [*reads._kept] == ["room:3", "room:4"]
    assert reads._kept_bytes == 2 * size


@given(
    stored=st.integers(0, 40),
    keep=st.integers(0, 40),
    lost=st.sets(st.integers(1, 40)),
    after=st.integers(0, 45),
    further=st.integers(0, 45),
    limit=st.integers(1, 45),
)
async def test_a_page_is_what_a_read_of_its_own_had_found(
    stored: int, keep: int, lost: set[int], after: int, further: int, limit: int
) -> None:
    broker = FakeBroker()
    for number in range(stored):
        broker.store(ROOM, number)
    broker.forget(ROOM, keep)
    topic = broker.topic(ROOM)
    topic.events = [event for event in topic.events if event.seq not in lost]
    seq = after + further
    page = PagesAfter(await broker.history(ROOM, after=after, limit=limit), after).get(seq)
    own = await broker.history(ROOM, after=seq, limit=limit)
    if page is None:
        assert own.events
        return
    assert (page.epoch, page.seq, page.missing) == (own.epoch, own.seq, own.missing)
    assert page.events == own.events[: len(page.events)]
    assert page.more is (len(page.events) < len(own.events) or own.more)
    assert page.events or not own.events
