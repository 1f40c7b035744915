"""What the archive has of a topic whose history is purged."""

import pytest

from chat_server.archive import purging
from chat_server.archive.purging import purge
from chat_server.archive.reader import ArchiveReader
from chat_server.archive.writer import ArchiveWriter
from chat_server.broker.memory import MemoryBroker
from chat_server.consumers.ports import Outdated
from chat_server.consumers.reading import read_batch
from chat_server.database.database import Database
from chat_server.events import Position

from ..broker.helpers import TOPIC
from ..broker.test_changes import edit, say
from .helpers import ALL, archive, started
from .test_keeping import everything


async def chatty() -> MemoryBroker:
    broker = await started()
    for number in range(5):
        await say(broker, f"secret {number}", retention=ALL)
    await broker.change(edit(1, "secret edit", retention=ALL))
    return broker


async def test_rows_go_and_the_archive_goes_on(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purging, "ROWS_AT_ONCE", 2)
    broker = await chatty()
    await say(broker, "elsewhere", topic="room:other", retention=ALL)
    for topic in (TOPIC, "room:other"):
        await archive(database, broker, topic)
    place = await broker.purge(TOPIC)
    await purge(database, TOPIC, place, create=True)
    left = await everything(database)
    assert "secret" not in left
    assert "elsewhere" in left
    await say(broker, "later", retention=ALL)
    await archive(database, broker)
    await purge(database, TOPIC, place, create=True)
    found = await ArchiveReader(database).messages(TOPIC, limit=9, max_bytes=10_000)
    assert [each.seq for each in found.events] == [7], "what follows the place stays"


@pytest.mark.parametrize("archived", [True, False])
async def test_what_was_read_before_is_not_written_behind(
    database: Database, archived: bool
) -> None:
    broker = await chatty()
    if archived:
        await archive(database, broker)
        await say(broker, "secret and late", retention=ALL)
    writer = ArchiveWriter(database, lambda _: True)
    batch = await read_batch(broker, TOPIC, (await writer.cursors([TOPIC])).get(TOPIC))
    place = await broker.purge(TOPIC)
    await purge(database, TOPIC, place, create=True)
    with pytest.raises(Outdated):
        await writer.take([batch])
    assert "secret" not in await everything(database)


async def test_a_store_that_stands_further_back_hides_nothing(database: Database) -> None:
    broker = await chatty()
    await archive(database, broker)
    await purge(database, TOPIC, Position("another", 2), create=True)
    assert "secret" not in await everything(database)
    cursors = await ArchiveWriter(database, lambda _: True).cursors([TOPIC])
    assert (cursors[TOPIC].epoch, cursors[TOPIC].seq) == ("another", 2)


async def test_a_topic_that_is_not_archived_gets_no_row(database: Database) -> None:
    await purge(database, TOPIC, Position("epoch", 2), create=False)
    assert await ArchiveWriter(database, lambda _: True).cursors([TOPIC]) == {}
