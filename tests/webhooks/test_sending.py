"""One request: where it may go, what it carries, and what becomes of it with a bad endpoint."""

import asyncio
import ssl
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from chat_server.settings import Webhook
from chat_server.webhooks import connecting
from chat_server.webhooks.addresses import Address
from chat_server.webhooks.sending import (
    MAX_ANSWER_BYTES,
    Answer,
    Sender,
    SendingError,
    parse_retry_after,
)

from ..rig.certificates import make_certificate
from ..rig.ports import free_port
from ..rig.waiting import until
from ..rig.webhook_receiver import Received, WebhookReceiver, answering

NOW = 1_800_000_000.0
PLENTY = 30.0
"""Seconds that no test waits for."""
SHORT = 2
"""Seconds that run out, and in which a busy machine connects."""

Sending = Callable[..., Any]


@asynccontextmanager
async def sender(
    url: str,
    *addresses: str,
    tls: ssl.SSLContext | None = None,
    look_up: Callable[[str, int], list[str]] | None = None,
    **settings: Any,
) -> AsyncIterator[Sender]:
    keys = {"timeout_seconds": PLENTY, "allow_private": True, **settings}
    found = Sender(
        Webhook(url=url, **keys),
        tls or ssl.create_default_context(),
        look_up=look_up or (lambda host, port: list(addresses)),
    )
    try:
        yield found
    finally:
        await found.close()


async def post(one: Sender, body: bytes = b"{}") -> Answer:
    return await one.send(body, {"webhook-id": "msg_1"}, now=NOW)


async def refusal(one: Sender) -> str:
    with pytest.raises(SendingError) as caught:
        await post(one)
    return str(caught.value)


@pytest.fixture
def public(monkeypatch: pytest.MonkeyPatch) -> str:
    """An address of this machine that counts as public, as no other does."""
    address = "127.0.0.2"

    def is_public(found: Address) -> bool:
        return str(found) == address

    monkeypatch.setattr(connecting, "is_public", is_public)
    return address


async def test_a_request_carries_the_body_and_the_headers() -> None:
    async with WebhookReceiver() as receiver, sender(f"{receiver.url}?a=b%20c") as one:
        assert await post(one, b'{"a":1}') == Answer(204)
        assert await post(one, b'{"a":2}') == Answer(204)
    assert [request.body for request in receiver.requests] == [b'{"a":1}', b'{"a":2}']
    assert receiver.connections == 1
    assert receiver.requests[0].target == "/hook?a=b%20c"
    headers = receiver.requests[0].headers
    assert headers["host"] == f"127.0.0.1:{receiver.port}"
    assert headers["content-type"] == "application/json"
    assert headers["user-agent"].startswith("chat_server/")
    assert headers["webhook-id"] == "msg_1"
    assert not {"cookie", "authorization"} & set(headers)


# Where it may go ------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0"])
async def test_a_private_address_is_not_connected_to(host: str) -> None:
    async with WebhookReceiver() as receiver:
        async with sender(f"http://{host}:{receiver.port}/", allow_private=False) as one:
            assert "is no public address" in await refusal(one)
        assert receiver.connections == 0


@pytest.mark.parametrize("host", ["localhost", "127.1", "2130706433", "0x7f000001"])
async def test_a_name_that_leads_to_this_machine_is_not_connected_to(host: str) -> None:
    async with WebhookReceiver() as receiver:
        url = f"http://{host}:{receiver.port}/"
        async with sender(url, allow_private=False, look_up=connecting.look_up) as one:
            assert "is no public address" in await refusal(one)
        assert receiver.connections == 0


