"""What leaves the archive: what is old, and what a user wants erased; and an export before."""

import asyncio
import json
from typing import Any

from click.testing import CliRunner, Result
from sqlalchemy import func, select

from chat_server.archive import keeping
from chat_server.archive.reader import ArchiveReader
from chat_server.archive.tables import CHANGES, MESSAGES
from chat_server.cli.commands import main
from chat_server.database.database import Database
from chat_server.settings import DatabaseSettings

from ..broker.helpers import TOPIC
from ..broker.test_changes import ANN, BOB, append, appended, edit, react, say
from ..rig.clock import ManualClock
from .helpers import ALL, archive, started


async def everything(database: Database) -> str:
    async with database.session(read_only=True) as session:
        rows = [*(await session.execute(select(MESSAGES))).all()]
        rows += (await session.execute(select(CHANGES))).all()
    return repr(rows)


async def test_old_messages_go_with_their_changes(database: Database, monkeypatch: Any) -> None:
    monkeypatch.setattr(keeping, "ROWS_AT_ONCE", 2)
    clock = ManualClock()
    broker = await started(clock)
    for topic in ("room:a", "keep:b"):
        for number in range(7):
            await say(broker, f"old {number}", topic=topic, retention=ALL)
    await say(broker, "old", retention=ALL)
    clock.advance(100)
    await broker.change(edit(1, "still old"))
    for topic in ("room:a", "keep:b", TOPIC):
        await say(broker, "new", topic=topic, retention=ALL)
        await archive(database, broker, topic)

    def lifetime(topic: str) -> float:
        return 0.0 if topic.startswith("keep") else 50.0

    assert await keeping.expire(database, lifetime, clock.time()) == 8
    reader = ArchiveReader(database)
    for topic, texts in (("room:a", ["new"]), (TOPIC, ["new"])):
        found = await reader.messages(topic, limit=99, max_bytes=10_000)
        assert [json.loads(each.payload)["data"] for each in found.events] == texts
    kept = await reader.messages("keep:b", limit=99, max_bytes=10_000)
    assert len(kept.events) == 8
    assert "still old" not in await everything(database)
    stretch = await reader.events(TOPIC, after=0, limit=99, max_bytes=10_000)
    assert stretch is not None
    assert not stretch.whole
    assert await keeping.expire(database, lifetime, clock.time()) == 0


async def test_changes_of_every_era_go_with_their_messages(database: Database) -> None:
    clock = ManualClock()
    before = await started(clock)
    for number in range(4):
        await say(before, f"old {number}", retention=ALL)
    await before.change(edit(4, "still old"))
    await archive(database, before)
    after = await started(clock)  # its store has lost everything
    await say(after, "old, too", retention=ALL)
    await archive(database, after)
    clock.advance(100)
    assert await keeping.expire(database, lambda _: 50.0, clock.time()) == 5
    assert await everything(database) == "[]"


async def test_a_user_is_exported_and_erased(database: Database) -> None:
    broker = await started()
    for number in range(3):
        await say(broker, f"ann {number}", sender=ANN, retention=ALL)
        await say(broker, f"bob {number}", sender=BOB, retention=ALL)
    await broker.change(edit(1, "ann edited"))
    await appended(broker, append(3, " ann appended"))
    await broker.change(react(2, "+", sender=ANN))
    await broker.change(react(2, "+", sender=BOB))
    await broker.change(react(4, "-", sender=ANN))
    await archive(database, broker)
    lines = [json.loads(line) async for line in keeping.export(database, "ann")]
    assert [line["data"] for line in lines] == ["ann edited", "ann 1 ann appended", "ann 2"]
    erased = await keeping.erase(database, "ann")
    assert (erased.messages, erased.changes, erased.reactions) == (3, 4, 2)
    assert "ann" not in await everything(database)
    found = await ArchiveReader(database).messages(TOPIC, limit=99, max_bytes=10_000)
    left = [json.loads(each.payload) for each in found.events]
    assert [message["data"] for message in left] == ["bob 0", "bob 1", "bob 2"]
    assert left[0]["reactions"] == {"+": {"count": 1, "users": ["bob"]}}
    assert "reactions" not in left[1]


