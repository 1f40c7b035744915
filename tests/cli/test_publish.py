"""`chat-server publish`, as a process, against a server that fails on demand."""

import asyncio
import os
import random
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from chat_server.cli.terminal import MAX_LINE_BYTES
from chat_server.client import connect
from chat_server.protocol import commands
from tests.cli.program import ENVIRON, program, run
from tests.rig.fake_server import FakeServer
from tests.rig.lossy_proxy import LossyProxy
from tests.rig.server import ServerProcess, mint
from tests.rig.waiting import until


def stored(server: FakeServer, topic: str = "room:a") -> list[Any]:
    return [message.data for message in server.topic(topic).messages]


def lines(count: int) -> bytes:
    return b"".join(b"line %d\n" % number for number in range(count))


def texts(count: int) -> list[dict[str, str]]:
    return [{"text": f"line {number}"} for number in range(count)]


async def test_a_text(server: FakeServer) -> None:
    assert await run("publish", "room:a", "grüße", url=server.url) == (0, "", "")
    assert stored(server) == [{"text": "grüße"}]
    assert server.tokens == ["t0ken"]


async def test_a_text_that_begins_with_a_dash(server: FakeServer) -> None:
    assert (await run("publish", "room:a", "--", "-v", url=server.url))[0] == 0
    assert stored(server) == [{"text": "-v"}]


async def test_lines_in_their_order(server: FakeServer) -> None:
    result = await run("publish", "room:a", url=server.url, stdin=lines(2000))
    assert result == (0, "", "")
    assert stored(server) == texts(2000)


async def test_lines_of_every_kind(server: FakeServer) -> None:
    stdin = "dos\r\n\nümlaut\n  spaces  \nno end".encode()
    assert (await run("publish", "room:a", url=server.url, stdin=stdin))[0] == 0
    assert [data["text"] for data in stored(server)] == [
        "dos",
        "",
        "ümlaut",
        "  spaces  ",
        "no end",
    ]


async def test_json(server: FakeServer) -> None:
    assert (await run("publish", "--data", "room:a", '{"a": [1]}', url=server.url))[0] == 0
    stdin = b'1\n"two"\n[3]\n'
    assert (await run("publish", "--data", "room:a", url=server.url, stdin=stdin))[0] == 0
    assert stored(server) == [{"a": [1]}, 1, "two", [3]]


async def test_verbose_prints_where_each_stands(server: FakeServer) -> None:
    code, out, _ = await run("publish", "-v", "room:a", url=server.url, stdin=lines(3))
    assert (code, out) == (0, "1\n2\n3\n")


async def test_nothing_on_stdin(server: FakeServer) -> None:
    assert await run("publish", "room:a", url=server.url) == (0, "", "")


async def test_lines_leave_as_they_come(server: FakeServer) -> None:
    async with program("publish", "room:a", url=server.url) as running:
        await running.write(b"first\n")
        await until(lambda: stored(server) == [{"text": "first"}], 90)
        await running.write(b"second\n")
        await until(lambda: len(stored(server)) == 2)
        assert (await running.end())[0] == 0


async def test_a_bad_line_is_named_and_those_before_it_are_stored(server: FakeServer) -> None:
    result = await run("publish", "room:a", url=server.url, stdin=b"ok\n\xff\xfe\nlater\n")
    assert result == (1, "", "chat-server: line 2: is not UTF-8\n")
    assert stored(server) == [{"text": "ok"}]
    code, _, err = await run("publish", "--data", "room:a", url=server.url, stdin=b"1\n{\n")
    assert code == 1
    assert err.startswith("chat-server: line 2: is not JSON")


async def test_a_line_without_end_is_given_up(server: FakeServer) -> None:
    endless = b"ok\n" + b"x" * (MAX_LINE_BYTES + 200_000)
    code, _, err = await run("publish", "room:a", url=server.url, stdin=endless)
    assert (code, err) == (1, f"chat-server: line 2: is longer than {MAX_LINE_BYTES} bytes\n")


