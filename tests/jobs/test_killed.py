"""The worker is killed three times: every job is done."""

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

from chat_server.jobs import Jobs
from chat_server.jobs.jobs import CONCURRENCY
from tests.rig.redis_server import RedisServer, patient, running
from tests.rig.waiting import until

JOBS = 300
KILLS = 3

WORKER = """
import asyncio, os, sys

from chat_server.jobs import Jobs
from chat_server.settings import RedisSettings

url, file = sys.argv[1:]
done = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)


async def work(number):
    await asyncio.sleep(0.005)
    os.write(done, b"%d\\n" % number)


async def main():
    jobs = Jobs(RedisSettings(url=url, timeout_seconds=20.0), redelivery_seconds=2.0)
    jobs.register("work", work)
    await jobs.start()
    await asyncio.Event().wait()


asyncio.run(main())
"""


async def test_all_jobs_are_done_though_the_worker_is_killed(tmp_path: Path) -> None:
    file = tmp_path / "done"
    file.touch()
    with running(RedisServer(tmp_path)) as redis:
        await add(redis.url)
        worker = start(redis.url, file)
        try:
            for kill in range(1, KILLS + 1):
                await until(lambda kill=kill: len(numbers(file)) >= kill * 60)  # type: ignore[misc]
                worker.send_signal(signal.SIGKILL)
                await asyncio.to_thread(worker.wait)
                worker = start(redis.url, file)
            await until(lambda: len(set(numbers(file))) == JOBS, 90.0)
        finally:
            worker.kill()
            await asyncio.to_thread(worker.wait)
    times = Counter(numbers(file))
    assert set(times) == set(range(JOBS))
    # At least once: what was under way at a kill may be done again.
    assert times.total() - JOBS <= KILLS * CONCURRENCY


async def add(url: str) -> None:
    """Add all jobs from a process that does none of them."""

    async def not_here(number: int) -> None:
        await asyncio.Event().wait()

    jobs = Jobs(patient(url))
    jobs.register("work", not_here)
    await jobs.start()
    for number in range(JOBS):
        await jobs.add("work", number, delay_seconds=1.0)
    await jobs.stop()


def start(url: str, file: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", WORKER, url, str(file)], env=dict(os.environ))


def numbers(file: Path) -> list[int]:
    return [int(line) for line in file.read_bytes().split()]
