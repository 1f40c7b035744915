"""Signals, and ends of workers, at the moments that suit a supervisor least."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig.redis_server import RedisServer
from tests.rig.server import ServerProcess
from tests.rig.waiting import until

from .processes import pending, ready_workers, runs, state, workers

LONG = 180.0


class Gate:
    """Workers do not start while it is shut."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def shut(self) -> None:
        self.path.touch()

    def open(self) -> None:
        self.path.unlink()


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path / "gate")


@pytest.fixture
def server(redis: RedisServer, gate: Gate) -> Iterator[ServerProcess]:
    flags = ("--workers", "2", "--redis-url", redis.url)
    environ = {
        "CHAT_LOG__LEVEL": "INFO",
        # Nobody is to be killed for what a test does to it.
        "CHAT_SERVER__DRAIN_SECONDS": "60",
        "CHAT_SERVER__HANG_SECONDS": "120",
        "GATE": str(gate.path),
    }
    with ServerProcess(*flags, environ=environ, module="tests.server.hindered") as running:
        yield running


async def _newcomer(server: ServerProcess, known: set[int]) -> int:
    """Wait for one more worker to be started; return its process."""
    await until(lambda: workers(server.pid) - known)
    [new] = workers(server.pid) - known
    return new


async def _stop(*pids: int) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    await until(lambda: all(state(pid) == "T" for pid in pids))


def _replaced(server: ServerProcess) -> list[str]:
    """Return the numbers of the workers in the order in which they were replaced."""
    return re.findall(r"worker (\d) \(\d+\) is replaced", server.stderr)


async def _first_to_go(server: ServerProcess) -> int:
    """Wait for the roll to begin; return the process of the worker that is replaced first."""
    await until(lambda: "replacing worker 1" in server.stderr)
    found = re.search(r"replacing worker 1 \((\d+)\)", server.stderr)
    assert found
    return int(found[1])


async def test_ctrl_c_while_a_worker_starts(server: ServerProcess, gate: Gate) -> None:
    old = await ready_workers(server, 2)
    gate.shut()
    os.kill(server.pid, signal.SIGHUP)
    await _newcomer(server, old)
    os.killpg(server.pid, signal.SIGINT)
    assert await asyncio.to_thread(server.wait) == 0
    assert "Traceback" not in server.stderr
    assert "ERROR" not in server.stderr


async def test_a_hang_up_of_all_while_a_worker_starts_begins_the_roll_anew(
    server: ServerProcess, gate: Gate
) -> None:
    old = await ready_workers(server, 2)
    gate.shut()
    os.kill(server.pid, signal.SIGHUP)
    between = await _newcomer(server, old)
    os.killpg(server.pid, signal.SIGHUP)
    gate.open()
    await until(lambda: len(_replaced(server)) == 3, LONG)
    assert _replaced(server) == ["1", "1", "2"]
    assert not (await ready_workers(server, 2)) & {*old, between}
    assert "ERROR" not in server.stderr
    assert "resource_tracker" not in server.stderr


async def test_a_hang_up_amid_a_stop_changes_nothing(server: ServerProcess) -> None:
    first, second = await ready_workers(server, 2)
    await _stop(second)
    os.kill(server.pid, signal.SIGTERM)
    await until(lambda: not runs(first))
    os.kill(server.pid, signal.SIGHUP)
    os.kill(second, signal.SIGCONT)
    assert await asyncio.to_thread(server.wait) == 0
    assert "replacing" not in server.stderr
    assert "ERROR" not in server.stderr


async def test_a_stop_while_the_old_worker_drains(server: ServerProcess) -> None:
    old = await ready_workers(server, 2)
    await _stop(*old)
    os.kill(server.pid, signal.SIGHUP)
    first = await _first_to_go(server)
    [second] = old - {first}
    os.kill(second, signal.SIGCONT)
    await until(lambda: pending(first, signal.SIGTERM), LONG)
    os.kill(server.pid, signal.SIGTERM)
    await until(lambda: workers(server.pid) == {first})
    os.kill(first, signal.SIGCONT)
    assert await asyncio.to_thread(server.wait) == 0
    assert "ERROR" not in server.stderr


async def test_a_worker_that_ends_during_its_replacement(server: ServerProcess, gate: Gate) -> None:
    old = await ready_workers(server, 2)
    gate.shut()
    os.kill(server.pid, signal.SIGHUP)
    new = await _newcomer(server, old)
    os.kill(await _first_to_go(server), signal.SIGKILL)
    await until(lambda: "was ended by SIGKILL; restarting it" in server.stderr)
    gate.open()
    await until(lambda: _replaced(server) == ["1", "2"], LONG)
    left = await ready_workers(server, 2)
    assert left == workers(server.pid), "one of them is too many"
    assert new in left
    assert not left & old


async def test_a_new_worker_that_ends_while_the_old_one_drains(server: ServerProcess) -> None:
    old = await ready_workers(server, 2)
    await _stop(*old)
    os.kill(server.pid, signal.SIGHUP)
    first = await _first_to_go(server)
    [second] = old - {first}
    os.kill(second, signal.SIGCONT)
    new = await _newcomer(server, old)
    await until(lambda: pending(first, signal.SIGTERM), LONG)
    os.kill(new, signal.SIGKILL)
    third = await _newcomer(server, {*old, new})
    await until(lambda: f"worker {third} accepts connections" in server.stderr, LONG)
    assert state(first) == "T", "nobody waited for it"
    os.kill(first, signal.SIGCONT)
    await until(lambda: _replaced(server) == ["1", "2"], LONG)
    assert third in await ready_workers(server, 2)


def test_a_new_worker_that_does_not_get_ready_is_given_up(
    redis: RedisServer, tmp_path: Path
) -> None:
    program = (
        "import os, signal, sys\n"
        "from chat_server.server import starting, supervisor\n"
        "from chat_server.settings import load_settings\n"
        "def ready(address):\n"
        "    starting.START_SECONDS = 0.001\n"
        "    starting.IDLE_SHARE = 1e9  # however much it has done by the first look\n"
        "    os.kill(os.getpid(), signal.SIGHUP)\n"
        "if __name__ == '__main__':\n"
        "    settings = load_settings(flags={'server.workers': 2, 'server.bind': '127.0.0.1:0'})\n"
        "    sys.exit(supervisor.Supervisor(settings, '', ready).run())\n"
    )
    environ = {**os.environ, "CHAT_ENVIRONMENT": "testing", "CHAT_REDIS__URL": redis.url}
    with subprocess.Popen(
        [sys.executable, "-c", program], env=environ, stderr=subprocess.PIPE, text=True
    ) as server:
        assert server.stderr
        log = ""
        for line in server.stderr:
            log += line
            if "goes on" in line:
                break
        server.terminate()
        log += server.stderr.read()
    assert server.returncode == 0, log
    first, second = log.splitlines()
    slow = r"did not accept connections within 0\.001 s, with \d\.\d s of CPU time; killing it"
    assert re.search(slow, first)
    assert "was ended by SIGKILL; the worker it was to replace goes on" in second