async def test_a_message_that_is_too_large_is_not_sent(server: FakeServer) -> None:
    stdin = b"ok\n" + b"x" * 70_000 + b"\n"
    code, _, err = await run("publish", "room:a", url=server.url, stdin=stdin)
    assert code == 1
    assert err.startswith("chat-server: line 2: too_large: message: may have 65536 bytes")
    assert stored(server) == [{"text": "ok"}]


async def test_a_refusal_is_one_line(server: FakeServer) -> None:
    server.refuse("publish", "forbidden")
    result = await run("publish", "room:a", "x", url=server.url)
    assert result == (1, "", "chat-server: forbidden: publish was refused\n")


async def test_refusals_that_pass_are_waited_for(server: FakeServer) -> None:
    for _ in range(8):
        server.refuse("publish", "unavailable", retry_in_ms=1)
    code, _, err = await run("publish", "room:a", url=server.url, stdin=lines(100))
    assert (code, err) == (0, "chat-server: waiting: unavailable: publish was refused\n")
    assert stored(server) == texts(100)


async def test_lost_connections_lose_no_line(server: FakeServer) -> None:
    rng = random.Random(5)

    def sometimes_break(command: commands.Command) -> None:
        if rng.random() < 0.01:
            server.drop()

    server.on_command = sometimes_break
    code, _, err = await run("publish", "room:a", url=server.url, stdin=lines(300))
    assert code == 0
    assert "chat-server: reconnecting: the connection broke" in err
    assert err.endswith("chat-server: connected again\n")
    assert stored(server) == texts(300)


async def test_nobody_listens(server: FakeServer) -> None:
    url = server.url
    await server.stop()
    code, out, err = await run("publish", "room:a", "x", url=url)
    assert (code, out) == (1, "")
    assert err == f"chat-server: cannot connect: 127.0.0.1:{server.port}: connection refused\n"


async def test_a_rejected_token(server: FakeServer) -> None:
    server.accept = lambda token: False
    result = await run("publish", "room:a", "x", url=server.url)
    refused = f"chat-server: the token was refused: 127.0.0.1:{server.port}"
    assert result == (1, "", f"{refused}: bad token\n")


async def test_in_development_it_signs_a_token_for_its_user(server: FakeServer) -> None:
    assert (await run("publish", "room:a", "x", url=server.url, token=None))[0] == 0
    [token] = server.tokens
    assert token.count(".") == 2


async def test_interrupted_while_it_waits_for_lines(server: FakeServer) -> None:
    async with program("publish", "room:a", url=server.url) as running:
        await running.write(b"first\n")
        await until(lambda: len(stored(server)) == 1, 90)
        running.interrupt()
        async with asyncio.timeout(90):
            assert await running.wait() == 130
        assert (await running.end()) == (130, "", "")


async def test_a_reader_that_leaves_ends_it_quietly(server: FakeServer) -> None:
    async with program("publish", "-v", "room:a", url=server.url) as running:
        await running.write(b"first\n")
        assert await running.line() == "1"
        running.stop_reading()
        await running.write(lines(50))
        assert (await running.end())[0] == 0


async def test_waits_for_a_server_that_is_not_there_yet(server: FakeServer) -> None:
    url = server.url
    await server.stop()
    async with program("publish", "--wait", "60s", "room:a", "x", url=url) as running:
        assert (await running.complaint()).startswith(
            f"chat-server: waiting: 127.0.0.1:{server.port}: connection refused"
        )
        await server.start()
        assert await running.end() == (0, "", "chat-server: connected\n")
    assert stored(server) == [{"text": "x"}]


async def test_the_wait_for_a_server_ends(server: FakeServer) -> None:
    url = server.url
    await server.stop()
    code, _, err = await run("publish", "--wait", "1s", "room:a", "x", url=url)
    assert code == 1
    assert err.endswith(f"cannot connect: 127.0.0.1:{server.port}: connection refused\n")


