"""What is archived is what was stored: every event once, in order, and messages as they now are."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import event, func, select, update

from chat_server.archive import writer as module
from chat_server.archive.reader import ArchiveReader
from chat_server.archive.tables import CHANGES, GAPS, MESSAGES, TOPICS
from chat_server.archive.writer import ArchiveWriter
from chat_server.broker.memory import MemoryBroker
from chat_server.consumers import reading
from chat_server.consumers.ports import Outdated
from chat_server.consumers.reading import read_batch
from chat_server.database.database import Database
from chat_server.events import Event, Retention
from chat_server.protocol.errors import Unavailable
from chat_server.settings import DatabaseSettings

from ..broker.helpers import TOPIC
from ..broker.test_changes import append, appended, delete, edit, say
from ..rig.postgres_server import PostgresServer
from .helpers import ALL, archive, chatter, started

EVERYTHING: Any = {"limit": 10_000, "max_bytes": 100_000_000}


async def logged(broker: MemoryBroker, *, folded: bool = False) -> list[Event]:
    return (await broker.history(TOPIC, **EVERYTHING, folded=folded)).events


async def archived(database: Database, *, folded: bool = False) -> list[Event]:
    reader = ArchiveReader(database)
    if folded:
        row = await reader.events(TOPIC, after=0, **EVERYTHING)
        epoch = "" if row is None else row.epoch
        return (await reader.messages(TOPIC, **EVERYTHING, epoch=epoch)).events
    stretch = await reader.events(TOPIC, after=0, **EVERYTHING)
    assert stretch is not None
    assert stretch.whole
    return stretch.events


@pytest.mark.parametrize("events", [500, 3])
async def test_the_archive_is_what_the_log_is(
    database: Database, events: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "BATCH_EVENTS", events)
    broker = await started()
    for seed in range(3):
        await chatter([broker], 80, seed)
        await archive(database, broker)
    assert len(await logged(broker)) > 150
    assert await archived(database) == await logged(broker)
    assert await archived(database, folded=True) == await logged(broker, folded=True)


async def test_a_crash_in_mid_batch_leaves_nothing_of_it(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = await started()
    await chatter([broker], 50)

    def die(*work: Any) -> None:
        write(*work)
        raise RuntimeError("killed")

    write = module._write
    with monkeypatch.context() as patched:
        patched.setattr(module, "_write", die)
        with pytest.raises(RuntimeError, match="killed"):
            await archive(database, broker)
    async with database.session(read_only=True) as session:
        for table in (TOPICS, MESSAGES, CHANGES):
            assert await session.scalar(select(func.count()).select_from(table)) == 0
    await archive(database, broker)
    assert await archived(database) == await logged(broker)


async def test_a_writer_that_is_behind_another_is_told_and_writes_nothing(
    database: Database,
) -> None:
    broker = await started()
    await chatter([broker], 10)
    writer = ArchiveWriter(database, lambda topic: True)
    batch = await read_batch(broker, TOPIC, None)
    await writer.take([batch])
    with pytest.raises(Outdated):
        await writer.take([batch])
    assert await archived(database) == await logged(broker)


async def test_topics_are_written_together_or_not_at_all(database: Database) -> None:
    broker = await started()
    for topic in ("room:a", "room:b"):
        await say(broker, "hello", topic=topic, retention=ALL)
    writer = ArchiveWriter(database, lambda topic: True)
    batches = [await read_batch(broker, topic, None) for topic in ("room:a", "room:b")]
    await writer.take(batches[1:])
    with pytest.raises(Outdated):
        await writer.take(batches)
    assert list(await writer.cursors(["room:a", "room:b"])) == ["room:b"]


async def test_a_gap_is_written_down(database: Database) -> None:
    broker = await started()
    few = Retention(2, 3_600.0)
    await say(broker, "one", retention=few)
    await archive(database, broker)
    for number in range(5):
        await say(broker, str(number), retention=few)
    await archive(database, broker)
    async with database.session(read_only=True) as session:
        gaps = (await session.execute(select(GAPS.c.first, GAPS.c.last))).all()
    assert [tuple(gap) for gap in gaps] == [(2, 4)]
    stretch = await ArchiveReader(database).events(TOPIC, after=0, **EVERYTHING)
    assert stretch is not None
    assert not stretch.whole
    stretch = await ArchiveReader(database).events(TOPIC, after=4, **EVERYTHING)
    assert stretch is not None
    assert stretch.whole
    assert [event.seq for event in stretch.events] == [5, 6]


async def test_what_is_deleted_is_nowhere_any_more(database: Database) -> None:
    broker = await started()
    seq = await say(broker, "first secret", retention=ALL)
    await broker.change(edit(seq, "second secret"))
    await appended(broker, append(seq, "third secret"))
    await archive(database, broker)
    await broker.change(delete(seq))
    await archive(database, broker)
    async with database.session(read_only=True) as session:
        rows = [
            *(await session.execute(select(MESSAGES))).all(),
            *(await session.execute(select(CHANGES))).all(),
        ]
    assert len(rows) == 4
    assert "secret" not in repr(rows)
    assert await archived(database) == await logged(broker)
    assert await archived(database, folded=True) == await logged(broker, folded=True)


async def test_a_store_that_begins_anew_begins_an_era(database: Database) -> None:
    before = await started()
    await chatter([before], 30)
    await archive(database, before)
    after = await started()
    for number in range(3):
        await say(after, f"new {number}", retention=ALL)
    await archive(database, after)
    assert await archived(database) == await logged(after)
    assert await archived(database, folded=True) == await logged(after, folded=True)
    async with database.session(read_only=True) as session:
        count = await session.scalar(select(func.count()).select_from(MESSAGES))
    assert count == 3 + len(await logged(before, folded=True)), "the earlier ones are kept"


async def test_an_epoch_that_lost_the_newest_events_replaces_them(database: Database) -> None:
    """As after a failover: the log ends earlier, and its seqs are given out again."""
    longer, shorter = await started(), await started()
    for broker in (longer, shorter):
        for number in range(4):
            await say(broker, f"kept {number}", retention=ALL)
    for number in range(3):
        await say(longer, f"lost {number}", retention=ALL)
    shorter._topics[TOPIC].log.epoch = longer._topics[TOPIC].log.epoch
    await archive(database, longer)
    await archive(database, shorter)
    await say(shorter, "new", retention=ALL)
    await archive(database, shorter)
    found = await archived(database, folded=True)
    assert [event.payload for event in found] == [
        event.payload for event in await logged(shorter, folded=True)
    ]
    reader = ArchiveReader(database)
    page = await reader.messages(TOPIC, limit=2, newest=True, max_bytes=10_000)
    assert ([event.seq for event in page.events], page.more) == ([4, 5], True)
    page = await reader.messages(TOPIC, limit=2, max_bytes=10_000)
    assert ([event.seq for event in page.events], page.more) == ([1, 2], True)
    await say(shorter, "newer", retention=ALL)
    await archive(database, shorter)
    page = await reader.messages(TOPIC, after=4, limit=1, max_bytes=10_000)
    assert ([event.seq for event in page.events], page.more) == ([5], True)


async def test_rows_that_somebody_has_written_are_left_out(database: Database) -> None:
    broker = await started()
    for number in range(3):
        await say(broker, f"text {number}", retention=ALL)
    await archive(database, broker)
    async with database.session() as session:
        await session.execute(update(MESSAGES).where(MESSAGES.c.seq == 2).values(payload=b"{no"))
    found = await archived(database, folded=True)
    assert [event.seq for event in found] == [1, 3]
    await broker.change(edit(2, "again"))
    await archive(database, broker)


async def test_without_the_database_nothing_is_lost(database: Database) -> None:
    broker = await started()
    await chatter([broker], 20)
    writer = ArchiveWriter(database, lambda topic: True)
    await database.stop()
    with pytest.raises(Unavailable):
        await writer.take([await read_batch(broker, TOPIC, None)])
    await database.start()
    await archive(database, broker)
    assert await archived(database) == await logged(broker)


async def test_a_full_database_is_caught_up_with_once_there_is_room(
    database_settings: DatabaseSettings,
) -> None:
    if not database_settings.url.startswith("sqlite"):
        pytest.skip("PostgreSQL has no such bound")
    database = Database(database_settings)
    await database.start()
    pages = 10_000

    def bound(connection: Any, record: object) -> None:
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA max_page_count = {pages}")
        cursor.close()

    event.listen(database.engine, "connect", bound)
    broker = await started()
    for number in range(2_000):
        await say(broker, f"{number} " + "x" * 500, retention=ALL)
    pages = 100
    await asyncio.to_thread(database.engine.dispose)
    with pytest.raises(Unavailable):
        await archive(database, broker)
    pages = 100_000
    await asyncio.to_thread(database.engine.dispose)
    await archive(database, broker)
    assert await archived(database) == await logged(broker)
    await database.stop()


async def test_a_database_that_can_only_be_read_is_read(
    database_settings: DatabaseSettings, request: pytest.FixtureRequest
) -> None:
    broker = await started()
    database = Database(database_settings)
    await database.start()
    await say(broker, "before", retention=ALL)
    await archive(database, broker)
    await database.stop()

    reading = Database(database_settings)
    if reading.dialect == "sqlite":

        def forbid(connection: Any, record: object) -> None:
            cursor = connection.cursor()
            cursor.execute("PRAGMA query_only = ON")
            cursor.close()

        event.listen(reading.engine, "connect", forbid)
    else:
        server: PostgresServer = request.getfixturevalue("postgres_server")
        name = database_settings.url.rpartition("/")[2]
        command = f"ALTER DATABASE {name} SET default_transaction_read_only = on"
        await asyncio.to_thread(server.execute, command)
    await reading.start()
    await say(broker, "after", retention=ALL)
    with pytest.raises(Unavailable):
        await archive(reading, broker)
    found = await archived(reading, folded=True)
    assert [each.seq for each in found] == [1]
    await reading.stop()
