"""`chat-server outbox`, from the outside."""

import asyncio

from click.testing import CliRunner, Result
from sqlalchemy import MetaData, insert, select
from sqlalchemy.ext.asyncio import create_async_engine

from chat_server.cli.commands import main
from chat_server.outbox import Outbox
from chat_server.settings import DatabaseSettings

OUTBOX = Outbox(MetaData())
"""Of an application, whose database has nothing else of ours."""


def run(*arguments: str, **environ: str) -> Result:
    return CliRunner(env={"CHAT_ENVIRONMENT": "testing", **environ}).invoke(
        main, ["outbox", *arguments]
    )


async def park(url: str) -> None:
    rows, parked, _ = OUTBOX.tables
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        await connection.run_sync(rows.metadata.create_all)
        for id, topic in enumerate(["order:1", "order:1", "order:2"], 1):
            row = (id, topic, str(id), None, str(id), True, 1)
            await connection.execute(insert(rows).values(row))
        for id, topic in ((1, "order:1"), (3, "order:2")):
            error, at = "data: is\x1b[2J too large", 1_700_000_000_000
            await connection.execute(insert(parked).values((topic, id, error, at)))
    await engine.dispose()


async def _waiting(url: str) -> list[tuple[int, bool]]:
    rows = OUTBOX.tables.rows
    engine = create_async_engine(url)
    async with engine.connect() as connection:
        found = await connection.execute(select(rows.c.id, rows.c.parked).order_by(rows.c.id))
        listed = [(row.id, row.parked) for row in found]
    await engine.dispose()
    return listed


def test_parked_topics_are_listed_tried_again_and_relieved(
    empty_database: DatabaseSettings,
) -> None:
    url = empty_database.url
    asyncio.run(park(url))
    why = "data: is␛[2J too large"
    assert run("list", "--database", url).output.splitlines() == [
        f"order:1: parked since 2023-11-14T22:13:20.000Z, 2 messages: {why}",
        f"order:2: parked since 2023-11-14T22:13:20.000Z, 1 message: {why}",
    ]
    retried = run("retry", "order:1", OUTBOX_URL=url)
    assert (retried.output, retried.exit_code) == ("order:1 goes on\n", 0)
    # Also the server's own database may have it.
    dropped = run("drop", "order:2", CHAT_DATABASE__URL=url)
    assert dropped.output == "order:2 goes on without its first message\n"
    assert asyncio.run(_waiting(url)) == [(1, False), (2, False)]
    assert run("list", "--database", url).output == ""


def test_what_cannot_be_done_is_one_line(empty_database: DatabaseSettings) -> None:
    url = empty_database.url
    none = run("list", CHAT_DATABASE__URL=url)
    assert none.exit_code == 1
    assert none.stderr.startswith("chat-server: the outbox cannot be used: ")
    assert "chat_outbox_parked" in none.stderr
    asyncio.run(park(url))
    for command in ("retry", "drop"):
        other = run(command, "order:9", "--database", url)
        assert (other.exit_code, other.stderr) == (
            1,
            "chat-server: topic: is not parked: `chat-server outbox list` names those that are\n",
        )
    absent = run("list")
    assert (absent.exit_code, absent.stderr) == (
        2,
        "chat-server: database.url: is not set: set CHAT_DATABASE__URL\n",
    )
