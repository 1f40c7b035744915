"""The archive of a real server: over restarts, kills of the writer and of the database."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chat_server.client import connect

from ..rig.postgres_server import PostgresServer
from ..rig.redis_server import RedisServer, running
from ..rig.server import ROOT, ServerProcess, mint
from ..rig.waiting import until_async

ROOM = "room:lasting"


def token(user: str = "ada") -> str:
    return mint(user, publish=["**"], history=["**"], subscribe=["**"])


async def everything(url: str) -> tuple[str, list[Any]]:
    async with connect(url, token=token(), start_wait=60) as chat:
        page = await chat.history(ROOM, limit=300)
        return page.epoch, [message.data for message in page.messages]


async def test_conversations_go_on_after_a_restart(tmp_path: Path) -> None:
    environ = {
        "CHAT_DATABASE__URL": f"sqlite+aiosqlite:///{tmp_path / 'chat.db'}",
        "CHAT_NAMESPACES__DEFAULT__ARCHIVE": "true",
        "CHAT_NAMESPACES__DEFAULT__HISTORY_SIZE": "5",
    }
    with ServerProcess(environ=environ) as server:
        texts = [f"text {number}" for number in range(12)]
        async with connect(server.url, token=token()) as chat:
            for text in texts:
                await chat.publish(ROOM, text)
            position = await chat.position(ROOM)
        epoch, found = await everything(server.url)
        assert found[-5:] == texts[-5:]
        assert await asyncio.to_thread(server.stop) == 0
        await asyncio.to_thread(server.start)
        again, found = await everything(server.url)
        assert (again, found) == (epoch, texts)
        async with (
            connect(server.url, token=token()) as chat,
            chat.subscribe(ROOM, since=position) as room,
        ):
            await chat.publish(ROOM, "later")
            async with asyncio.timeout(90):
                event: Any = await anext(aiter(room))
            assert (event.data, event.seq) == ("later", 13), "nothing was said to be lost"
            hits = (await chat.search("text", limit=100)).hits
        assert len(hits) == 12


@pytest.fixture
def postgres() -> Iterator[PostgresServer]:
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.stop()


# Another worker waits 15 s before it takes a lease whose holder was killed.
@pytest.mark.extra
@pytest.mark.timeout(300)
async def test_what_was_acknowledged_is_archived_whoever_is_killed(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    url = await asyncio.to_thread(postgres.create, "chat")
    environ = {
        "CHAT_DATABASE__URL": url,
        "CHAT_DATABASE__MIGRATE": "true",
        "CHAT_NAMESPACES__DEFAULT__ARCHIVE": "true",
        "CHAT_NAMESPACES__DEFAULT__HISTORY_SIZE": "20",
        "CHAT_LOG__LEVEL": "INFO",
        "CHAT_LIMITS__MESSAGES_PER_SECOND": "100000",
        "CHAT_LIMITS__MESSAGE_BURST": "100000",
    }
    acknowledged: dict[str, dict[int, str]] = {}
    with running(RedisServer(tmp_path, durable=True)) as redis:
        flags = ("--workers", "2", "--redis-url", redis.url)
        server = ServerProcess(*flags, environ=environ)
        await asyncio.to_thread(server.__enter__)
        talk = asyncio.create_task(talk_for_ever(server.url, acknowledged))
        try:
            await until_async(lambda: grows(acknowledged, 100))
            writer = await writer_of(server)
            os.kill(writer, signal.SIGKILL)
            await until_async(lambda: grows(acknowledged, 300))
            await asyncio.to_thread(postgres.kill)
            await until_async(lambda: grows(acknowledged, 600))
            await asyncio.to_thread(postgres.start)
            await until_async(lambda: grows(acknowledged, 900))
            await end(talk)
            await until_async(lambda: is_archived(postgres, acknowledged), seconds=120)
            gaps = await asyncio.to_thread(
                postgres.execute, "SELECT count(*) FROM chat_archive_gaps", "chat"
            )
            assert gaps == "0"
            assert await asyncio.to_thread(server.stop) == 0
        finally:
            await end(talk)
            await asyncio.to_thread(server.__exit__, RuntimeError, None, None)


async def end(talk: "asyncio.Task[None]") -> None:
    talk.cancel()
    await asyncio.wait([talk])


async def talk_for_ever(url: str, acknowledged: dict[str, dict[int, str]]) -> None:
    async with connect(url, token=token(), start_wait=60) as chat:
        number = 0
        while True:
            topic, text = f"room:{number % 7}", f"text {number}"
            # The worker that is killed may be the client's.
            place = await chat.publish(topic, text, key=text, wait=True)
            acknowledged.setdefault(topic, {})[place.seq] = text
            number += 1


async def grows(acknowledged: dict[str, dict[int, str]], count: int) -> bool:
    return sum(map(len, acknowledged.values())) >= count


async def writer_of(server: ServerProcess) -> int:
    async def is_said() -> bool:
        return "this worker runs the consumers" in server.stderr

    await until_async(is_said)
    [found] = re.findall(r"(\d+)\] \S+: this worker runs the consumers", server.stderr)
    return int(found)


async def is_archived(postgres: PostgresServer, acknowledged: dict[str, dict[int, str]]) -> bool:
    """Return whether every event that was acknowledged is a row, once and in its place."""
    query = (
        "SELECT json_agg(json_build_array(t.name, m.seq, convert_from(m.payload, 'UTF8')::json))"
        " FROM chat_archive_messages m JOIN chat_archive_topics t ON t.id = m.topic_id"
    )
    found = await asyncio.to_thread(postgres.execute, query, "chat")
    rows = json.loads(found or "[]") or []
    places = [(topic, seq) for topic, seq, _ in rows]
    assert len(places) == len(set(places)), "an event was archived twice"
    archived = {(topic, seq): payload["data"] for topic, seq, payload in rows}
    wanted = {(t, seq): text for t, texts in acknowledged.items() for seq, text in texts.items()}
    assert all(archived[place] == wanted[place] for place in wanted.keys() & archived.keys())
    return wanted.keys() <= archived.keys()


def test_the_process_ends_although_the_start_fails(tmp_path: Path) -> None:
    """A thread of SQLite's driver would keep it."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("CHAT_")}
    environ |= {
        "CHAT_ENVIRONMENT": "testing",
        "CHAT_SERVER__BIND": "127.0.0.1:0",
        "CHAT_DATABASE__URL": f"sqlite+aiosqlite:///{tmp_path / 'chat.db'}",
        "CHAT_DATABASE__MIGRATE": "false",
    }
    done = subprocess.run(
        [sys.executable, "-m", "chat_server", "serve"],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "run `chat-server database upgrade`" in done.stderr