async def test_what_an_erased_user_wrote_into_messages_of_others_goes(database: Database) -> None:
    broker = await started()
    await say(broker, "bob wrote", sender=BOB, retention=ALL)
    await broker.change(edit(1, "ann put in", sender=ANN, moderator=True))
    await say(broker, "bob too", sender=BOB, retention=ALL)
    await broker.change(edit(3, "bob again", sender=BOB))
    await appended(broker, append(3, "bob again", " and ann", sender=ANN, moderator=True))
    await archive(database, broker)
    await keeping.erase(database, "ann")
    assert "ann" not in await everything(database)
    found = await ArchiveReader(database).messages(TOPIC, limit=99, max_bytes=10_000)
    texts = [json.loads(each.payload)["data"] for each in found.events]
    assert texts == ["bob wrote", "bob again"]


async def test_an_erasure_leaves_others_whose_messages_have_the_same_place(
    database: Database,
) -> None:
    before = await started()
    await say(before, "ann", sender=ANN, retention=ALL)
    await before.change(edit(1, "ann edited"))
    await archive(database, before)
    after = await started()  # its store has lost everything
    await say(after, "bob", sender=BOB, retention=ALL)
    await after.change(edit(1, "bob edited", sender=BOB))
    await archive(database, after)
    erased = await keeping.erase(database, "ann")
    assert (erased.messages, erased.changes) == (1, 1)
    left = await everything(database)
    assert "ann" not in left
    assert left.count("bob edited") >= 2  # in the message, and in its change


def command(settings: DatabaseSettings, *arguments: str, answer: str = "") -> Result:
    environ = {"CHAT_ENVIRONMENT": "testing", "CHAT_DATABASE__URL": settings.url}
    return CliRunner(env=environ).invoke(main, ["archive", *arguments], input=answer)


async def test_the_erasure_is_asked_for(
    database: Database, database_settings: DatabaseSettings
) -> None:
    broker = await started()
    await say(broker, "ann", sender=ANN, retention=ALL)
    await archive(database, broker)
    no = await asyncio.to_thread(command, database_settings, "erase", "--user", "ann", answer="n\n")
    assert no.exit_code == 1
    shown = await asyncio.to_thread(command, database_settings, "export", "--user", "ann")
    assert json.loads(shown.stdout)["data"] == "ann"
    yes = await asyncio.to_thread(command, database_settings, "erase", "--user", "ann", "--yes")
    assert yes.stdout == "erased 1 messages, 0 changes and 0 reactions\n"
    async with database.session(read_only=True) as session:
        assert await session.scalar(select(func.count()).select_from(MESSAGES)) == 0


async def test_one_message_is_erased_with_its_changes(database: Database) -> None:
    broker = await started(ManualClock())
    for number in range(3):
        await say(broker, f"secret {number}", retention=ALL)
    await broker.change(edit(2, "still secret"))
    await broker.change(edit(3, "others stay"))
    await archive(database, broker)
    assert await keeping.erase_message(database, TOPIC, 9) == 0
    assert await keeping.erase_message(database, "room:other", 2) == 0
    assert await keeping.erase_message(database, TOPIC, 2) == 2
    left = await everything(database)
    assert "secret 1" not in left
    assert "still secret" not in left
    found = await ArchiveReader(database).messages(TOPIC, limit=9, max_bytes=10_000)
    assert [json.loads(each.payload)["data"] for each in found.events] == [
        "secret 0",
        "others stay",
    ]


async def test_the_command_erases_one_message(
    database_settings: DatabaseSettings, database: Database
) -> None:
    broker = await started(ManualClock())
    await say(broker, "secret", retention=ALL)
    await archive(database, broker)
    one = (database_settings, "delete", TOPIC, "1")
    no = await asyncio.to_thread(command, *one, answer="n\n")
    assert no.exit_code == 1
    yes = await asyncio.to_thread(command, *one, "--yes")
    assert yes.stdout == f"erased message 1 of {TOPIC} and 0 changes of it\n"
    again = await asyncio.to_thread(command, *one, "--yes")
    assert (again.exit_code, again.stdout) == (1, "")
    assert f"the archive has no message 1 of '{TOPIC}'" in again.stderr
