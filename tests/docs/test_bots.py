"""The bots of docs/bots.md survive what the page says they do."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from chat_server.client import Client, Gap, Message, Position, Subscription, connect

from ..rig.redis_server import RedisServer
from ..rig.server import ServerProcess, mint
from .markdown import ROOT, blocks
from .walk import SECONDS, topic_count, wait_until

SNIPPETS = [
    block.text
    for block in blocks((ROOT / "docs" / "bots.md").read_text("utf-8"))
    if block.kind == "python"
]

TOKEN_SECONDS = 3.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    """A server that forgets nothing when it is restarted."""
    redis = RedisServer(tmp_path)
    redis.start()
    try:
        with ServerProcess("--redis-url", redis.url) as server:
            yield server
    finally:
        redis.stop()


@contextmanager
def bot(snippet: str, server: ServerProcess, **environ: str) -> Iterator[subprocess.Popen[str]]:
    """Run a bot; it must have ended with 0 and without a word on stderr after Ctrl-C."""
    process = subprocess.Popen(
        [sys.executable, "-c", snippet],
        env={**os.environ, "PYTHONPATH": str(ROOT), "CHATCLIENT_URL": server.url, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
        process.send_signal(signal.SIGINT)
        process.wait(SECONDS)
    finally:
        process.kill()
        _, errors = process.communicate(timeout=SECONDS)
    assert (process.returncode, errors) == (0, "")


@contextmanager
def token_service() -> Iterator[tuple[str, list[float]]]:
    """Serve short tokens, as an application's own service would; yield its address, and when."""
    served: list[float] = []

    class Service(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.append(time.monotonic())
            assert self.headers["X-Bot-Key"] == "secret"
            body = json.dumps({"token": mint("printbot", ttl_seconds=TOKEN_SECONDS)}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    service = HTTPServer(("127.0.0.1", 0), Service)
    thread = threading.Thread(target=service.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{service.server_port}/token", served
    finally:
        service.shutdown()
        thread.join()
        service.server_close()


def publish(server: ServerProcess, text: str) -> None:
    """Publish as the page says that cron does."""
    command = [sys.executable, "-m", "chat_server", "publish", "--wait", "60s", "--timeout", "60s"]
    subprocess.run(
        [*command, "room:lobby", text],
        env={"CHATCLIENT_URL": server.url, "CHATCLIENT_TOKEN": mint("alice"), "PATH": os.defpath},
        cwd=ROOT,
        check=True,
        timeout=SECONDS,
    )


def test_the_page_has_the_bots_that_are_run_here() -> None:
    assert len(SNIPPETS) == 6


def test_a_position_outlives_its_bot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(SNIPPETS[3], names)
    assert names["load"]() is None
    names["save"](Position(epoch="e", seq=3))
    assert names["load"]() == Position(epoch="e", seq=3)


def test_the_first_bot_waits_for_its_server_and_answers_once(server: ServerProcess) -> None:
    server.stop()
    with bot(SNIPPETS[0], server, CHATCLIENT_TOKEN=mint("pongbot")) as process:
        server.start()
        wait_until(lambda: process.poll() is not None or topic_count(server) > 0, "it subscribed")
        publish(server, "ping")
        tail = [sys.executable, "-m", "chat_server", "tail", "--json", "--last", "2", "room:lobby"]
        environ = {"CHATCLIENT_URL": server.url, "CHATCLIENT_TOKEN": mint("alice")}
        with subprocess.Popen(
            tail, env={**environ, "PATH": os.defpath}, cwd=ROOT, stdout=subprocess.PIPE, text=True
        ) as shown:
            assert shown.stdout is not None
            said = [json.loads(shown.stdout.readline()) for _ in range(2)]
            shown.send_signal(signal.SIGINT)
    assert [(m["from"]["user"], m["data"]["text"]) for m in said] == [
        ("alice", "ping"),
        ("pongbot", "pong"),
    ]


def test_the_first_bot_tells_of_messages_that_are_lost() -> None:
    with (
        ServerProcess() as server,
        bot(SNIPPETS[0], server, CHATCLIENT_TOKEN=mint("pongbot")) as process,
    ):
        wait_until(lambda: process.poll() is not None or topic_count(server) > 0, "it subscribed")
        server.stop()  # and with it goes all that its memory held
        server.start()
        assert process.stdout is not None
        assert process.stdout.readline() == "messages are lost: epoch_changed\n"


def test_the_second_bot_survives_short_tokens_and_a_restart(server: ServerProcess) -> None:
    with (
        token_service() as (url, served),
        bot(SNIPPETS[1], server, TOKEN_URL=url, BOT_KEY="secret") as process,
    ):
        wait_until(lambda: process.poll() is not None or topic_count(server) > 0, "it subscribed")
        publish(server, "one")
        wait_until(lambda: len(served) >= 4, "it renewed its token three times")
        publish(server, "two")
        server.stop()
        server.start()
        publish(server, "three")
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(3)]
    assert lines == [
        f"{n} {{'text': '{text}'}}\n" for n, text in enumerate(("one", "two", "three"), 1)
    ]


def test_an_answer_survives_its_server_and_is_cancelled_by_a_reader(server: ServerProcess) -> None:
    async def grown(room: Subscription, seq: int, until: Callable[[Message], bool]) -> Message:
        """Read on until a message is as it should be."""
        async with asyncio.timeout(SECONDS):
            while (message := room.messages.get(seq)) is None or not until(message):
                assert not isinstance(await anext(room), Gap)
        return message

    async def ask(chat: Client, room: Subscription, question: str) -> int:
        """Ask, and return the seq of the answer."""
        asked = await chat.publish(
            "room:lobby", {"text": f"ask {question}"}, key=question, wait=True
        )
        async with asyncio.timeout(SECONDS):
            async for event in room:
                if isinstance(event, Message) and event.seq > asked.seq:
                    return event.seq
        raise AssertionError("there is no answer")

    async def read() -> None:
        async with (
            connect(server.url, token=lambda: mint("alice")) as chat,
            chat.subscribe("room:lobby") as room,
        ):
            seq = await ask(chat, room, "tea")
            await grown(room, seq, lambda message: "word 20 " in message.data["text"])
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)
            whole = await grown(room, seq, lambda message: message.state == "complete")
            assert whole.data["text"] == "".join(f"word {n} on tea. " for n in range(1, 101))
            seq = await ask(chat, room, "milk")
            await grown(room, seq, lambda message: "word 5 " in message.data["text"])
            await chat.cancel("room:lobby", seq)
            half = await grown(room, seq, lambda message: message.state != "streaming")
            assert half.state == "cancelled"
            assert "".join(f"word {n} on milk. " for n in range(1, 101)).startswith(
                half.data["text"]
            )
            stored = (await chat.history("room:lobby")).messages
            assert [m.data for m in stored if m.seq in (whole.seq, seq)] == [whole.data, half.data]

    with bot(SNIPPETS[4], server, CHATCLIENT_TOKEN=mint("bot")) as process:
        wait_until(lambda: process.poll() is not None or topic_count(server) > 0, "it subscribed")
        asyncio.run(read())


def test_the_third_snippet() -> None:
    exec(compile(SNIPPETS[2], "docs/bots.md", "exec"), {})


async def test_many_messages_and_what_is_not_stored_of_them(
    server: ServerProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    names: dict[str, Any] = {}
    exec(compile(SNIPPETS[5], "docs/bots.md", "exec"), names)
    async with connect(server.url, token=mint("ann")) as chat:
        await names["report"](chat, ["one", "x" * 70_000, "two"])
        page = await chat.history("room:ops")
    assert [message.data["text"] for message in page.messages] == ["one", "two"]
    [line] = capsys.readouterr().out.splitlines()
    assert line.startswith("xxx")
    assert " is not stored: too_large: data: may have 65536 bytes" in line
