"""Between "not ready" and "not there": the time in which balancers find out."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.rig.chat_client import chat
from tests.rig.ports import free_port
from tests.rig.raw_client import Answer, request
from tests.rig.redis_server import RedisServer
from tests.rig.server import ROOT, ServerProcess, mint
from tests.rig.waiting import until

from .processes import PATIENT, connect_to, ready_workers, runs, state, workers

LONG = "600"
"""Seconds that nobody who is hurried waits for."""


def _server(redis: RedisServer, workers: int, **environ: str) -> ServerProcess:
    return ServerProcess(
        *("--workers", str(workers), "--redis-url", redis.url),
        environ={"CHAT_LOG__LEVEL": "INFO", "CHAT_SERVER__LAME_DUCK_SECONDS": LONG, **environ},
    )


async def _publish(server: ServerProcess) -> Answer:
    return await request(
        server.port,
        "POST",
        "/api/topics/room:a/messages",
        headers={"Authorization": f"Bearer {mint('ada')}", "Connection": "keep-alive"},
        body=b'{"data":1}',
    )


async def _ready_status(server: ServerProcess) -> int:
    return (await request(server.port, "GET", "/health/ready")).status


@pytest.mark.parametrize("count", [1, 2])
async def test_a_server_that_is_not_ready_any_more_still_takes_all_that_comes(
    redis: RedisServer, count: int
) -> None:
    with _server(redis, count) as server:
        if count == 2:
            await ready_workers(server, 2)
        async with await chat(server.ws_url, mint("ada")) as early:
            os.kill(server.pid, signal.SIGTERM)
            told = "not ready any more; draining in 600 s"
            await until(lambda: server.stderr.count(told) == count)
            for _ in range(10):
                answer = await request(server.port, "GET", "/health/ready")
                assert (answer.status, answer.json()) == (503, {"status": "draining"})
                assert (await request(server.port, "GET", "/health/live")).status == 200
                answer = await _publish(server)
                assert (answer.status, answer.headers["connection"]) == (201, "close")
            async with await chat(server.ws_url, mint("bob")) as late:
                assert (await late.call(type="ping"))["type"] == "pong"
                assert (await early.call(type="ping"))["type"] == "pong"
                # A second signal is for who does not want to wait.
                began = time.monotonic()
                os.kill(server.pid, signal.SIGTERM)
                assert await early.closed() == 1012
                assert await late.closed() == 1012
                assert await asyncio.to_thread(server.wait) == 0
                assert time.monotonic() - began < float(LONG) / 2
        assert "SIGTERM again: draining at once" in server.stderr
        assert "ERROR" not in server.stderr


@pytest.mark.parametrize("count", [1, 2])
async def test_it_drains_by_itself_when_the_time_is_over(redis: RedisServer, count: int) -> None:
    with _server(redis, count, CHAT_SERVER__LAME_DUCK_SECONDS="2") as server:
        if count == 2:
            await ready_workers(server, 2)
        async with await chat(server.ws_url, mint("ada")) as ada:
            began = time.monotonic()
            os.kill(server.pid, signal.SIGTERM)
            assert await ada.closed() == 1012
            assert time.monotonic() - began >= 2
            assert await asyncio.to_thread(server.wait) == 0
        # One may have gone before the others were counted.
        assert "draining 1 clients within 1 s" in server.stderr


async def test_a_third_signal_kills_those_that_do_not_drain(redis: RedisServer) -> None:
    with _server(redis, 2, CHAT_SERVER__DRAIN_SECONDS="60", **PATIENT) as server:
        pids = await ready_workers(server, 2)
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        await until(lambda: all(state(pid) == "T" for pid in pids))
        for line in ("stopping 2 workers", "draining at once", "killing the workers"):
            os.kill(server.pid, signal.SIGTERM)
            await until(lambda line=line: line in server.stderr)  # type: ignore[misc]
        await asyncio.to_thread(server.wait)
        assert not [pid for pid in pids if runs(pid)]


@pytest.mark.parametrize("count", [1, 2])
async def test_a_signal_amid_a_drain_ends_the_server_at_once(
    redis: RedisServer, count: int
) -> None:
    environ = {"CHAT_SERVER__LAME_DUCK_SECONDS": "0", "CHAT_SERVER__DRAIN_SECONDS": LONG}
    with _server(redis, count, **environ) as server:
        if count == 2:
            await ready_workers(server, 2)
        began = time.monotonic()
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        head = f"POST /api/topics/room:a/messages HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
        token = f"Authorization: Bearer {mint('ada')}\r\n"
        # The worker waits for the rest of the request.
        writer.write(f"{head}{token}Content-Length: 10\r\n\r\n12".encode())
        await writer.drain()
        # Requests of one connection are taken in their order: this one shows that that has come.
        await request(server.port, "GET", "/health/live")
        os.kill(server.pid, signal.SIGTERM)
        await until(lambda: server.stderr.count("draining 0 clients") == count)
        os.kill(server.pid, signal.SIGTERM)
        assert await asyncio.to_thread(server.wait) == 0
        assert time.monotonic() - began < float(LONG) / 2
        assert "SIGTERM again: " in server.stderr
        writer.close()


async def test_workers_that_are_replaced_do_not_wait(redis: RedisServer) -> None:
    with _server(redis, 2) as server:
        old = await ready_workers(server, 2)
        began = time.monotonic()
        os.kill(server.pid, signal.SIGHUP)
        await until(lambda: not any(runs(pid) for pid in old), 180)
        assert time.monotonic() - began < float(LONG) / 2
        assert not await ready_workers(server, 2) & old
        await until(lambda: server.stderr.count(" is replaced") == 2)
        os.kill(server.pid, signal.SIGTERM)
        await until(lambda: "stopping 2 workers" in server.stderr)
        os.kill(server.pid, signal.SIGTERM)
        assert await asyncio.to_thread(server.wait) == 0


async def test_a_signal_to_all_processes_at_once_cuts_nothing_short(redis: RedisServer) -> None:
    """As systemd sends it: to the workers, too, which then get it from their supervisor again."""
    with _server(redis, 2, CHAT_SERVER__LAME_DUCK_SECONDS="3") as server:
        pids = await ready_workers(server, 2)
        clients = [await connect_to(server.ws_url, pid) for pid in pids]
        began = time.monotonic()
        os.killpg(server.pid, signal.SIGTERM)
        await until(lambda: server.stderr.count("not ready any more") == 2)
        assert await _ready_status(server) == 503
        for client in clients:
            assert (await client.next())["type"] == "goodbye"
            assert await client.closed() == 1012
        assert time.monotonic() - began >= 3
        assert await asyncio.to_thread(server.wait) == 0
        assert "ERROR" not in server.stderr


# Without a supervisor ----------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["stopped", "loop", "sleep"])
async def test_a_port_is_not_lost_to_a_worker_that_does_nothing(
    redis: RedisServer, how: str
) -> None:
    """The supervisor is killed, and a worker is stopped or blocked at that moment."""
    flags = ("--workers", "2", "--redis-url", redis.url)
    environ = {"CHAT_SERVER__LAME_DUCK_SECONDS": LONG, **PATIENT}
    server = ServerProcess(*flags, environ=environ, module="tests.server.hindered")
    with server:
        pids = await ready_workers(server, 2)
        if how == "stopped":
            os.kill(min(pids), signal.SIGSTOP)
            await until(lambda: state(min(pids)) == "T")
        else:
            asking = asyncio.create_task(request(server.port, "GET", f"/block/{how}"))
            await until(lambda: "blocked: " in server.stderr)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
        # Not the group: what is left of it is what this is about.
        os.kill(server.pid, signal.SIGKILL)
        await until(lambda: not [pid for pid in pids if runs(pid)])
        server.kill()
    with ServerProcess(*flags, port=server.port) as again:
        for _ in range(20):
            assert await _ready_status(again) == 200


# Without a terminal ------------------------------------------------------------------------------

DETACHED = """
import os, pty, subprocess, sys
master, slave = pty.openpty()
server = subprocess.Popen([sys.executable, *sys.argv[1:]], stdin=slave, start_new_session=True)
os.close(slave)
print(server.pid, flush=True)
sys.stdin.readline()
os.close(master)  # nobody tells the server: it is in another session, as after `disown`
server.wait()
"""


async def test_a_server_that_survived_its_terminal_takes_sighup_for_new_code(
    redis: RedisServer, tmp_path: Path
) -> None:
    port = free_port()
    log = tmp_path / "log"
    with log.open("w") as errors:
        launcher = subprocess.Popen(  # noqa: ASYNC220  (that is quick)
            [
                *(sys.executable, "-c", DETACHED, "-m", "chat_server", "serve"),
                *("--bind", f"127.0.0.1:{port}", "--workers", "2", "--redis-url", redis.url),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, "CHAT_ENVIRONMENT": "testing", "CHAT_LOG__LEVEL": "INFO"},
            cwd=ROOT,
        )
    assert launcher.stdin
    assert launcher.stdout
    server = int(await asyncio.to_thread(launcher.stdout.readline))
    try:
        await until(lambda: log.read_text().count("accepts connections") == 2, 120)
        old = workers(server)
        launcher.stdin.write(b"\n")
        launcher.stdin.close()
        await until(lambda: "the terminal is gone, but the server goes on" in log.read_text())
        os.kill(server, signal.SIGHUP)
        await until(lambda: log.read_text().count("is replaced") == 2, 120)
        assert not workers(server) & old
        assert runs(server)
    finally:
        os.kill(server, signal.SIGTERM)
        assert await asyncio.to_thread(launcher.wait, 120) == 0
        launcher.stdout.close()
