"""Whichever worker is asked for the numbers, it tells those of all; those of dead ones are kept."""

import asyncio
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.metrics.test_samples import values
from tests.rig.chat_client import chat
from tests.rig.raw_client import request
from tests.rig.redis_server import RedisServer
from tests.rig.server import ServerProcess, mint
from tests.rig.waiting import until

from .processes import PATIENT, connect_to, ready_workers, runs, worker_of

Numbers = dict[tuple[str, ...], float]


@pytest.fixture
def server(redis: RedisServer) -> Iterator[ServerProcess]:
    environ = {"CHAT_METRICS__ENABLED": "true", "CHAT_REDIS__PREFIX": "totals", **PATIENT}
    # On a slow machine a worker is not there within the second that is usual.
    environ["ANSWER_SECONDS"] = "5"
    flags = ("--workers", "2", "--redis-url", redis.url)
    with ServerProcess(*flags, environ=environ, module="tests.server.hindered") as running:
        yield running


@pytest.fixture
def plain_server(redis: RedisServer) -> Iterator[ServerProcess]:
    environ = {"CHAT_REDIS__PREFIX": "health", "CHAT_REDIS__TIMEOUT_SECONDS": "5", **PATIENT}
    with ServerProcess("--workers", "2", "--redis-url", redis.url, environ=environ) as running:
        yield running


async def numbers(server: ServerProcess) -> Numbers:
    answer = await request(server.port, "GET", "/metrics")
    assert answer.status == 200
    return values(answer.body)


async def test_the_numbers_are_those_of_all_workers(server: ServerProcess) -> None:
    first, second = sorted(await ready_workers(server, 2))
    one = await connect_to(server.ws_url, first)
    other = await connect_to(server.ws_url, second)
    async with one, other:
        for _ in range(3):
            await one.ok(type="publish", topic="room:a", data=1)
        for _ in range(4):
            await other.ok(type="publish", topic="room:a", data=1)
        for _ in range(4):  # whichever worker answers
            shown = await numbers(server)
            assert shown["chat_workers",] == 2
            assert shown["chat_commands_total", "publish", "ok"] == 7
            assert shown["chat_connections", "chat.v1.json", "direct"] == 2
            assert shown["chat_store_up",] == 2
        # Those who answered told the supervisor what they had counted by then.
        os.kill(first, signal.SIGKILL)
        await until(lambda: not runs(first))
        await ready_workers(server, 2)
        shown = await numbers(server)
        assert shown["chat_commands_total", "publish", "ok"] == 7
        assert shown["chat_workers_ended_total",] == 1
        assert shown["chat_connections", "chat.v1.json", "direct"] == 1
        assert shown["chat_workers",] == 2


async def test_a_worker_that_is_blocked_holds_nobody_up_for_long(server: ServerProcess) -> None:
    first, second = sorted(await ready_workers(server, 2))
    async with await connect_to(server.ws_url, second) as other:
        assert worker_of(other) == second
        await numbers(server)
        os.kill(first, signal.SIGSTOP)
        try:
            # The kernel chooses the worker: so many do not all come to the blocked one.
            answers = [asyncio.create_task(numbers(server)) for _ in range(24)]
            done, waiting = await asyncio.wait(answers, return_when=asyncio.FIRST_COMPLETED)
            # Its last report stands for the worker that does not answer.
            assert done.pop().result()["chat_workers",] == 2
        finally:
            os.kill(first, signal.SIGCONT)
        await asyncio.gather(*waiting)


async def health(server: ServerProcess, query: str = "") -> tuple[int, dict[str, Any]]:
    answer = await request(server.port, "GET", f"/health{query}")
    return answer.status, answer.json()


async def test_the_health_is_that_of_all_workers(plain_server: ServerProcess) -> None:
    """Without metrics, too."""
    server = plain_server
    first, second = sorted(await ready_workers(server, 2))
    one = await connect_to(server.ws_url, first)
    other = await connect_to(server.ws_url, second)
    async with one, other:
        status, shown = await health(server)
        assert (status, shown["status"], shown["connections"]) == (200, "ok", 2)
        assert [worker["worker"] for worker in shown["workers"]] == [1, 2]
        assert {worker["pid"] for worker in shown["workers"]} == {first, second}
        assert shown["checks"]["clock"]["status"] == "ok"
        for number in (1, 2):
            _, alone = await health(server, f"?worker={number}")
            assert [worker["worker"] for worker in alone["workers"]] == [number]
            assert alone["node"] == shown["workers"][number - 1]["node"]
        assert (await health(server, "?worker=3"))[0] == 404
        os.kill(first, signal.SIGSTOP)
        try:
            [silent] = [w["worker"] for w in shown["workers"] if w["pid"] == first]
            answers = [asyncio.create_task(health(server)) for _ in range(24)]
            done, waiting = await asyncio.wait(answers, return_when=asyncio.FIRST_COMPLETED)
            status, shown = done.pop().result()
            assert (status, shown["status"]) == (503, "silent")
            assert {"worker": silent, "status": "silent"} in shown["workers"]
            assert shown["warnings"] == [f"worker {silent} does not answer"]
        finally:
            os.kill(first, signal.SIGCONT)
        await asyncio.gather(*waiting)


async def test_one_worker_alone_tells_its_own() -> None:
    with ServerProcess(environ={"CHAT_METRICS__ENABLED": "true"}) as server:
        async with await chat(server.ws_url, mint("ada")) as ada:
            await ada.ok(type="publish", topic="room:a", data=1)
            shown = await numbers(server)
            assert shown["chat_workers",] == 1
            assert shown["chat_commands_total", "publish", "ok"] == 1
            assert shown["chat_process_resident_bytes",] > 2**20
