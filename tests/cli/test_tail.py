"""`chat-server tail`, as a process, against a server that fails on demand."""

import asyncio
import json
import os
import shlex
import sys
from typing import Any

from chat_server.protocol import commands, messages
from tests.cli.program import ENVIRON, program, run
from tests.rig.fake_server import FakeServer
from tests.rig.waiting import until


async def test_messages_as_they_come(server: FakeServer) -> None:
    async with program("tail", "room:a", url=server.url) as running:
        await until(lambda: server.received(commands.Subscribe), 90)
        await server.publish("room:a", {"text": "hello"}, "alice")
        assert (await running.line()).endswith(" #1 alice: hello")
        await server.publish("room:a", [1], "bob")
        assert (await running.line()).endswith(" bob: [1]")
        running.interrupt()
        assert await running.end() == (130, "", "")


async def test_last_begins_earlier(server: FakeServer) -> None:
    for number in range(5):
        server.topic("room:a").append("room:a", {"text": f"m{number}"}, "alice")
    async with program("tail", "--last", "2", "room:a", url=server.url) as running:
        assert (await running.line()).endswith("alice: m3")
        assert (await running.line()).endswith("alice: m4")


async def test_json(server: FakeServer) -> None:
    server.topic("room:a").append("room:a", {"text": "\x1b[2J"}, "alice")
    async with program("tail", "--json", "--last", "1", "room:a", url=server.url) as running:
        line = await running.line()
    assert line.isprintable()
    assert json.loads(line)["data"] == {"text": "\x1b[2J"}


async def test_what_becomes_of_messages(server: FakeServer) -> None:
    topic = server.topic("room:a")
    topic.append("room:a", {"text": "hello"}, "alice")
    sender = messages.User(user="bob", name="B\x1bob")

    def event(kind: Any, **fields: Any) -> Any:
        topic.seq += 1
        common = {"topic": "room:a", "seq": topic.seq, "at": 1, "sender": sender, "target": 1}
        return kind(**{**common, **fields})

    async with program("tail", "--last", "1", "room:a", url=server.url) as running:
        assert (await running.line()).endswith(" #1 alice: hello")
        await server.push(event(messages.Edited, data={"text": "\x1b[2J"}))
        assert (await running.line()).endswith(" B␛ob edited #1: ␛[2J")
        await server.push(event(messages.Reaction, emoji="👍"))
        assert (await running.line()).endswith(" B␛ob reacted 👍 to #1")
        await server.push(event(messages.Reaction, emoji="👍", remove=True))
        assert (await running.line()).endswith(" B␛ob took 👍 back from #1")
        await server.push(event(messages.Deleted))
        assert (await running.line()).endswith(" B␛ob deleted #1")
        await server.publish("room:a", {"text": "So: "}, "bot", "streaming")
        assert (await running.line()).endswith(" #6 bot: So:  …")
        for length, text, state in ((6, "a\n", "streaming"), (7, "b", "complete")):
            await server.push(
                event(messages.Appended, target=6, text=text, length=length, state=state)
            )
        assert (await running.line()).endswith(" #6 bot: So: a␊b")


async def test_changes_as_json(server: FakeServer) -> None:
    async with program("tail", "--json", "room:a", url=server.url) as running:
        await until(lambda: server.connections and server.connections[0].topics, 90)
        await server.publish("room:a", "a")
        await server.push(messages.SignalPush(topic="room:a", sender=None, data=1, at=1))
        await server.push(
            messages.Reaction(topic="room:a", seq=2, at=1, sender=None, target=1, emoji="\x1b")
        )
        lines = [await running.line() for _ in range(2)]
    assert all(line.isprintable() for line in lines)
    assert [json.loads(line)["type"] for line in lines] == ["message", "reaction"]


async def test_control_characters_reach_no_terminal(server: FakeServer) -> None:
    server.topic("room:a").append("room:a", {"text": "\x1b[2J\nalice: fake"}, "e\x07ve")
    async with program("tail", "--last", "1", "room:a", url=server.url) as running:
        assert (await running.line()).endswith(" e␇ve: ␛[2J␊alice: fake")


async def test_resumes_by_itself_and_says_so(server: FakeServer) -> None:
    async with program("tail", "room:a", url=server.url) as running:
        await until(lambda: server.connections and server.connections[0].topics, 90)
        await server.publish("room:a", {"text": "before"})
        assert (await running.line()).endswith("before")
        await server.stop()
        assert (await running.complaint()).startswith("chat-server: reconnecting: ")
        server.topic("room:a").append("room:a", {"text": "missed"})
        await server.start()
        assert (await running.line()).endswith("missed")
        assert await running.complaint() == "chat-server: connected again"
        running.interrupt()
        assert await running.end() == (130, "", "")


async def test_lost_messages_are_told(server: FakeServer) -> None:
    async with program("tail", "room:a", url=server.url) as running:
        await until(lambda: server.connections and server.connections[0].topics, 90)
        gap = messages.Gap(topic="room:a", epoch="e1", after=0, before=4, reason="expired")
        await server.push(gap)
        assert await running.complaint() == "chat-server: messages 1 to 3 are lost: expired"


