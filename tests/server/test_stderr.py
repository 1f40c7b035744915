"""What a server writes to stderr and stdout while it lives, and who it waits for: nobody."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from chat_server import __version__
from tests.rig.ports import free_port
from tests.rig.raw_client import request
from tests.rig.redis_server import RedisServer
from tests.rig.server import ROOT
from tests.rig.waiting import until

from .processes import Address, accepts, ready_workers, refused, runs, state, workers

SECRET = "0123456789abcdef" * 4
SECONDS = 120.0


@contextmanager
def _serving(
    *flags: str,
    stderr: int,
    stdout: int = subprocess.DEVNULL,
    **env: str,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server that writes where the test wants it to; killed at the end if it has to be."""
    inherited = {name: v for name, v in os.environ.items() if not name.startswith("CHAT_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "chat_server", "serve", *flags],
        env={**inherited, "CHAT_ENVIRONMENT": "testing", **env},
        stdout=stdout,
        stderr=stderr,
        cwd=ROOT,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _full_pipe() -> tuple[int, int]:
    """Return the ends of a pipe that takes nothing more."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    try:
        while True:
            os.write(write, b"x" * 100 + b"\n")
    except BlockingIOError:
        os.set_blocking(write, True)
    return read, write


async def _ask(port: int, times: int) -> None:
    for _ in range(times):
        assert (await request(port, "GET", "/health/live")).status == 200


async def test_a_server_goes_on_when_nobody_reads_what_it_writes() -> None:
    port = free_port()
    read, write = _full_pipe()
    bind = ("--bind", f"127.0.0.1:{port}")
    with _serving(*bind, stderr=write, stdout=write, CHAT_LOG__LEVEL="DEBUG") as server:
        os.close(write)
        await until(lambda: accepts(port), SECONDS)
        await _ask(port, 500)
        server.terminate()
        assert await asyncio.to_thread(server.wait, SECONDS) == 0
    os.close(read)


async def test_a_supervisor_still_replaces_a_worker_that_hangs(redis: RedisServer) -> None:
    port = free_port()
    read, write = _full_pipe()
    flags = ("--bind", f"127.0.0.1:{port}", "--workers", "2", "--redis-url", redis.url)
    with _serving(
        *flags, stderr=write, CHAT_LOG__LEVEL="DEBUG", CHAT_SERVER__HANG_SECONDS="4"
    ) as server:
        os.close(write)
        await until(lambda: accepts(port), SECONDS)
        # One that has not accepted connections yet is not judged by what it does.
        hung = min(await ready_workers(Address(port, server.pid), 2))
        os.kill(hung, signal.SIGSTOP)
        await until(lambda: state(hung) == "T")
        await until(lambda: not runs(hung), SECONDS)
        await until(lambda: len(workers(server.pid)) == 2, SECONDS)
        # Whoever begins to read gets whole lines, and what the supervisor said among them.
        lines: list[bytes] = []
        reading = asyncio.create_task(asyncio.to_thread(_read_to_end, read, lines))
        server.terminate()
        assert await asyncio.to_thread(server.wait, SECONDS) == 0
        await reading
    said = b"".join(lines)
    assert f"({hung}) did nothing for 4 s; killing it".encode() in said
    for line in said.splitlines():
        assert line.startswith((b"20", b"    ", b"x" * 100)), line


def _read_to_end(descriptor: int, lines: list[bytes]) -> None:
    with os.fdopen(descriptor, "rb") as reader:
        lines.extend(reader)


PRODUCTION = {
    "CHAT_ENVIRONMENT": "production",
    "CHAT_AUTH__SECRET": SECRET,
    "CHAT_SERVER__LAME_DUCK_SECONDS": "0",
}


@pytest.mark.parametrize("count", [1, 2])
async def test_production_tells_its_life_in_json(
    redis: RedisServer, count: int, tmp_path: Path
) -> None:
    port = free_port()
    log = tmp_path / "log"
    secret_url = redis.url.replace("redis://", "redis://:not-asked-for@", 1)
    flags = ("--bind", f"127.0.0.1:{port}", "--workers", str(count), "--redis-url", secret_url)
    with (
        log.open("wb") as file,
        _serving(*flags, stderr=file.fileno(), stdout=file.fileno(), **PRODUCTION) as server,
    ):
        await until(lambda: b"listens on" in log.read_bytes(), SECONDS)
        children = workers(server.pid)
        server.terminate()
        assert await asyncio.to_thread(server.wait, SECONDS) == 0
    lines: list[dict[str, Any]] = [json.loads(line) for line in log.read_text().splitlines()]
    first, last = lines[0], lines[-1]
    assert first["message"] == f"chat_server {__version__} starts"
    named = [first[name] for name in ("environment", "broker", "workers", "bind", "on")]
    assert named == ["production", "redis", count, f"127.0.0.1:{port}", "page,docs"]
    assert (last["message"], last["clients"], last["pid"]) == ("stopped: SIGTERM", 0, server.pid)
    assert last["seconds"] >= 0
    drains = [line for line in lines if line["message"].startswith("draining")]
    assert {line["worker"] for line in drains} == set(range(1, count + 1))
    assert all(line["node"].split("-")[-2] == str(line["pid"]) for line in drains)
    [start] = [line for line in lines if "listens on" in line["message"]]
    assert start["message"] == f"chat_server {__version__} listens on http://127.0.0.1:{port}"
    told = {name: start[name] for name in ("environment", "workers", "broker", "process", "pid")}
    assert told == {
        "environment": "production",
        "workers": count,
        "broker": "redis",
        "process": "supervisor" if count > 1 else "server",
        "pid": server.pid,
    }
    drained = [line for line in lines if line["message"] == "draining 0 clients within 10 s"]
    assert {line["pid"] for line in drained} == (children if count > 1 else {server.pid})
    assert any(line["message"].startswith("SIGTERM: stopping") for line in lines)
    assert "not-asked-for" not in log.read_text()


def test_what_ends_a_start_is_in_json_too(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        code, text = refused("--bind", bind, CHAT_LOG__FORMAT="json")
    assert code == 1
    assert _last(text)["message"].startswith("server.bind: cannot listen on")
    code, text = refused(
        CHAT_LOG__FORMAT="json",
        CHAT_AUTH__ALGORITHMS="RS256",
        CHAT_AUTH__PUBLIC_KEY_FILE="/missing.pem",
    )
    assert code == 2
    assert _last(text)["message"].startswith("auth.public_key_file: ")
    code, text = refused(CHAT_LOG__FORMAT="json", CHAT_LIMITS__MAX_TOPIC="1", CHAT_SERVER__BIND="x")
    assert code == 2
    told = [json.loads(line) for line in text.splitlines()]
    assert [line["message"].partition(":")[0] for line in told] == [
        *("limits.max_topic", "server.bind")
    ]


def _last(text: str) -> dict[str, Any]:
    """Return the last line of a log in which each is JSON."""
    told: list[dict[str, Any]] = [json.loads(line) for line in text.splitlines()]
    return told[-1]


FAILING = """
from quart import Quart
from chat_server.extension import ChatServer
from chat_server.settings import load_settings

app = Quart(__name__)
ChatServer(load_settings()).init_app(app)

@app.before_serving
async def fail() -> None:
    raise RuntimeError("cannot start")
"""


@pytest.mark.parametrize("count", ["1", "2"])
def test_an_application_that_cannot_start_is_told_in_json(
    redis: RedisServer, count: str, tmp_path: Path
) -> None:
    (tmp_path / "failing.py").write_text(FAILING)
    code, text = refused(
        *("--app", "failing:app", "--workers", count),
        folder=tmp_path,
        CHAT_LOG__FORMAT="json",
        CHAT_REDIS__URL=redis.url,
    )
    assert code == 1
    lines = [json.loads(line) for line in text.splitlines()]
    assert any("cannot start" in line.get("exception", "") for line in lines)
