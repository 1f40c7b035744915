"""A worker asks for the file descriptors it needs, and keeps some from its connections."""

import asyncio
import json
import logging
import os
import re
import resource
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from chat_server.server.descriptors import MIN_DESCRIPTORS, RESERVED_DESCRIPTORS, raise_limit
from chat_server.server.overflow import MAX_HEADS_READ
from tests.rig.ports import free_port
from tests.rig.raw_client import RawClient, request
from tests.rig.rfc6455 import upgrade
from tests.rig.server import mint
from tests.rig.waiting import until

from .inprocess import make_settings, serving
from .processes import accepts

SETTINGS = make_settings(limits__max_connections=1_000, http__max_connections=100)
NEEDED = 1_100 + RESERVED_DESCRIPTORS


@pytest.mark.parametrize(
    ("soft", "hard", "raised", "complains"),
    [
        (256, 4_000, NEEDED, False),
        (256, resource.RLIM_INFINITY, NEEDED, False),
        (256, 1_000, 1_000, True),
        (1_000, 1_000, 1_000, True),
        (4_000, 4_000, None, False),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, None, False),
    ],
)
def test_asks_for_what_the_settings_may_need(
    soft: int,
    hard: int,
    raised: int | None,
    complains: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: asked.append(limits))
    with caplog.at_level(logging.WARNING):
        first_refused = raise_limit(SETTINGS)
    assert asked == ([] if raised is None else [(raised, hard)])
    if soft != resource.RLIM_INFINITY:
        assert first_refused == (raised or soft) - RESERVED_DESCRIPTORS
    assert ("limits.max_connections" in caplog.text) is complains
    assert caplog.text.count("\n") == complains


async def test_a_connection_that_would_take_the_last_is_refused_and_that_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("chat_server.server.descriptors.raise_limit", lambda _: 3)
    monkeypatch.setattr("chat_server.server.overflow.REPORT_SECONDS", 0.5)
    async with serving(SETTINGS) as server:
        for target in ("/health/ready", "/", "/ws"):
            answer = await request(server.port, "GET", target)
            assert (answer.status, answer.headers["connection"]) == (503, "close")
        # What asks whether the process is alive would restart it, which helps nobody.
        answer = await request(server.port, "GET", "/health/live")
        assert (answer.status, answer.json()) == (200, {"status": "ok"})
        said = r"refusing connections, (\d+) so far: 3 file descriptors are in use \(ulimit -n\)"
        # The first is told at once, and the others together, unless the machine was slow.
        await until(lambda: sum(map(int, re.findall(said, caplog.text))) == 3)
        assert re.findall(said, caplog.text)[0] == "1"


async def test_who_says_nothing_does_not_keep_others_from_asking(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("chat_server.server.descriptors.raise_limit", lambda _: 3)
    async with serving(SETTINGS) as server, AsyncExitStack() as stack:
        silent = [
            await stack.enter_async_context(await RawClient.connect(server.port))
            for _ in range(MAX_HEADS_READ + 4)
        ]
        for wire in silent:
            assert (await wire.read_answer()).status == 503
        assert (await request(server.port, "GET", "/health/live")).status == 200


LIMITED = """
import os, resource, sys
limit = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
command = [sys.executable, "-m", "chat_server", "serve", *sys.argv[2:]]
os.execv(sys.executable, command)
"""


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_limit_that_leaves_nothing_is_one_line_with_the_numbers(form: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, "64", "--bind", "127.0.0.1:0"],
        env={**os.environ, "CHAT_ENVIRONMENT": "testing", "CHAT_LOG__FORMAT": form},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    message = json.loads(line)["message"] if form == "json" else line.removeprefix("chat-server: ")
    assert message == (
        "the system allows this process 64 file descriptors (ulimit -Hn), and the server needs at"
        f" least {MIN_DESCRIPTORS} (redis.max_connections among them), and one for each connection"
    )


def test_the_connections_to_redis_count() -> None:
    environ = {**os.environ, "CHAT_ENVIRONMENT": "testing", "CHAT_REDIS__MAX_CONNECTIONS": "500"}
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, "256", "--redis-url", "redis://127.0.0.1:1/0"],
        env=environ,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 1
    assert f"needs at least {MIN_DESCRIPTORS + 500}" in done.stderr


async def test_with_the_least_that_is_allowed_it_serves_and_says_how_many(
    tmp_path: Path,
) -> None:
    port = free_port()
    with (tmp_path / "log").open("w") as errors:
        server = subprocess.Popen(  # noqa: ASYNC220  (that is quick)
            [sys.executable, "-c", LIMITED, str(MIN_DESCRIPTORS), "--bind", f"127.0.0.1:{port}"],
            env={**os.environ, "CHAT_ENVIRONMENT": "testing"},
            stdout=subprocess.DEVNULL,
            stderr=errors,
        )
    log = tmp_path / "log"
    try:
        said = (
            f"from about {MIN_DESCRIPTORS - RESERVED_DESCRIPTORS} connections on they are refused"
        )
        await until(lambda: said in log.read_text())
        async with AsyncExitStack() as stack:
            await until(lambda: accepts(port))
            held = []
            for _ in range(MIN_DESCRIPTORS):
                client = await stack.enter_async_context(await RawClient.connect(port))
                await client.send(upgrade(token=mint("ada")))
                held.append((await client.read_answer()).status)
            assert held.count(101) > MIN_DESCRIPTORS - RESERVED_DESCRIPTORS - 40
            assert set(held) == {101, 503}
            assert (await request(port, "GET", "/health/live")).status == 200
            await until(lambda: "refusing connections" in log.read_text())
        assert "Too many open files" not in log.read_text()
    finally:
        server.terminate()
        assert await asyncio.to_thread(server.wait, 60) == 0
