"""`chat-server doctor`: a real Redis, this machine, and proxies that forget something."""

import asyncio
import json
import logging
import re
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from chat_server import __version__
from chat_server.broker.redis import refusals
from chat_server.broker.redis.diagnosis import COMMANDS
from chat_server.broker.redis.inspection import FEED_COMMANDS, OTHER_COMMANDS
from chat_server.cli.commands import main
from chat_server.cli.doctor import machine, proxy
from chat_server.http.health import (
    NO_KEYS,
    SILENT,
    BrokerCheck,
    CertificateCheck,
    Checks,
    ClockCheck,
    WorkerHealth,
)
from tests.rig.redis_server import RedisServer
from tests.rig.server import mint
from tests.rig.waiting import SECONDS
from tests.server.inprocess import make_settings, serving

ROOT = Path(__file__).parents[2]


def refusing(error: str) -> BrokerCheck:
    """Return what a worker says of a store that answers a publication by this error."""
    refusal = refusals.refusal_of(Exception(error))
    assert refusal is not None
    return BrokerCheck(refusal.status, 1.0, 0.0, reason=refusal.reason)


REPLICA = refusing("READONLY You can't write against a read only replica.")
FEW = refusing("NOREPLICAS Not enough good replicas to write.")
FULL = refusing("OOM command not allowed when used memory > 'maxmemory'.")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path / "redis")
    server.start()
    yield server
    server.stop()


def doctor(*arguments: str, **environ: str) -> tuple[Result, dict[str, tuple[str, str]]]:
    """Run it; return what it found by subject."""
    variables = {"CHAT_ENVIRONMENT": "testing", "CHATCLIENT_TOKEN": None, **environ}
    result = CliRunner(env=variables).invoke(main, ("doctor", "--json", *arguments))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    found = json.loads(result.stdout)
    return result, {each["subject"]: (each["status"], each["text"]) for each in found}


