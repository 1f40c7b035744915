"""SIGHUP, and workers that hang: one takes another's place, and clients hardly notice."""

import asyncio
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.rig.ports import free_port
from tests.rig.raw_client import RawClient, request
from tests.rig.redis_server import RedisServer
from tests.rig.server import ServerProcess, mint
from tests.rig.waiting import SECONDS, until

from .processes import PATIENT, connect_to, holdings, ready_workers, runs, state, workers


def _server(redis: RedisServer, module: str = "chat_server", **environ: str) -> ServerProcess:
    generous = {
        "CHAT_LIMITS__MAX_CONNECTIONS_PER_USER": "10000",
        "CHAT_LIMITS__MESSAGES_PER_SECOND": "100000",
        "CHAT_LIMITS__MESSAGE_BURST": "100000",
        "CHAT_LOG__LEVEL": "INFO",
        # For requests under way, and clients that are to be told; a busy machine needs more than 1.
        "CHAT_SERVER__DRAIN_SECONDS": "20",
    }
    flags = ("--workers", "2", "--redis-url", redis.url)
    return ServerProcess(*flags, environ={**generous, **environ}, module=module)


class Callers:
    """Connect again and again, over HTTP and WebSocket; none may be refused."""

    def __init__(self, server: ServerProcess) -> None:
        self.server = server
        self.calls = 0
        self.failures: list[str] = []
        self.stop = False

    async def ask(self) -> None:
        """Make requests, each on a connection of its own."""
        while not self.stop:
            try:
                answer = await request(self.server.port, "GET", "/health/live")
                if answer.status != 200:
                    self.failures.append(f"HTTP {answer.status}")
            except (OSError, AssertionError) as error:
                self.failures.append(f"HTTP {error!r}")
            self.calls += 1

    async def upgrade(self) -> None:
        """Open WebSockets; also a worker that is leaving welcomes who comes to it."""
        while not self.stop:
            try:
                async with await RawClient.open(self.server.port, token=mint("ada")) as client:
                    first = (await client.read_message())["type"]
                    if first != "welcome":
                        self.failures.append(f"WebSocket {first}")
            except (OSError, AssertionError) as error:
                self.failures.append(f"WebSocket {error!r}")
            self.calls += 1


async def _replaced(server: ServerProcess, old: set[int]) -> set[int]:
    await until(lambda: not any(runs(pid) for pid in old), 120)
    return await ready_workers(server, 2)


async def test_workers_are_replaced_one_by_one_and_nobody_is_refused(redis: RedisServer) -> None:
    with _server(redis) as server:
        old = await ready_workers(server, 2)
        # The supervisor has closed what it needed for their starts.
        await until(lambda: server.stderr.count("accepts connections") == 2)
        held = holdings(server.pid)
        members = [await connect_to(server.ws_url, pid) for pid in sorted(old)]
        callers = Callers(server)
        async with asyncio.TaskGroup() as group:
            for work in (callers.ask, callers.ask, callers.upgrade, callers.upgrade):
                group.create_task(work())
            await until(lambda: callers.calls > 20)
            os.kill(server.pid, signal.SIGHUP)
            new = await _replaced(server, old)
            seen = callers.calls
            await until(lambda: callers.calls > seen + 20)
            callers.stop = True
        assert callers.failures == []
        assert not new & old
        await until(lambda: server.stderr.count("is replaced") == 2)
        await until(lambda: holdings(server.pid) == held)
        for member in members:
            assert (await member.next())["type"] == "goodbye"
            assert await member.closed() == 1012
        assert "ERROR" not in server.stderr
        order = re.findall(r"(replacing worker \d|worker \d \(\d+\) is replaced)", server.stderr)
        assert [re.sub(r" \(\d+\)", "", line) for line in order] == [
            "replacing worker 1",
            "worker 1 is replaced",
            "replacing worker 2",
            "worker 2 is replaced",
        ]


