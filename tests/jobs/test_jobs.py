"""Jobs are done at least once, retried, bounded, and named in the log when they fail."""

import asyncio
import logging
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from chat_server import errors
from chat_server.extension import ChatServer
from chat_server.jobs import Jobs
from chat_server.jobs import jobs as module
from chat_server.settings import RedisSettings, SettingsError
from tests.docs.markdown import ROOT
from tests.rig.redis_cluster import RedisCluster
from tests.rig.redis_sentinel import SentinelTrio
from tests.rig.redis_server import RedisServer, patient, running
from tests.rig.waiting import until, until_async
from tests.server.inprocess import make_settings


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running(RedisServer(tmp_path_factory.mktemp("redis"))) as started:
        yield started


@pytest.fixture(params=["memory", "redis"])
async def jobs(request: pytest.FixtureRequest) -> AsyncIterator[Jobs]:
    url = request.getfixturevalue("redis").url if request.param == "redis" else ""
    jobs = Jobs(patient(url, prefix=f"t{request.node.name[-24:-1].replace('[', '.')}"))
    yield jobs
    await jobs.stop()


async def test_jobs_are_done(jobs: Jobs) -> None:
    done: list[Any] = []

    async def note(data: Any) -> None:
        done.append(data)

    jobs.register("note", note)
    await jobs.start()
    for number in range(5):
        await jobs.add("note", {"number": number, "ü": None})
    await until(lambda: len(done) == 5)
    assert sorted(each["number"] for each in done) == [0, 1, 2, 3, 4]
    assert done[0]["ü"] is None
    with pytest.raises(KeyError):
        await jobs.add("unknown", 1)
    with pytest.raises(errors.TooLarge):
        await jobs.add("note", "x" * 70_000)
    with pytest.raises(ValueError, match="before the server starts"):
        jobs.register("late", note)