async def test_a_name_that_leads_elsewhere_at_the_second_look_up_is_refused(public: str) -> None:
    answers = [[public], ["127.0.0.1"]]
    async with WebhookReceiver() as receiver:

        async def answer_once(request: Received, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 204 X\r\nConnection: close\r\n\r\n")
            await writer.drain()

        receiver.answer = answer_once
        url = f"http://hooks.example:{receiver.port}/"
        async with sender(
            url, allow_private=False, look_up=lambda host, port: answers.pop(0)
        ) as one:
            assert (await post(one)).status == 204
            text = "hooks.example leads to 127.0.0.1, which is no public address"
            assert text in await refusal(one)
        assert len(receiver.requests) == 1
        assert receiver.connections == 1
        assert receiver.requests[0].headers["host"] == f"hooks.example:{receiver.port}"


async def test_the_name_is_looked_up_once_for_a_connection(public: str) -> None:
    """What is connected to is what was judged: a look-up in between would be another."""
    answers = [[public]]
    async with WebhookReceiver() as receiver:
        url = f"http://hooks.example:{receiver.port}/"
        async with sender(
            url, allow_private=False, look_up=lambda host, port: answers.pop(0)
        ) as one:
            assert (await post(one)).status == 204
    assert answers == []


async def test_of_several_addresses_only_public_ones_are_tried(public: str) -> None:
    async with WebhookReceiver() as receiver:
        url = f"http://hooks.example:{receiver.port}/"
        async with sender(url, "127.0.0.1", "::1", public, allow_private=False) as one:
            assert (await post(one)).status == 204
        assert receiver.connections == 1


async def test_an_address_at_which_nobody_listens_leaves_time_for_the_next() -> None:
    async with WebhookReceiver() as receiver:
        url = f"http://hooks.example:{receiver.port}/"
        async with sender(url, "::1", "127.0.0.1") as one:
            assert (await post(one)).status == 204


async def test_a_redirect_is_an_answer_and_not_followed() -> None:
    async with WebhookReceiver() as inside:
        redirect = answering(307, f"Location: {inside.url}")
        async with WebhookReceiver(redirect) as receiver, sender(receiver.url) as one:
            answer = await post(one)
        assert answer.status == 307
        assert not answer.is_success
        assert inside.connections == 0


async def test_proxies_and_passwords_of_the_environment_are_not_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    async with WebhookReceiver() as proxy, WebhookReceiver() as receiver:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        async with sender(receiver.url) as one:
            assert (await post(one)).status == 204
        assert proxy.connections == 0
        assert "authorization" not in receiver.requests[0].headers


async def test_a_proxy_that_is_set_is_used_and_decides_where_to() -> None:
    def look_up(host: str, port: int) -> list[str]:
        raise AssertionError("the proxy looks names up")

    async with WebhookReceiver() as proxy:
        url = f"http://me:p%40ss@127.0.0.1:{proxy.port}"
        async with sender(
            "http://hooks.example/x", proxy_url=url, allow_private=False, look_up=look_up
        ) as one:
            assert (await post(one)).status == 204
    assert proxy.requests[0].target == "http://hooks.example/x"
    assert proxy.requests[0].headers["proxy-authorization"] == "Basic bWU6cEBzcw=="


# TLS ------------------------------------------------------------------------------------------


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    return make_certificate(tmp_path)


@pytest.fixture
def server_tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


async def test_tls_is_spoken_with_the_name_at_the_address_that_was_judged(
    certificate: Path, server_tls: ssl.SSLContext
) -> None:
    names = []
    server_tls.sni_callback = lambda connection, name, context: names.append(name)
    trusting = ssl.create_default_context(cafile=certificate)
    async with WebhookReceiver(tls=server_tls) as receiver:
        url = f"https://localhost:{receiver.port}/"
        async with sender(url, "127.0.0.2", tls=trusting) as one:
            assert (await post(one)).status == 204
    assert names == ["localhost"]
    assert receiver.requests[0].headers["host"] == f"localhost:{receiver.port}"


@pytest.mark.parametrize(
    ("host", "trusted", "reason"),
    [
        ("localhost", False, "self-signed certificate"),
        ("hooks.example", True, "Hostname mismatch"),
    ],
)
async def test_a_bad_certificate_is_refused(
    host: str, trusted: bool, reason: str, certificate: Path, server_tls: ssl.SSLContext
) -> None:
    tls = ssl.create_default_context(cafile=certificate if trusted else None)
    async with WebhookReceiver(tls=server_tls) as receiver:
        async with sender(f"https://{host}:{receiver.port}/", "127.0.0.1", tls=tls) as one:
            assert reason in await refusal(one)
        assert receiver.requests == []


# Bad endpoints --------------------------------------------------------------------------------


async def test_an_endpoint_that_never_answers_has_a_time() -> None:
    async def never(request: Received, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(3600)

    async with (
        WebhookReceiver(never) as receiver,
        sender(receiver.url, timeout_seconds=SHORT) as one,
    ):
        assert await refusal(one) == f"no answer in {SHORT} s"


async def test_an_endpoint_that_drips_its_head_has_no_more_time() -> None:
    async def drip(request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            writer.write(b"x: y\r\n")
            await writer.drain()
            await asyncio.sleep(0.01)

    async with (
        WebhookReceiver(drip) as receiver,
        sender(receiver.url, timeout_seconds=SHORT) as one,
    ):
        assert await refusal(one) == f"no answer in {SHORT} s"


async def test_of_an_endless_answer_only_the_beginning_is_read() -> None:
    written = 0
    ended = asyncio.Event()

    async def flood(request: Received, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        try:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n")
            while True:
                writer.write(b"x" * 65_536)
                written += 65_536
                await writer.drain()
        finally:
            ended.set()

    async with WebhookReceiver(flood) as receiver, sender(receiver.url) as one:
        assert await post(one) == Answer(200)
        await ended.wait()
        assert written < 200 * MAX_ANSWER_BYTES  # The rest fills the buffers of the system.
        receiver.answer = answering(204)
        assert await post(one) == Answer(204)
        assert receiver.connections == 2


async def test_an_endless_head_is_no_answer() -> None:
    async def flood(request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            writer.write(b"x: " + b"y" * 65_536 + b"\r\n")
            await writer.drain()

    async with WebhookReceiver(flood) as receiver, sender(receiver.url) as one:
        assert "too" in await refusal(one)


@pytest.mark.parametrize(
    "beginning", [b"", b"HTTP/1.1 20", b"HTTP/1.1 200 OK\r\nContent-Le", b"\x00\x01\r\n\r\n"]
)
async def test_a_connection_that_ends_before_the_head_is_no_answer(beginning: bytes) -> None:
    async def close(request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(beginning)
        await writer.drain()
        raise ConnectionResetError

    async with WebhookReceiver(close) as receiver, sender(receiver.url) as one:
        assert await refusal(one)


async def test_a_connection_that_ends_in_the_body_has_answered() -> None:
    async def close(request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        await writer.drain()
        raise ConnectionResetError

    async with WebhookReceiver(close) as receiver, sender(receiver.url) as one:
        assert await post(one) == Answer(200)


async def test_a_body_that_drips_has_answered() -> None:
    async def drip(request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        await asyncio.sleep(3600)

    async with (
        WebhookReceiver(drip) as receiver,
        sender(receiver.url, timeout_seconds=2.0) as one,
    ):
        assert await post(one) == Answer(200)


async def test_nobody_listens() -> None:
    async with sender(f"http://127.0.0.1:{free_port()}/") as one:
        assert "connection attempts failed" in await refusal(one)


async def test_a_name_that_nobody_knows() -> None:
    def look_up(host: str, port: int) -> list[str]:
        raise OSError("Name or service not known")

    async with sender("http://hooks.example/", look_up=look_up) as one:
        assert await refusal(one) == "hooks.example cannot be resolved: Name or service not known"


async def test_a_name_server_that_does_not_answer_takes_one_thread() -> None:
    answer = threading.Event()
    asked = []

    def look_up(host: str, port: int) -> list[str]:
        asked.append(host)
        answer.wait(PLENTY)
        return ["127.0.0.1"]

    async with WebhookReceiver() as receiver:
        url = f"http://hooks.example:{receiver.port}/"
        async with sender(url, look_up=look_up, timeout_seconds=0.1) as one:
            for _ in range(3):
                assert await refusal(one) == "no answer in 0.1 s"
            await until(lambda: asked)
            assert asked == ["hooks.example"]
        answer.set()


# Retry-After ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120", 120.0),
        ("0", 0.0),
        ("9" * 5_000, 9_999_999_999.0),
        ("Fri, 15 Jan 2027 08:02:00 GMT", 120.0),
        ("Fri, 15 Jan 2027 07:00:00 GMT", 0.0),
        ("Fri, 15 Jan 2027 08:02:00", 120.0),
        ("Fri, 99 Jan 2027 08:02:00 GMT", None),
        ("", None),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
        ("²", None),
    ],
)
def test_retry_after(text: str, seconds: float | None) -> None:
    assert parse_retry_after(text, NOW) == seconds


async def test_an_answer_says_when_to_come_back() -> None:
    busy = answering(429, "Retry-After: 7")
    async with WebhookReceiver(busy) as receiver, sender(receiver.url) as one:
        assert await post(one) == Answer(429, 7.0)