async def test_what_waits_in_the_socket_is_taken_by_the_successor(redis: RedisServer) -> None:
    with _server(redis, **PATIENT) as server:
        old = await ready_workers(server, 2)
        for pid in old:
            os.kill(pid, signal.SIGSTOP)
        await until(lambda: all(state(pid) == "T" for pid in old))
        asking = [
            asyncio.create_task(request(server.port, "GET", "/health/live")) for _ in range(20)
        ]
        os.kill(server.pid, signal.SIGHUP)
        await until(lambda: "replacing worker 1" in server.stderr)
        found = re.search(r"replacing worker 1 \((\d+)\)", server.stderr)
        assert found
        first = int(found[1])
        [second] = old - {first}
        os.kill(second, signal.SIGCONT)
        answers = await asyncio.gather(*asking)
        assert [answer.status for answer in answers] == [200] * len(asking)
        assert state(first) == "T", "it has not answered any"
        os.kill(first, signal.SIGCONT)
        assert not await _replaced(server, old) & old


async def test_a_stop_amid_a_replacement_ends_everything(redis: RedisServer) -> None:
    with _server(redis) as server:
        old = await ready_workers(server, 2)
        members = [await connect_to(server.ws_url, pid) for pid in sorted(old)]
        os.kill(server.pid, signal.SIGHUP)
        await until(lambda: len(workers(server.pid)) == 3)
        os.kill(server.pid, signal.SIGTERM)
        for member in members:
            assert await member.closed() == 1012
        assert await asyncio.to_thread(server.wait) == 0
        assert "ERROR" not in server.stderr


async def test_a_replacement_that_cannot_work_leaves_the_old_one(
    redis: RedisServer, tmp_path: Path
) -> None:
    key = tmp_path / "key.pem"
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    key.write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    environ = {
        "CHAT_AUTH__ALGORITHMS": "ES256",
        "CHAT_AUTH__PUBLIC_KEY_FILE": str(key),
        "CHAT_AUTH__SECRET": "",
    }
    with _server(redis, **environ) as server:
        old = await ready_workers(server, 2)
        key.unlink()
        os.kill(server.pid, signal.SIGHUP)
        await until(lambda: "no worker is replaced" in server.stderr)
        assert re.search(r"ERROR .*auth\.public_key_file: \S+key\.pem cannot", server.stderr)
        assert workers(server.pid) == old
        assert await ready_workers(server, 2) == old


HUNG_UP_WHILE_LOADED = """
import os, signal
from quart import Quart
from chat_server import ChatServer, load_settings

os.kill(os.getpid(), signal.SIGHUP)
app = Quart(__name__)
ChatServer(load_settings()).init_app(app)
"""


@pytest.mark.parametrize("count", [1, 2])
async def test_a_hang_up_while_the_server_is_loaded_waits_until_it_can_be_heeded(
    redis: RedisServer, tmp_path: Path, count: int
) -> None:
    (tmp_path / "hungup.py").write_text(HUNG_UP_WHILE_LOADED)
    flags = ("--app", "hungup:app", "--workers", str(count))
    environ = {"CHAT_REDIS__URL": redis.url, "CHAT_LOG__LEVEL": "INFO"}
    with ServerProcess(*flags, environ=environ, folder=tmp_path) as server:
        if count == 1:
            await until(lambda: "SIGHUP: read again: " in server.stderr)
        else:
            await until(lambda: server.stderr.count("is replaced") == count, 120)


async def test_a_worker_that_hangs_is_replaced(redis: RedisServer) -> None:
    with _server(redis, CHAT_SERVER__HANG_SECONDS="8") as server:
        first, second = await ready_workers(server, 2)
        async with await connect_to(server.ws_url, first) as ada:
            await ada.ok(type="subscribe", topic="room:a")
            os.kill(second, signal.SIGSTOP)
            await until(lambda: state(second) == "T")
            await until(lambda: not runs(second), 120)
            await until(lambda: len(workers(server.pid) - {second}) == 2)
            [third] = workers(server.pid) - {first}
            async with await connect_to(server.ws_url, third) as bob:
                await bob.ok(type="publish", topic="room:a", data="from the new one")
                assert (await ada.next())["data"] == "from the new one"
        assert runs(first), "one that does not hang was taken for one that does"
        hung = rf"worker \d \({second}\)"
        assert re.search(rf"ERROR .*{hung} did nothing for 8 s; killing it", server.stderr)
        assert re.search(rf"ERROR .*{hung} was ended by SIGKILL; restarting it", server.stderr)


