"""TLS by `chat-server serve` itself."""

import asyncio
import json
import os
import signal
import ssl
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chat_server.server.certificates import CertificateWatch
from chat_server.server.tls import tls_context
from chat_server.settings import SettingsError, load_settings
from tests.rig.certificates import make_certificate
from tests.rig.chat_client import MSGPACK, chat
from tests.rig.raw_client import RawClient
from tests.rig.redis_server import RedisServer, running
from tests.rig.server import ServerProcess, mint
from tests.rig.waiting import SECONDS, until

from .inprocess import make_settings, serving
from .processes import refused, workers

SLOW_SECONDS = "1"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def server(certificate: Path) -> Iterator[ServerProcess]:
    environ = {
        "CHAT_GATEWAY__TRANSPORT": "direct",
        "CHAT_LIMITS__SLOW_TIMEOUT_SECONDS": SLOW_SECONDS,
        "CHAT_LIMITS__MESSAGES_PER_SECOND": "100000",
        "CHAT_LIMITS__MESSAGE_BURST": "100000",
    }
    with ServerProcess(environ=environ, certificate=certificate) as running:
        yield running


async def fetch(
    server: ServerProcess, path: str, body: bytes | None = None, jwt: str = ""
) -> tuple[int, Any]:
    """Make a request by https."""
    call = urllib.request.Request(f"{server.url}{path}", body, {"Authorization": f"Bearer {jwt}"})

    def ask() -> tuple[int, Any]:
        with urllib.request.urlopen(call, timeout=SECONDS, context=server.tls) as response:
            return response.status, json.load(response)

    return await asyncio.to_thread(ask)


async def test_people_talk_by_wss_and_https(server: ServerProcess) -> None:
    async with (
        await chat(server.ws_url, mint("ada"), tls=server.tls) as ada,
        await chat(server.ws_url, mint("bob"), encoding=MSGPACK, tls=server.tls) as bob,
    ):
        await bob.ok(type="subscribe", topic="room:tls")
        await ada.ok(type="publish", topic="room:tls", data="x" * 60_000)
        assert (await bob.next())["data"] == "x" * 60_000
        path, body = "/api/topics/room:tls/messages", json.dumps({"data": "by https"}).encode()
        status, _ = await fetch(server, path, body, mint("ada"))
        assert status == 201
        assert (await bob.next())["data"] == "by https"


async def test_offers_no_http_2_whose_websockets_would_be_slow(server: ServerProcess) -> None:
    assert server.tls is not None
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2", "http/1.1"])
    _, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=context)
    assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
    writer.close()
    await writer.wait_closed()


async def test_a_client_that_does_not_read_is_dropped(server: ServerProcess) -> None:
    async with await chat(server.ws_url, mint("ada"), tls=server.tls) as ada:
        slow = await chat(server.ws_url, mint("bob"), tls=server.tls)
        await slow.ok(type="subscribe", topic="room:slow")
        slow.websocket.transport.pause_reading()
        async with asyncio.timeout(2 * SECONDS):
            while (await fetch(server, "/health"))[1]["connections"] == 2:
                await ada.ok(type="publish", topic="room:slow", data="x" * 60_000)
        slow.websocket.transport.abort()


async def test_plain_http_gets_no_answer(server: ServerProcess) -> None:
    async with await RawClient.connect(server.port) as wire:
        await wire.send(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert b"HTTP/1.1" not in await wire.read_to_end()


async def test_who_does_not_finish_the_handshake_is_dropped(certificate: Path) -> None:
    settings = make_settings(
        http__head_timeout_seconds=1, server__tls_certificate_file=str(certificate)
    )
    async with serving(settings) as served, await RawClient.connect(served.port) as wire:
        await wire.send(b"\x16\x03\x01")
        await wire.read_to_end()


def test_files_that_cannot_be_used_are_one_line(certificate: Path, tmp_path: Path) -> None:
    text = certificate.read_text("ascii")
    alone = tmp_path / "alone.pem"
    alone.write_text(text[: text.index("-----BEGIN PRIVATE")], "ascii")
    (tmp_path / "other").mkdir()
    other = make_certificate(tmp_path / "other")
    cases = [
        ({"CERTIFICATE": "/nowhere.pem"}, "server.tls_certificate_file: cannot be read: No such"),
        (
            {"CERTIFICATE": str(certificate), "KEY": "/nowhere.pem"},
            "server.tls_key_file: cannot be read: No such",
        ),
        ({"CERTIFICATE": str(alone)}, "server.tls_certificate_file: must hold a certificate"),
        (
            {"CERTIFICATE": str(certificate), "KEY": str(other)},
            "server.tls_certificate_file: must hold a certificate",
        ),
        ({"KEY": str(other)}, "server.tls_key_file: is of no use without"),
    ]
    for files, words in cases:
        environ = {f"CHAT_SERVER__TLS_{name}_FILE": file for name, file in files.items()}
        with pytest.raises(SettingsError) as error:
            tls_context(load_settings(environ={"CHAT_ENVIRONMENT": "testing", **environ}))
        assert str(error.value).startswith(words)
        assert "\n" not in str(error.value)
    code, line = refused("--bind", "127.0.0.1:0", CHAT_SERVER__TLS_CERTIFICATE_FILE="/nowhere.pem")
    assert (code, line.count("\n")) == (2, 1), line
    assert line.startswith("chat-server: server.tls_certificate_file: cannot be read: No such")


async def test_replaced_workers_use_the_renewed_certificate(tmp_path: Path) -> None:
    (tmp_path / "redis").mkdir()
    (tmp_path / "renewed").mkdir()
    file = make_certificate(tmp_path)
    renewed = make_certificate(tmp_path / "renewed")
    with (
        running(RedisServer(tmp_path / "redis")) as redis,
        ServerProcess("--workers", "2", "--redis-url", redis.url, certificate=file) as server,
    ):
        await until(lambda: len(workers(server.pid)) == 2)
        before = workers(server.pid)
        file.write_bytes(renewed.read_bytes())
        os.kill(server.pid, signal.SIGHUP)
        await until(lambda: len(workers(server.pid) - before) == 2 == len(workers(server.pid)))
        server.tls = ssl.create_default_context(cafile=renewed)
        async with await chat(server.ws_url, mint("ada"), tls=server.tls) as ada:
            await ada.ok(type="subscribe", topic="room:a")


async def test_a_certificate_that_ends_soon_is_told_by_health_and_log(
    certificate: Path, server: ServerProcess, caplog: pytest.LogCaptureFixture
) -> None:
    """That of the tests ends within a day."""
    _, shown = await fetch(server, "/health")
    assert shown["checks"]["certificate"]["status"] == "ends_soon"
    settings = load_settings(environ={"CHAT_SERVER__TLS_CERTIFICATE_FILE": str(certificate)})
    watch = await asyncio.to_thread(CertificateWatch, settings)
    watch.start()
    watch.stop()
    assert "the certificate ends on " in caplog.text
