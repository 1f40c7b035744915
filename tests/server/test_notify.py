"""What systemd's `Type=notify` hears of a server."""

import logging
import socket
from pathlib import Path

import pytest

from chat_server.server.notify import notify

from ..rig.redis_server import RedisServer, running
from ..rig.server import ServerProcess


def _listen(address: str) -> socket.socket:
    heard = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    heard.bind(address)
    heard.settimeout(60)
    return heard


@pytest.mark.parametrize("workers", [1, 2])
def test_a_server_says_when_it_is_ready_and_when_it_stops(workers: int, tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    with _listen(path) as manager, running(RedisServer(tmp_path)) as redis:
        flags = ("--workers", str(workers), "--redis-url", redis.url)
        with ServerProcess(*flags, environ={"NOTIFY_SOCKET": path}) as server:
            ready = manager.recv(4096).decode().splitlines()
            assert ready == ["READY=1", f"STATUS={workers} workers on {server.url}"]
            server.stop()
            assert manager.recv(4096) == b"STOPPING=1"
            manager.setblocking(False)
            with pytest.raises(BlockingIOError):
                manager.recv(4096)


def test_an_address_may_be_abstract(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"chat-server-test-{id(monkeypatch)}"
    monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
    with _listen(f"\0{name}") as manager:
        notify("READY=1")
        assert manager.recv(4096) == b"READY=1"


@pytest.mark.parametrize("address", ["", "tcp:localhost", "notify"])
def test_nobody_is_told_where_nobody_listens(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    notify("READY=1")


def test_a_manager_that_is_gone_is_a_line_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    with caplog.at_level(logging.WARNING):
        notify("READY=1")
    assert "cannot be told READY=1" in caplog.text