async def test_signals_are_not_shown(server: FakeServer) -> None:
    async with program("tail", "room:a", url=server.url) as running:
        await until(lambda: server.connections and server.connections[0].topics, 90)
        await server.push(messages.SignalPush(topic="room:a", sender=None, data=1, at=1))
        await server.publish("room:a", {"text": "stored"})
        assert (await running.line()).endswith("stored")


async def test_a_reader_that_leaves_ends_it_at_once(server: FakeServer) -> None:
    """As in `tail | head -1`: it must not take another message to notice."""
    async with program("tail", "room:a", url=server.url) as running:
        await until(lambda: server.connections and server.connections[0].topics, 90)
        await server.publish("room:a", {"text": "one"})
        assert (await running.line()).endswith("one")
        running.stop_reading()
        assert await running.wait() == 0
        assert (await running.end()) == (0, "", "")
    await until(lambda: not server.connections)


async def test_reading_may_be_forbidden(server: FakeServer) -> None:
    server.refuse("subscribe", "forbidden")
    result = await run("tail", "room:a", url=server.url)
    assert result == (1, "", "chat-server: forbidden: subscribe was refused\n")


async def test_being_blocked_ends_it(server: FakeServer) -> None:
    async with program("tail", "room:a", url=server.url) as running:
        await until(lambda: server.connections and server.connections[0].topics, 90)
        await server.close(4403, "blocked", reconnect_in_ms=0)
        code, _, err = await running.end()
        assert (code, err) == (1, "chat-server: disconnected by the server: blocked (4403)\n")


async def test_waits_for_a_server_that_is_not_there_yet(server: FakeServer) -> None:
    url = server.url
    await server.stop()
    async with program("tail", "--wait", "60s", "--timeout", "1s", "room:a", url=url) as running:
        assert (await running.complaint()).startswith("chat-server: waiting: ")
        await asyncio.sleep(1.2)  # the start has its own time
        await server.start()
        await until(lambda: server.connections and server.connections[0].topics, 90)
        await server.publish("room:a", {"text": "hello"}, "alice")
        assert (await running.line()).endswith(" alice: hello")
        await server.stop()
        code, _, err = await running.end()
    assert code == 1
    assert err.endswith("chat-server: gave up: the server was away for 1 s\n")


async def test_a_full_disk_is_one_line(server: FakeServer) -> None:
    server.topic("room:a").append("room:a", {"text": "m"}, "alice")
    command = f"{sys.executable} -m chat_server tail --last 1 room:a > /dev/full"
    assert await shell(command, server) == (
        1,
        b"",
        b"chat-server: stdout: No space left on device\n",
    )
    command = f"{sys.executable} -m chat_server --help > /dev/full"
    assert await shell(command, server) == (
        1,
        b"",
        b"chat-server: stdout: No space left on device\n",
    )


async def shell(command: str, server: FakeServer) -> tuple[int | None, bytes, bytes]:
    """Run `command` to its end; return the exit code, stdout and stderr."""
    process = await asyncio.create_subprocess_shell(
        command,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**ENVIRON, "CHATCLIENT_URL": server.url, "CHATCLIENT_TOKEN": "t0ken"},
    )
    async with asyncio.timeout(90):
        out, err = await process.communicate()
    return process.returncode, out, err


async def test_an_output_that_does_not_block_loses_nothing(server: FakeServer) -> None:
    """More than the pipe holds, to somebody who reads late."""
    for number in range(200):
        server.topic("room:a").append("room:a", {"text": f"{number} {'x' * 2000}"}, "alice")
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "chat_server", "tail", "--last", "200", "room:a"),
        stdout=writing,
        env={**ENVIRON, "CHATCLIENT_URL": server.url, "CHATCLIENT_TOKEN": "t0ken"},
    )
    os.close(writing)
    try:
        await until(lambda: server.received(commands.Subscribe), 90)
        await asyncio.sleep(1)  # for the pipe to be full; should it not be yet, nothing fails

        def read() -> list[str]:
            with open(reading, encoding="utf-8") as output:
                return [output.readline().split()[3] for _ in range(200)]

        async with asyncio.timeout(90):
            assert await asyncio.to_thread(read) == [str(number) for number in range(200)]
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_ctrl_c_at_any_moment_is_no_traceback(server: FakeServer) -> None:
    """While the modules are loaded, too; Python's own start is none of ours."""
    script = "import os, signal, sys; sys.argv[1:] = ['tail', 'room:a']\n"
    script += "class Finder:\n    def find_spec(self, name, *_):\n"
    script += "        if name == 'click': os.kill(os.getpid(), signal.SIGINT)\n"
    script += "from chat_server.cli import main\nsys.meta_path.insert(0, Finder())\nmain()"
    assert await shell(f"{sys.executable} -c {shlex.quote(script)}", server) == (130, b"", b"")
