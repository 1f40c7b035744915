"""Answers that never end, and the threads that wait for them."""

import asyncio
import socket
import threading
from typing import Any

import pytest

from chat_server.auth import jwks
from chat_server.auth.fetching import Fetcher, FetchError

from ..rig.ports import free_port
from .helpers import running, until
from .key_server import KeyServer


def fetch_threads() -> int:
    return sum(thread.name == "jwks-fetch" for thread in threading.enumerate())


@pytest.mark.parametrize("drip_head", [False, True])
async def test_an_answer_that_trickles_is_cut(server: KeyServer, drip_head: bool) -> None:
    server.body = b" " * 10_000
    server.drip_head = drip_head
    server.pause_seconds = 0.01  # each byte comes in time, the whole would take 100 seconds
    fetcher = Fetcher(server.url, bytes, max_bytes=10**6)
    for _ in range(3):
        with pytest.raises(FetchError, match="in time"):
            await fetcher.fetch(seconds=0.3)
        # The thread ends, and the issuer sees the connection closed.
        await until(lambda: fetch_threads() == 0 and server.open_connections == 0)
    server.pause_seconds, server.drip_head = 0.0, False
    assert await fetcher.fetch(seconds=30) == server.body


async def test_a_handshake_that_hangs_is_cut(server: KeyServer) -> None:
    """Speak TLS to what answers with a byte now and then, and to what says nothing."""
    fetcher = Fetcher(server.url.replace("http:", "https:"), bytes, max_bytes=10**6)
    listener = socket.create_server(("127.0.0.1", 0))
    with listener:
        url = f"https://127.0.0.1:{listener.getsockname()[1]}/"
        fetcher = Fetcher(url, bytes, max_bytes=10**6)
        with pytest.raises(FetchError, match="in time"):
            await fetcher.fetch(seconds=0.3)
        await until(lambda: fetch_threads() == 0)


async def test_slow_fetches_take_no_thread_of_others(
    server: KeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks, "FETCH_SECONDS", 0.1)
    server.drip_head = True
    server.pause_seconds = 0.01
    subject = running(server, 0.05)
    await subject.start()
    try:
        await until(lambda: server.requests >= 6)
        await until(lambda: fetch_threads() <= 2)  # those that were cut may be about to end
        workers = asyncio.get_running_loop()._default_executor  # type: ignore[attr-defined]
        assert workers is None
    finally:
        await subject.stop()


async def test_a_name_that_is_looked_up_for_long_is_not_looked_up_twice(
    server: KeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    create_connection = socket.create_connection
    lookups = []

    def slow(*args: Any, **kwargs: Any) -> socket.socket:
        lookups.append(args)
        gate.wait(30)
        return create_connection(*args, **kwargs)

    monkeypatch.setattr(socket, "create_connection", slow)
    fetcher = Fetcher(server.url, bytes, max_bytes=10**6)
    with pytest.raises(FetchError, match="in time"):
        await fetcher.fetch(seconds=0.1)
    with pytest.raises(FetchError, match="still being looked up"):
        await fetcher.fetch(seconds=0.1)
    await until(lambda: lookups)
    assert len(lookups) == 1
    gate.set()
    await until(lambda: fetch_threads() == 0)
    assert server.requests == 0  # it came too late
    assert await fetcher.fetch(seconds=30) == server.body


async def test_an_endless_answer_is_cut(server: KeyServer) -> None:
    server.body = b" " * 5_000_000
    with pytest.raises(FetchError, match="longer than 1000 bytes"):
        await Fetcher(server.url, bytes, max_bytes=1000).fetch(seconds=30)


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_the_proxy_of_the_environment_is_named(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = f"127.0.0.1:{free_port()}"
    monkeypatch.setenv(f"{scheme}_proxy", f"http://user:secret@{proxy}")
    fetcher = Fetcher(f"{scheme}://issuer.example/keys", bytes, max_bytes=10)
    with pytest.raises(FetchError) as caught:
        await fetcher.fetch(seconds=30)
    assert str(caught.value).endswith(f"refused (through the proxy {proxy} of the environment)")