async def test_a_job_that_fails_is_tried_again_and_then_given_up(
    jobs: Jobs, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BACKOFF", (timedelta(milliseconds=10),) * 2)
    tried: list[str] = []

    async def fail(data: str) -> None:
        tried.append(data)
        if data == "hangs":
            await asyncio.Event().wait()
        if data == "never" or tried.count(data) < 3:
            raise ZeroDivisionError

    jobs.register("fail", fail, attempts=3, timeout_seconds=0.2)
    await jobs.start()
    for data in ("third time", "never", "hangs"):
        await jobs.add("fail", data)
    await until(lambda: caplog.text.count("and is given up") == 1 and len(tried) == 9)
    assert sorted(tried) == sorted(["third time", "never", "hangs"] * 3)
    assert "job fail failed in attempt 3 of 3, and is given up" in caplog.text


def test_a_redis_that_is_away_is_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("chat_server.tests.docket")
    log.addFilter(filtering := module._OneLine())
    try:
        for cause in (ConnectionError("refused"), TimeoutError("late"), ZeroDivisionError("bug")):
            try:
                raise cause
            except Exception:
                log.exception("Error in scheduler loop")
    finally:
        log.removeFilter(filtering)
    warning, error = caplog.records
    assert (warning.levelname, warning.getMessage()) == ("WARNING", "jobs wait for Redis: refused")
    assert warning.exc_info is None
    assert (error.levelname, error.getMessage()) == ("ERROR", "Error in scheduler loop")


async def test_a_key_and_a_delay(jobs: Jobs) -> None:
    done: list[Any] = []

    async def note(data: Any) -> None:
        done.append(data)

    jobs.register("note", note)
    await jobs.start()
    for data in ("first", "second"):
        await jobs.add("note", data, key="one", delay_seconds=2)
    await jobs.add("note", "at once")
    await until(lambda: len(done) == 2)
    assert done == ["at once", "first"]


async def test_too_many_are_refused(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 3)

    async def never(data: Any) -> None:
        await asyncio.Event().wait()

    jobs.register("never", never)
    await jobs.start()
    for number in range(3):
        await jobs.add("never", number, delay_seconds=3_600)
    with pytest.raises(errors.Unavailable, match="too many jobs"):
        await jobs.add("never", 4)


async def test_a_redis_that_is_away(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    done: list[Any] = []

    async def note(data: Any) -> None:
        done.append(data)

    server = RedisServer(tmp_path)
    jobs = Jobs(RedisSettings(url=server.url, timeout_seconds=1.0))
    jobs.register("note", note)
    await jobs.start()
    with pytest.raises(errors.Unavailable):
        await jobs.add("note", 1)
    await asyncio.to_thread(server.start)
    try:

        async def added() -> bool:
            try:
                await jobs.add("note", 2)
            except errors.Unavailable:
                return False
            return True

        await until_async(added)
        await until(lambda: done == [2])
    finally:
        await jobs.stop()
        await asyncio.to_thread(server.stop)
    assert "a job cannot be added: Error" in caplog.text
    assert "jobs: Redis" in caplog.text
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("several", [RedisCluster, SentinelTrio])
async def test_several_servers(
    several: type[RedisCluster] | type[SentinelTrio], tmp_path: Path
) -> None:
    done: list[Any] = []

    async def note(data: Any) -> None:
        done.append(data)

    servers: Any = await asyncio.to_thread(several, tmp_path)
    await asyncio.to_thread(servers.start)
    try:
        jobs = Jobs(patient(servers.url))
        jobs.register("note", note)
        await jobs.start()
        await jobs.add("note", 1)
        await jobs.add("note", 2, delay_seconds=0.3)
        await until(lambda: sorted(done) == [1, 2])
        await jobs.stop()
    finally:
        await asyncio.to_thread(servers.stop)


async def test_the_acl_of_the_page_is_enough(
    redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    def page(name: str) -> str:
        return (ROOT / "docs" / name).read_text("utf-8")

    stores, jobs_page = await asyncio.to_thread(lambda: (page("stores.md"), page("jobs.md")))
    smallest = re.findall(r"ACL SETUSER chat (on >PASSWORD .*)", stores)[0].split()
    [more] = re.findall(r"needs besides `(.*)`", jobs_page)
    admin: Any
    async with Redis.from_url(redis.url) as admin:
        rules = [part.replace("PASSWORD", "secret") for part in (*smallest, *more.split())]
        await admin.execute_command("ACL", "SETUSER", "worker", *rules)
        await admin.execute_command("ACL", "LOG", "RESET")
        done: list[Any] = []

        async def note(data: Any) -> None:
            done.append(data)

        url = redis.url.replace("redis://", "redis://worker:secret@")
        jobs = Jobs(patient(url))
        jobs.register("note", note)
        await jobs.start()
        await jobs.add("note", 1)
        await jobs.add("note", 2, key="k", delay_seconds=0.3)
        await until(lambda: sorted(done) == [1, 2])
        await jobs.stop()
        assert await admin.execute_command("ACL", "LOG") == []
    assert caplog.text == ""


async def test_a_job_that_hangs_does_not_hold_up_the_end(caplog: pytest.LogCaptureFixture) -> None:
    begun = asyncio.Event()

    async def hang(data: Any) -> None:
        begun.set()
        await asyncio.Event().wait()

    jobs = Jobs(RedisSettings())
    jobs.register("hang", hang)
    await jobs.start()
    await jobs.add("hang", 1)
    await begun.wait()
    await jobs.stop()
    assert "does not end" not in caplog.text
    with pytest.raises(errors.Unavailable):
        await jobs.add("hang", 1)


async def test_a_server_starts_and_stops_them() -> None:
    done: list[Any] = []

    async def note(data: Any) -> None:
        done.append(data)

    chat = ChatServer(make_settings())
    chat.jobs.register("note", note)
    await chat.start()
    await chat.jobs.add("note", 7)
    await until(lambda: done == [7])
    await chat.stop()


def test_nothing_is_imported_without_jobs() -> None:
    code = (
        "import asyncio, sys\n"
        "from chat_server import ChatServer, load_settings\n"
        "chat = ChatServer(load_settings(environ={'CHAT_ENVIRONMENT': 'testing'}))\n"
        "async def main():\n"
        "    await chat.start(); await chat.stop()\n"
        "asyncio.run(main())\n"
        "names = ('docket', 'typer', 'cloudpickle', 'redis')\n"
        "print([name for name in names if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_without_pydocket_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    async def note(data: Any) -> None: ...

    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SettingsError, match=r"pip install 'quart-chat\[jobs\]'"):
        Jobs(RedisSettings()).register("note", note)
    assert logging.getLogger("docket")