async def test_gives_up_a_server_that_does_not_answer(server: FakeServer) -> None:
    server.silent.add("publish")
    result = await run("publish", "--timeout", "1s", "room:a", "x", url=server.url)
    told = "chat-server: not stored within 1 s; it may have been stored all the same\n"
    assert result == (1, "", told)


async def test_gives_up_a_server_that_went_away(server: FakeServer) -> None:
    """The line that came then was never sent, and that is said."""
    async with program("publish", "--timeout", "2s", "room:a", url=server.url) as running:
        await running.write(b"first\n")
        await until(lambda: len(stored(server)) == 1, 90)
        await server.stop()
        await running.complaint()
        code, _, err = await running.end(b"second\n")
    assert (code, err) == (1, "chat-server: line 2: not stored within 2 s; nothing was stored\n")


async def test_an_idle_input_is_no_timeout(server: FakeServer) -> None:
    async with program("publish", "--timeout", "3s", "room:a", url=server.url) as running:
        await running.write(b"first\n")
        await until(lambda: len(stored(server)) == 1, 90)
        await asyncio.sleep(3.5)  # longer than that, which each line has on a slow machine
        assert await running.end(b"second\n") == (0, "", "")
    assert len(stored(server)) == 2


async def test_an_input_that_does_not_block_is_waited_for(server: FakeServer) -> None:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "chat_server", "publish", "room:a"),
        stdin=reading,
        env={**ENVIRON, "CHATCLIENT_URL": server.url, "CHATCLIENT_TOKEN": "t0ken"},
    )
    os.close(reading)
    try:
        await until(lambda: server.connections, 90)
        os.write(writing, b"line 0\n")
        await until(lambda: stored(server) == texts(1))
        os.close(writing)
        async with asyncio.timeout(90):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.fixture(scope="module")
def fast() -> Iterator[ServerProcess]:
    """A real server, which knows batches; the fake one does not."""
    environ = {
        "CHAT_LIMITS__MESSAGE_BURST": "1000000",
        "CHAT_LIMITS__MESSAGES_PER_SECOND": "1000000",
        "CHAT_NAMESPACES__DEFAULT__HISTORY_SIZE": "10000",
    }
    with ServerProcess(environ=environ) as running:
        yield running


async def history(real: ServerProcess, topic: str) -> list[Any]:
    found: list[Any] = []
    async with connect(real.url, token=mint("ann")) as chat:
        while page := (await chat.history(topic, after=len(found), limit=300)).messages:
            found += [message.data for message in page]
    return found


async def test_lines_leave_in_batches_and_lost_batches_lose_no_line(fast: ServerProcess) -> None:
    async with LossyProxy(fast.port) as proxy:
        proxy.before = proxy.after = 0.1
        code, out, err = await run(
            "publish", "-v", "room:a", url=proxy.url, token=mint("ann"), stdin=lines(3_000)
        )
        assert (code, err) == (0, "")
        assert out.split() == [str(seq) for seq in range(1, 3_001)]
        assert 0 < proxy.posts < 300
    assert await history(fast, "room:a") == texts(3_000)


async def test_a_line_that_cannot_be_published_is_named_in_a_batch_too(fast: ServerProcess) -> None:
    stdin = b"".join(b"%d\n" % number for number in (*range(20), 2**70, 21))
    code, _, err = await run(
        "publish", "--data", "room:b", url=fast.url, token=mint("ann"), stdin=stdin
    )
    assert code == 1
    assert err.startswith("chat-server: line 21: data: ")
    assert await history(fast, "room:b") == list(range(20))


async def test_a_topic_that_is_forbidden_is_noticed_at_the_first_line(fast: ServerProcess) -> None:
    token = mint("ann", publish=["room:*"])
    code, _, err = await run("publish", "secret", url=fast.url, token=token, stdin=lines(50))
    assert (code, err.startswith("chat-server: line 1: forbidden: ")) == (1, True)
