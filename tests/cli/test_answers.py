"""What commands say of a server that answers nonsense, without end, or never."""

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress

import pytest
from click.testing import CliRunner

from chat_server.cli import operators
from chat_server.cli.commands import main
from chat_server.cli.doctor import proxy
from chat_server.client.url import websocket_url

WHY = ("--reason", "x")
COMMANDS: list[tuple[str, ...]] = [
    ("nodes",),
    ("connections",),
    ("topics",),
    ("explain", "room:1", "5", "bob"),
    ("disconnect", "--user", "bob", *WHY),
    ("block", "bob", "--for", "1h", *WHY),
    ("unblock", "bob", *WHY),
    ("revoke", "--jti", "1", *WHY),
    ("announce", "hi", *WHY),
    ("purge", "room:1", "--yes", *WHY),
]
NOT_UNDERSTOOD = "chat-server: the server's answer is not understood; does it have this version?\n"
NO_API = "there is no chat server's API at /api/admin/"


@asynccontextmanager
async def answering(*parts: bytes, again: float | None = None) -> AsyncIterator[str]:
    """Answer every request by these parts; the last one again and again, so many seconds apart."""
    conversations: dict[StreamWriter, asyncio.Task[None] | None] = {}

    async def serve(reader: StreamReader, writer: StreamWriter) -> None:
        conversations[writer] = asyncio.current_task()
        with suppress(ConnectionError):
            await reader.read(65_536)
            for part in parts:
                writer.write(part)
            while again is not None:
                writer.write(parts[-1])
                await writer.drain()
                await asyncio.sleep(again)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for writer in conversations:
            writer.transport.abort()
        await asyncio.gather(*filter(None, conversations.values()))


def body(content: bytes) -> bytes:
    """Return an answer 200 with this content."""
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(content), content)


async def call(url: str, *arguments: str) -> tuple[int, str, str]:
    environ = {"CHATCLIENT_URL": url, "CHATCLIENT_TOKEN": "t0ken"}
    result = await asyncio.to_thread(CliRunner(env=environ).invoke, main, arguments)
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
async def test_an_answer_that_says_nothing_is_one_line(command: tuple[str, ...]) -> None:
    for content, told in (
        (b"[]", NO_API),
        (b"<html>", NO_API),
        (b"\xff", NO_API),
        (b"[" * 100_000, NO_API),
        (b"{}", NOT_UNDERSTOOD),
        (b'{"%b":[5],"missing":5,"more":true}' % command[0].encode(), NOT_UNDERSTOOD),
    ):
        async with answering(body(content)) as url:
            code, out, err = await call(url, *command)
        assert (code, out) == (1, ""), content[:99]
        assert (told in err, err.count("\n")) == (True, 1), err


@pytest.mark.parametrize(
    ("parts", "again", "told"),
    [
        ((b"\x00garbage\r\n\r\n",), None, "what answers does not speak HTTP"),
        ((b"",), None, "the connection was reset"),
        ((b"HTTP/1.1 200 OK\r\n\r\n[", b" " * 65_536), 0.0, NO_API),
        ((b"HTTP/1.1 200 OK\r\n", b"x: y\r\n"), 0.0, "got more than 100 headers"),
    ],
)
async def test_what_is_no_answer_is_one_line(
    parts: tuple[bytes, ...], again: float | None, told: str
) -> None:
    async with answering(*parts, again=again) as url:
        code, out, err = await call(url, "nodes")
        assert (code, out, told in err, err.count("\n")) == (1, "", True, 1), err
        async with aclosing(proxy.judge(websocket_url(url), 30.0)) as found:
            assert (await anext(found)).subject == "http"


NODE = (
    b'{"nodes":[{"node":"a","draining":false,"broker":"ok","connections":1,"users":1,"topics":1,'
    b'"lag_ms":1,"started_at":%b,"version":"1"}],"missing":["b"]}'
)


async def test_a_time_beyond_all_calendars_is_no_fault() -> None:
    async with answering(body(NODE % b"99999999999999999")) as url:
        code, out, err = await call(url, "nodes")
    assert (code, err) == (0, "chat-server: worker b did not answer\n")
    assert out == "a ok 1 connections, 1 users, 1 topics, 1 ms late, since (no time), version 1\n"


async def test_a_fault_of_our_own_is_not_laid_to_the_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fault(at: float) -> None:
        raise ValueError(f"a fault of our own at {at:g}")

    monkeypatch.setattr(operators, "moment", fault)
    environ = {"CHATCLIENT_TOKEN": "t0ken"}
    async with answering(body(NODE % b"5")) as url:
        arguments = ("nodes", "--url", url)
        result = await asyncio.to_thread(CliRunner(env=environ).invoke, main, arguments)
    assert repr(result.exception) == "ValueError('a fault of our own at 5')"
    assert "not understood" not in result.stderr


async def test_a_scheme_that_the_server_does_not_speak_is_named() -> None:
    async with answering(b"HTTP/1.1 400 Bad Request\r\n\r\n") as url:
        _, _, err = await call(url.replace("http:", "https:"), "nodes")
    assert "what answers does not speak TLS; is it http:// instead of https://?" in err


async def test_doctor_waits_for_no_answer_that_only_trickles() -> None:
    async with answering(b"HTTP/1.1 200 OK\r\n", b" ", again=0.01) as url:
        found = [each async for each in proxy.judge(websocket_url(url), 0.3)]
    assert [(each.subject, each.status) for each in found] == [("http", "error")]
    assert found[0].text.endswith("/health/live cannot be asked: timed out")


@pytest.mark.parametrize("token", ["", "a b", "a\nb", "\udcff", "ä"])
@pytest.mark.parametrize("command", [("nodes",), ("doctor",), ("tail", "room:1")])
async def test_a_token_that_no_header_takes_is_refused_unseen(
    command: tuple[str, ...], token: str
) -> None:
    url = "http://127.0.0.1:1"
    code, out, err = await call(url, *command, "--url", url, "--token", token)
    assert (code, out) == (2, "")
    assert "Invalid value for '--token'" in err
    assert err.endswith(": must be visible ASCII characters, without spaces\n")


BAD = "\udcff"


@pytest.mark.parametrize(
    "command",
    [
        ("explain", "room:1", "1", BAD),
        ("connections", "--client", BAD),
        ("block", BAD, "--for", "1h", *WHY),
        ("block", "bob", "--for", "1h", "--reason", BAD),
        ("announce", BAD, *WHY),
        ("users", "disable", BAD),
        ("token", "--sub", BAD),
        ("edit", "room:a", "1", BAD),
    ],
)
async def test_bytes_that_are_no_text_are_refused(command: tuple[str, ...]) -> None:
    told = f"chat-server: argument {command.index(BAD) + 1} is not encoded in UTF-8\n"
    assert await call("http://127.0.0.1:1", *command) == (2, "", told)
