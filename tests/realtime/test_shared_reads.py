"""One read of the store serves all who ask in the same moment, and nobody who asked later."""

import asyncio
from asyncio import Future

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_server.events import HistoryPage
from chat_server.protocol.errors import Unavailable
from chat_server.realtime.shared_reads import (
    MAX_SPREAD,
    REPLAY_BYTES,
    REPLAY_CHUNK,
    PagesAfter,
    SharedReads,
)

from ..rig.fakes import FakeBroker, turns
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
    reads = SharedReads(stored)
    one, *others = await asyncio.gather(*(reads.read(ROOM, STORED - 5) for _ in range(50)))
    assert asked(stored) == [(STORED - 5, REPLAY_CHUNK)]
    assert seqs(one) == [*range(STORED - 4, STORED + 1)]
    assert one.size == sum(len(event.payload) for event in one.events)
    assert all(other is one for other in others)


async def test_positions_near_each_other_are_read_together(stored: FakeBroker) -> None:
    reads = SharedReads(stored)
    afters = [STORED, STORED - 1, STORED - MAX_SPREAD, STORED - 10, STORED]
    pages = await asyncio.gather(*(reads.read(ROOM, after) for after in afters))
    assert asked(stored) == [(STORED - MAX_SPREAD, REPLAY_CHUNK + MAX_SPREAD)]
    for after, page in zip(afters, pages, strict=True):
        assert seqs(page) == [*range(after + 1, STORED + 1)]
        assert (page.seq, page.more, page.missing) == (STORED, False, 0)


async def test_who_is_far_behind_has_a_read_of_its_own(stored: FakeBroker) -> None:
    """Else those who missed little would be sent what is old, or wait for a second read."""
    reads = SharedReads(stored)
    far, near = await asyncio.gather(reads.read(ROOM, 0), reads.read(ROOM, STORED - 1))
    assert asked(stored) == [(0, REPLAY_CHUNK), (STORED - 1, REPLAY_CHUNK)]
    assert (seqs(far), far.more) == ([*range(1, REPLAY_CHUNK + 1)], True)
    assert (seqs(near), near.more) == ([STORED], False)


async def test_who_asks_while_a_read_is_under_way_gets_the_next(stored: FakeBroker) -> None:
    """The store may have made the answer before an event that the client knows to be stored."""
    stored.reads.shut = True
    reads = SharedReads(stored)
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
    reads = SharedReads(broker)
    afters = [0, 1, 5, 6, 6, 8]
    pages = await asyncio.gather(*(reads.read(ROOM, after) for after in afters))
    assert [seqs(page)[:1] for page in pages] == [[1], [2], [6], [7], [7], []]
    assert [after for after, _ in asked(broker)] == [0, 5, 6]


async def test_a_topic_waits_for_no_other(stored: FakeBroker) -> None:
    stored.store("room:b")
    stored.reads.shut = True
    reads = SharedReads(stored)
    held = reads.read(ROOM, 0)
    await turns()
    stored.reads.shut = False
    assert seqs(await reads.read("room:b", 0)) == [1]
    assert not held.done()
    stored.reads.open()
    await held


async def test_who_leaves_takes_nothing_from_the_others(stored: FakeBroker) -> None:
    stored.reads.shut = True
    reads = SharedReads(stored)
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
    reads = SharedReads(stored)
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
    reads = SharedReads(stored)
    waiting: list[Future[HistoryPage]] = [reads.read(ROOM, 0), reads.read(ROOM, STORED)]
    if begun:
        await turns()
        waiting.append(reads.read(ROOM, 0))
    await reads.stop()
    assert all(page.cancelled() for page in waiting)
    assert (reads._waiting, reads._tasks) == ({}, set())


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