def test_a_store_is_examined(store: RedisServer) -> None:
    store.run("CONFIG", "SET", "maxmemory", "100mb")
    store.run("CONFIG", "SET", "appendonly", "yes")
    result, found = doctor("--redis-url", store.url)
    assert (result.exit_code, found["redis writes"][0]) == (0, "ok")
    for subject in ("ACL", "clock", "version", "eviction", "memory", "persistence", "clients"):
        assert found[f"redis {subject}"][0] == "ok", found
    assert found["redis persistence"][1].startswith("appendonly yes, appendfsync ")
    assert store.run("DBSIZE") == 0, "no trial leaves anything behind"
    store.run("CONFIG", "SET", "appendonly", "no")
    store.run("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    result, found = doctor("--redis-url", store.url)
    assert (result.exit_code, found["redis persistence"][0]) == (1, "warning")
    policy = "maxmemory-policy is allkeys-lru: set it to noeviction, or messages go and nobody"
    assert found["redis eviction"] == ("error", f"{policy} is told")


def test_what_an_acl_lacks_and_why_nothing_is_stored_is_named(store: RedisServer) -> None:
    rules = ("resetchannels", "~chat:*", "&chat:*", "+@all", "-zadd", "-info", "-config")
    store.run("ACL", "SETUSER", "chat", "on", ">pw", *rules)
    store.run("CONFIG", "SET", "maxmemory", "1")
    url = store.url.replace("redis://", "redis://chat:pw@")
    result, found = doctor("--redis-url", url)
    assert result.exit_code == 1
    assert found["redis ACL"] == ("error", "+zadd is missing: see docs/stores.md")
    assert found["redis writes"][0] == "error"
    assert "Redis is full" in found["redis writes"][1]
    assert found["redis INFO"][0] == "warning"
    assert "pw" not in result.stdout.replace("chat:pw", "")


def test_every_command_of_the_smallest_acl_is_tried() -> None:
    page = (ROOT / "docs/stores.md").read_text("utf-8")
    [line, *_] = re.findall(r"^ACL SETUSER chat .*$", page, re.MULTILINE)
    needed = set(re.findall(r"[+]([a-z|]+)", line))
    before_any_script = {"ping", "select", "subscribe", "unsubscribe", "script|load"}
    tried = {*COMMANDS, *OTHER_COMMANDS, *FEED_COMMANDS, "evalsha", "publish", "scan"}
    assert needed - before_any_script <= tried


def test_a_store_that_is_away_is_an_error_or_waited_for(tmp_path: Path) -> None:
    server = RedisServer(tmp_path / "redis")
    result, found = doctor("--redis-url", server.url)
    assert (result.exit_code, found["redis"][0]) == (1, "error")
    assert "cannot be reached" in found["redis"][1]
    starting = threading.Timer(0.5, server.start)
    starting.start()
    try:
        result, found = doctor("--redis-url", server.url, "--wait", "1m")
        assert (result.exit_code, found["redis"][0]) == (0, "ok")
    finally:
        starting.join()
        server.stop()


def test_a_store_that_wants_a_password_is_not_called_well(tmp_path: Path) -> None:
    server = RedisServer(tmp_path / "redis", "--requirepass", "secret")
    server.start()
    try:
        result, found = doctor("--redis-url", server.url)
        assert (result.exit_code, found["redis"][0]) == (1, "error")
        text = "Authentication required: give the user and the password; see redis.url"
        assert found["redis"][1] == f"cannot be reached: {text}"
        url = server.url.replace("redis://", "redis://:secret@")
        assert doctor("--redis-url", url)[1]["redis writes"][0] == "ok"
    finally:
        server.stop()


@pytest.mark.parametrize("hangs_up", [True, False])
def test_a_port_of_another_kind_is_guessed(hangs_up: bool) -> None:
    """Who is spoken to in plain where TLS is spoken, or the other way, hangs up or waits."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hang_up() -> None:
            accepted, _ = listener.accept()
            with accepted:
                accepted.recv(1)

        thread = threading.Thread(target=hang_up)
        if hangs_up:
            thread.start()
        scheme = "redis" if hangs_up else "rediss"
        result, found = doctor("--redis-url", f"{scheme}://127.0.0.1:{listener.getsockname()[1]}/0")
        if hangs_up:
            thread.join()
    assert (result.exit_code, found["redis"][0]) == (1, "error")
    assert "is it the port of Redis, and does it speak TLS (rediss://)" in found["redis"][1]


def test_the_kernel_is_asked_for_what_the_settings_need(tmp_path: Path) -> None:
    for name, value in (
        ("net/core/somaxconn", "128\n"),
        ("net/ipv4/ip_local_port_range", "32768\t60999\n"),
        ("fs/file-max", "9223372036854775807\n"),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(value)
    settings = make_settings(server__trusted_proxy_hops=1, limits__max_connections=100_000)
    found = {each.subject: each for each in machine.judge(settings, tmp_path)}
    assert found["net.core.somaxconn"].status == "warning"
    assert found["net.core.somaxconn"].text.startswith("128, at least 2048 is needed: raise it")
    assert found["net.ipv4.ip_local_port_range"].status == "warning"
    assert found["fs.file-max"].status == "ok"
    assert "net.netfilter.nf_conntrack_max" not in found, "this kernel has no such setting"


# The way to the server --------------------------------------------------------------------------


@asynccontextmanager
async def proxied(port: int, old: bytes, new: bytes) -> AsyncIterator[str]:
    """Pass connections on, with a part of the first request replaced."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        there = await asyncio.open_connection("127.0.0.1", port)
        there[1].write(re.sub(old, new, head))
        await asyncio.gather(pump(reader, there[1]), pump(there[0], writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws"


async def judged(url: str, **options: Any) -> dict[str, tuple[str, str]]:
    found = [each async for each in proxy.judge(url, 30.0, **options)]
    return {each.subject: (each.status, each.text) for each in found}


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a slow machine an answer takes seconds without anything that holds it back."""
    monkeypatch.setattr(proxy, "SLOW_SECONDS", SECONDS)


@pytest.mark.usefixtures("patient")
async def test_a_way_without_faults_is_ok() -> None:
    async with serving(make_settings()) as server:
        found = await judged(server.ws_url, token=mint("ada"), idle=0.2)
        assert {status for status, _ in found.values()} == {"ok"}, found
        assert set(found) == {"http", "health", "websocket", "buffering", "idle", "long tokens"}
        assert found["health"] == ("ok", f"version {__version__}, 1 worker, ok")


@pytest.mark.usefixtures("patient")
async def test_a_doctor_leaves_no_warning_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with serving(make_settings()) as server:
        found = await judged(server.ws_url, token=mint("ada"))
    assert {status for status, _ in found.values()} == {"ok"}
    assert [each for each in caplog.records if each.levelno >= logging.WARNING] == []


async def test_a_proxy_that_takes_no_long_headers_is_named() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        status = b"431 Large" if len(head) > 8_000 else b"200 OK"
        writer.write(b"HTTP/1.1 %b\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % status)
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        found = await judged(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws")
    text = "a header of 8000 bytes is answered by 431: let the proxy take header lines of 16 KiB"
    assert found["long tokens"] == ("warning", f"{text}: see docs/proxies.md")
    todo = "a proxy may keep it from the public: ask the server by its own address"
    assert found["health"][0] == "warning"
    assert found["health"][1].endswith(f"/health answers 200: {todo}")


@pytest.mark.parametrize(
    ("arguments", "word", "todo"),
    [
        ({"status": SILENT}, "error", "worker 2 does not answer: it is stopped or busy"),
        ({"status": NO_KEYS}, "error", "does the issuer answer there to this server?"),
        ({"broker": BrokerCheck("deaf", 1.0, 1.0)}, "error", "docs/incidents.md#a-worker-is-deaf"),
        ({"broker": REPLICA}, "error", "replica: let redis.url lead to the master"),
        ({"broker": FEW}, "error", "start them, or lower min-replicas-to-write"),
        ({"broker": FULL}, "error", "see docs/stores.md#when-the-store-takes-no-writes"),
        ({"broker": BrokerCheck("unavailable", None, 0.0)}, "error", "see docs/stores.md#when"),
        ({"clock": ClockCheck("apart", 3_000.0)}, "warning", "3.0 s ahead of the store's: let NTP"),
        ({"certificate": CertificateCheck("ends_soon", "x")}, "warning", "ends on x: put a new"),
        ({"certificate": CertificateCheck("ended", "x")}, "error", "ended on x: put a new one"),
    ],
)
async def test_what_the_server_warns_of_is_told_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any], word: str, todo: str
) -> None:
    status = arguments.pop("status", "ok")
    checks = Checks(**{"broker": BrokerCheck("ok", 1.0, 0.0), **arguments})
    other = WorkerHealth(2, status, checks=checks)

    async def others() -> list[WorkerHealth]:
        return [other]

    async with serving(make_settings()) as server:
        monkeypatch.setattr(server.app.extensions["chat_server"].vitals, "others", others)
        found = await judged(server.ws_url)
    assert found["health"][0] == word
    assert todo in found["health"][1]


@pytest.mark.parametrize(
    ("old", "new", "hint"),
    [
        (rb"Host: [^\r]+", b"Host: backend.internal", "403: Host is not passed on"),
        (rb"Upgrade: websocket\r\n", b"", "426: Upgrade is not passed on"),
        (rb"GET /ws ", b"GET /chat/ws ", "404: there is no /ws here"),
    ],
)
async def test_what_a_proxy_forgets_is_named(old: bytes, new: bytes, hint: str) -> None:
    async with serving(make_settings()) as server, proxied(server.port, old, new) as url:
        found = await judged(url)
        status, text = found["websocket"]
        assert status == "error"
        assert hint in text


async def test_an_address_without_a_server_is_told() -> None:
    found = await judged("ws://127.0.0.1:1/ws")
    assert list(found) == ["http"]
    assert found["http"][0] == "error"