@pytest.mark.parametrize("how", ["loop", "sleep"])
async def test_a_worker_whose_event_loop_is_blocked_is_replaced(
    redis: RedisServer, how: str
) -> None:
    with _server(redis, "tests.server.hindered", CHAT_SERVER__HANG_SECONDS="8") as server:
        pids = await ready_workers(server, 2)
        # A new connection might come to the one that is blocked.
        clients = {pid: await connect_to(server.ws_url, pid) for pid in pids}
        asking = asyncio.create_task(request(server.port, "GET", f"/block/{how}"))
        await until(lambda: "blocked: " in server.stderr)
        found = re.search(r"blocked: (\d+)", server.stderr)
        assert found
        hung = int(found[1])
        [other] = pids - {hung}
        pongs = 0
        async with asyncio.timeout(90):
            while runs(hung):
                pongs += (await clients[other].call(type="ping"))["type"] == "pong"
                await asyncio.sleep(0.05)
        assert pongs > 1, "the other one served nobody meanwhile"
        assert await clients[hung].closed() == 1006
        # Until then a new connection may still come to its socket, and is reset.
        ended = rf"ERROR .*\({hung}\) was ended by SIGKILL; restarting it"
        await until(lambda: re.search(ended, server.stderr))
        assert other in await ready_workers(server, 2)
        assert (await clients[other].call(type="ping"))["type"] == "pong"
        with pytest.raises((OSError, AssertionError)):
            await asking
        assert re.search(
            rf"ERROR .*worker \d \({hung}\) did nothing for 8 s; killing it", server.stderr
        )


async def test_all_that_were_stopped_together_go_on_together(redis: RedisServer) -> None:
    """Ctrl-Z stops the supervisor as well, and then nobody was late."""
    with _server(redis, CHAT_SERVER__HANG_SECONDS="8") as server:
        pids = await ready_workers(server, 2)
        os.killpg(server.pid, signal.SIGSTOP)
        await until(lambda: all(state(pid) == "T" for pid in (server.pid, *pids)))
        await asyncio.sleep(11)  # must be longer than what counts as hanging
        # The order in which they go on is not ours to choose; this is the worst.
        os.kill(server.pid, signal.SIGCONT)
        await until(lambda: state(server.pid) == "S")
        os.killpg(server.pid, signal.SIGCONT)
        assert await ready_workers(server, 2) == pids
        assert "ERROR" not in server.stderr


# The terminal ------------------------------------------------------------------------------------


IN_A_TERMINAL = (
    "import os, sys; os.login_tty(0); os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
)


@pytest.mark.parametrize("count", ["1", "2"])
async def test_a_server_ends_with_its_terminal(redis: RedisServer, count: str) -> None:
    port = free_port()
    master, slave = pty.openpty()
    server = subprocess.Popen(  # noqa: ASYNC220  (that is quick)
        [
            *(sys.executable, "-c", IN_A_TERMINAL, "-m", "chat_server", "serve"),
            *("--bind", f"127.0.0.1:{port}", "--workers", count, "--redis-url", redis.url),
        ],
        stdin=slave,
        env={**os.environ, "CHAT_ENVIRONMENT": "testing"},
    )
    os.close(slave)
    try:
        output = b""
        while b"room=lobby" not in output:
            output += await asyncio.to_thread(os.read, master, 4096)
        os.close(master)
        assert await asyncio.to_thread(server.wait, SECONDS) == 0
    finally:
        server.kill()
        await asyncio.to_thread(server.wait)
    with pytest.raises(ConnectionRefusedError):
        await request(port, "GET", "/health/live")
