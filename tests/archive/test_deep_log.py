"""History and resumes go on below the store without a seam."""

from typing import Any

import pytest

from chat_server.archive.deep_log import DeepLog
from chat_server.archive.reader import ArchiveReader
from chat_server.archive.restoring import note_end, restore
from chat_server.broker.memory import MemoryBroker
from chat_server.database.database import Database
from chat_server.events import HistoryPage, Position, Retention
from chat_server.realtime.recovery import recover_since
from chat_server.service.drafts import message_draft

from ..broker.helpers import TOPIC
from ..broker.test_changes import ANN, edit, react, say
from .helpers import ALL, FEW, archive, chatter, started

Pair = tuple[MemoryBroker, DeepLog]


@pytest.fixture
async def logs(database: Database) -> Pair:
    """A log that keeps everything, and one that keeps little above an archive."""
    whole, short = await started(), await started()
    for seed in range(8):
        await chatter([whole, short], 30, seed)
        await archive(database, short)
    # Behind the writer.
    await chatter([whole, short], 10, 99)
    short_page = await short.history(TOPIC, limit=10_000)
    whole_page = await whole.history(TOPIC, limit=10_000)
    assert short_page.seq == whole_page.seq
    assert len(short_page.events) < len(whole_page.events) / 3
    return whole, DeepLog(short, ArchiveReader(database), lambda topic: True)


def payloads(page: HistoryPage) -> list[bytes]:
    return [event.payload for event in page.events]


async def same_page(logs: Pair, **asked: Any) -> HistoryPage:
    whole, deep = logs
    expected = await whole.history(TOPIC, **asked)
    found = await deep.history(TOPIC, **asked)
    assert (payloads(found), found.more) == (payloads(expected), expected.more), asked
    assert (found.seq, found.missing) == (expected.seq, expected.missing), asked
    return found


@pytest.mark.parametrize(("limit", "max_bytes"), [(7, 1_000_000), (10_000, 900), (64, 10_000)])
async def test_pages_are_those_of_a_store_that_keeps_everything(
    logs: Pair, limit: int, max_bytes: int
) -> None:
    asked = {"limit": limit, "max_bytes": max_bytes, "folded": True}
    before: int | None = None
    pages = 0
    while True:
        page = await same_page(logs, newest=True, before=before, **asked)
        pages += 1
        if not page.more:
            break
        before = page.events[0].seq
    after = 0
    while True:
        page = await same_page(logs, after=after, **asked)
        if not page.more:
            break
        after = page.events[-1].seq
    assert pages > 1


async def test_a_resume_that_is_expired_in_the_store_is_whole(logs: Pair) -> None:
    whole, deep = logs
    last = (await whole.history(TOPIC, limit=0)).seq
    for since in range(0, last, 7):
        page = await deep.history(TOPIC, after=since, limit=1_000, max_bytes=1_000_000)
        assert payloads(page) == payloads(await whole.history(TOPIC, after=since, limit=1_000))
        recovery = recover_since(Position(page.epoch, since), page, max_replay=1_000)
        assert recovery.recovered
        for limit in (1, 50):
            await same_page(logs, after=since, limit=limit)
    page = await deep.history(TOPIC, after=0, limit=1_000)
    assert recover_since(Position(page.epoch, 0), page, max_replay=10).reason == "too_far_behind"


async def test_a_resume_over_a_gap_is_not_recovered(database: Database) -> None:
    broker = await started()
    lossy = Retention(2, 3_600.0)
    for _ in range(3):
        await say(broker, retention=lossy)
    await archive(database, broker)
    for _ in range(5):
        await say(broker, retention=lossy)
    await archive(database, broker)
    deep = DeepLog(broker, ArchiveReader(database), lambda topic: True)
    page = await deep.history(TOPIC, after=1, limit=100)
    assert recover_since(Position(page.epoch, 1), page, max_replay=100).reason == "expired"


async def test_without_the_database_history_ends_where_the_store_does_and_says_so(
    logs: Pair, database: Database
) -> None:
    _, deep = logs
    await database.stop()
    page = await deep.history(TOPIC, limit=10_000, newest=True, folded=True)
    assert page.more
    assert page.events
    assert (await deep.history(TOPIC, after=1, limit=10, folded=True)).events
    page = await deep.history(TOPIC, after=1, limit=10)
    assert recover_since(Position(page.epoch, 1), page, max_replay=1_000).reason == "expired"


async def test_topics_of_other_namespaces_cost_no_query(database: Database) -> None:
    broker = await started()
    await say(broker)
    deep = DeepLog(broker, ArchiveReader(database), lambda topic: False)
    await database.stop()
    page = await deep.history(TOPIC, limit=10, newest=True, folded=True)
    assert (len(page.events), page.more) == (1, False)


@pytest.mark.parametrize("in_order", [True, False])
async def test_the_memory_broker_goes_on_after_a_restart(
    database: Database, in_order: bool
) -> None:
    before = await started()
    await chatter([before], 120)
    await archive(database, before)
    stood = await before.history(TOPIC, limit=10_000, folded=True)
    if in_order:
        await restore(database, await started(), lambda topic: ALL, max_topics=10)
        await note_end(database)
    again = await started()
    await restore(database, again, lambda topic: ALL, max_topics=10)
    page = await again.history(TOPIC, limit=10_000, folded=True)
    assert (payloads(page), page.seq) == (payloads(stood), stood.seq)
    assert (page.epoch == stood.epoch) == in_order
    assert page.epoch_start == (0 if in_order else stood.seq)
    # What is restored can be changed as ever.
    target = next(e.seq for e in reversed(page.events) if b'"deleted"' not in e.payload)
    for broker in (before, again):
        await broker.change(edit(target, "later", moderator=True))
        await broker.change(react(target, "!"))
    now = await before.history(TOPIC, after=target - 1, limit=1, folded=True)
    assert payloads(await again.history(TOPIC, after=target - 1, limit=1, folded=True)) == (
        payloads(now)
    )
    await archive(database, again)
    found = await ArchiveReader(database).messages(TOPIC, limit=10_000, max_bytes=10**8)
    expected = await before.history(TOPIC, limit=10_000, folded=True)
    assert [each.payload for each in found.events] == payloads(expected)


async def test_a_topic_that_has_begun_is_not_restored(database: Database) -> None:
    before = await started()
    await say(before, "old", retention=ALL)
    await archive(database, before)
    again = await started()
    await again.publish(message_draft(TOPIC, ANN, b'"new"', FEW, None))
    await restore(database, again, lambda topic: ALL, max_topics=10)
    page = await again.history(TOPIC, limit=10)
    assert (page.seq, len(page.events)) == (1, 1)
