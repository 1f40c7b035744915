"""A server that is killed in the middle of an export goes on with it, and ends it once."""

import asyncio
import gzip
import json
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from chat_server.database import schema
from chat_server.settings import DatabaseSettings
from tests.rig.waiting import until

MESSAGES = 6_000
KILLS = 3

SERVER = """
import asyncio, sys

from chat_server.extension import ChatServer
from chat_server.settings import load_settings
from chat_server.user_data import exporting

exporting.MESSAGES_AT_ONCE = 20


async def main():
    flags = {"database.url": sys.argv[1], "namespaces.room.archive": True}
    chat = ChatServer(load_settings(environ={"CHAT_ENVIRONMENT": "testing"}, flags=flags))
    await chat.start()
    await chat.user_data.request_export("ada")
    await asyncio.Event().wait()


asyncio.run(main())
"""


def fill(file: Path) -> None:
    payload = (
        '{"type":"message","topic":"room:a","seq":%d,"at":1,"from":{"user":"ada"},"data":"n%d"}'
    )
    with closing(sqlite3.connect(file)) as rows, rows:
        rows.execute(
            "INSERT INTO chat_archive_topics (id, name, epoch, seq, at, era, base)"
            " VALUES (1, 'room:a', 'e', ?, 1, 0, 0)",
            [MESSAGES],
        )
        rows.executemany(
            "INSERT INTO chat_archive_messages (topic_id, era, seq, at, author, payload, content,"
            " version, edited_at, state) VALUES (1, 0, ?, 1, 'ada', ?, ?, ?, 0, '')",
            [
                (seq, (payload % (seq, seq)).encode(), len(f'"n{seq}"}}'), seq)
                for seq in range(1, MESSAGES + 1)
            ],
        )


def state(file: Path) -> tuple[int, bool]:
    """Return how many parts there are, and whether that is all."""
    with closing(sqlite3.connect(file, timeout=30)) as rows:
        found = rows.execute("SELECT parts, done_at FROM chat_user_requests").fetchone()
    return (0, False) if found is None else (found[0], found[1] is not None)


@pytest.mark.timeout(300)  # four processes are started, one behind the other
def test_an_export_goes_on_behind_a_kill(tmp_path: Path) -> None:
    file = tmp_path / "chat.db"
    url = f"sqlite+aiosqlite:///{file}"
    asyncio.run(schema.upgrade(DatabaseSettings(url=url)))
    fill(file)

    def start() -> "subprocess.Popen[bytes]":
        return subprocess.Popen([sys.executable, "-c", SERVER, url])

    server = start()
    try:
        killed_at = [0]
        for _ in range(KILLS):
            asyncio.run(until(lambda: state(file)[0] >= killed_at[-1] + 20))
            server.send_signal(signal.SIGKILL)
            server.wait()
            parts, done = state(file)
            assert not done
            killed_at.append(parts)
            server = start()
        asyncio.run(until(lambda: state(file)[1]))
    finally:
        server.kill()
        server.wait()
    assert killed_at == sorted(killed_at)
    with closing(sqlite3.connect(file)) as rows:
        contents = rows.execute("SELECT content FROM chat_user_exports ORDER BY number").fetchall()
    lines = gzip.decompress(b"".join(content for (content,) in contents)).splitlines()
    account, *messages = map(json.loads, lines)
    assert account == {"type": "user", "id": "ada"}
    assert [message["seq"] for message in messages] == list(range(1, MESSAGES + 1))
