"""How far users have read, over a restart of a server without Redis."""

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import select

from chat_server.archive import keeping_cursors
from chat_server.archive.keeping_cursors import CursorKeeper
from chat_server.archive.tables import CURSORS
from chat_server.broker.memory import MemoryBroker
from chat_server.client import Reader, connect
from chat_server.database.database import Database
from chat_server.events import Position
from tests.rig.server import ServerProcess, mint

from ..broker.helpers import TOPIC
from ..broker.test_changes import say
from ..rig.clock import ManualClock
from .helpers import ALL, started


def keeper(database: Database, broker: MemoryBroker, most: int = 1_000) -> CursorKeeper:
    return CursorKeeper(database, broker.cursors, lambda topic: topic != "open:a", most)


async def after_restart(
    database: Database, before: MemoryBroker, *, most: int = 1_000, new_epoch: bool = False
) -> MemoryBroker:
    """Return the broker of the next process, which begins with the topics as they were."""
    broker = await started()
    for topic in (TOPIC, "open:a"):
        page = await before.history(topic, limit=0)
        broker.restore(topic, Position(page.epoch, page.seq), [], ALL, new_epoch=new_epoch)
    await keeper(database, broker, most).restore()
    return broker


async def cursor(broker: MemoryBroker, user: str, topic: str = TOPIC) -> int:
    return (await broker.cursors.unread([topic], user))[0].cursor


async def readers(broker: MemoryBroker) -> list[tuple[str, int]]:
    (found,) = await broker.cursors.unread([TOPIC], "eve", [TOPIC])
    return [(each.user, each.seq) for each in found.readers or ()]


async def rows(database: Database) -> set[tuple[str, int]]:
    async with database.session(read_only=True) as session:
        found = await session.execute(select(CURSORS.c.user_id, CURSORS.c.seq))
        return {(user, seq) for user, seq in found}


@pytest.mark.parametrize("new_epoch", [False, True])
async def test_cursors_and_readers_go_on(
    database: Database, monkeypatch: pytest.MonkeyPatch, new_epoch: bool
) -> None:
    monkeypatch.setattr(keeping_cursors, "ROWS_AT_ONCE", 2)
    broker = await started()
    kept = keeper(database, broker)
    await kept.restore()
    for topic in (TOPIC, "open:a"):
        for _ in range(3):
            await say(broker, topic=topic, retention=ALL)
    await broker.cursors.move("open:a", "ann", 2)
    for user, seq in (("ann", 1), ("bob", 2), ("eve", 3)):
        await broker.cursors.move(TOPIC, user, seq, shown=user != "bob")
    await kept.write()
    await broker.cursors.move(TOPIC, "ann", 3, shown=True)
    await broker.cursors.forget("eve")
    await kept.write()
    await kept.write()
    assert await rows(database) == {("ann", 3), ("bob", 2)}, "of archived topics, and no others"
    again = await after_restart(database, broker, new_epoch=new_epoch)
    assert [await cursor(again, user) for user in ("ann", "bob", "eve")] == [3, 2, 0]
    assert await cursor(again, "ann", "open:a") == 0
    assert await readers(again) == [("ann", 3)]
    assert (await again.cursors.move(TOPIC, "bob", 3, shown=True)).moved


async def test_a_topic_that_has_begun_anew_is_unread(database: Database) -> None:
    broker = await started()
    kept = keeper(database, broker)
    await kept.restore()
    for _ in range(3):
        await say(broker, retention=ALL)
    await broker.cursors.move(TOPIC, "ann", 3, shown=True)
    await kept.write()
    again = await started()
    await keeper(database, again).restore()
    for _ in range(3):
        await say(again, retention=ALL)
    assert (await cursor(again, "ann"), await readers(again)) == (0, [])


async def test_cursors_end_when_they_would_have(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = ManualClock()
    broker = await started(clock)
    kept = keeper(database, broker)
    await kept.restore()
    await say(broker, retention=ALL)
    for number in range(4):
        await broker.cursors.move(TOPIC, f"user{number}", 1)
        clock.advance(1_000)
    await kept.write()
    few = await after_restart(database, broker, most=2)
    assert [await cursor(few, f"user{number}") for number in range(4)] == [0, 0, 1, 1]
    left = 30 * 86_400 - 3_500
    now = keeping_cursors._now()
    monkeypatch.setattr(keeping_cursors, "_now", lambda: now + left * 1_000)
    late = await after_restart(database, broker)
    assert [await cursor(late, f"user{number}") for number in range(4)] == [0, 1, 1, 1]
    assert len(await rows(database)) == 3


async def test_what_could_not_be_written_is_written_later(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = await started()
    kept = keeper(database, broker)
    await kept.restore()
    await say(broker, retention=ALL)
    await broker.cursors.move(TOPIC, "ann", 1)
    with monkeypatch.context() as broken:
        broken.setattr(kept, "_upsert", lambda rows: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            await kept.write()
    kept.start()
    await kept.stop()
    assert await rows(database) == {("ann", 1)}


async def test_a_room_that_was_read_is_read_after_a_restart(tmp_path: Path) -> None:
    environ = {
        "CHAT_DATABASE__URL": f"sqlite+aiosqlite:///{tmp_path / 'chat.db'}",
        "CHAT_NAMESPACES__DEFAULT__ARCHIVE": "true",
        "CHAT_NAMESPACES__DEFAULT__READ_RECEIPTS": "true",
    }
    with ServerProcess(environ=environ) as server:
        async with (
            connect(server.url, token=mint("ann")) as ann,
            connect(server.url, token=mint("bob")) as bob,
        ):
            for number in range(5):
                await ann.publish("room:a", number)
            assert (await bob.read("room:a", 4)).unread == 1
        assert await asyncio.to_thread(server.stop) == 0
        await asyncio.to_thread(server.start)
        async with (
            connect(server.url, token=mint("ann"), start_wait=60) as ann,
            connect(server.url, token=mint("bob"), start_wait=60) as bob,
        ):
            found = (await bob.unread("room:a"))["room:a"]
            assert (found.read, found.unread) == (4, 1)
            told = (await ann.unread("room:a", readers=True))["room:a"].readers
            assert told == [Reader("bob", 4)]
