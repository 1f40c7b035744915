"""The application under ASGI servers of others: it talks, and nobody's leaving is an error."""

import asyncio
import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.rig.chat_client import chat
from tests.rig.ports import free_port
from tests.rig.raw_client import RawClient, request
from tests.rig.rfc6455 import upgrade
from tests.rig.server import ROOT, mint
from tests.rig.waiting import SECONDS

COMMANDS = {
    "uvicorn": ["--factory", "chat_server.app:create_app", "--port"],
    "granian": ["--interface", "asgi", "--factory", "chat_server.app:create_app", "--port"],
    "daphne": ["-b", "127.0.0.1", "asgi_of_chat:app", "-p"],
    "hypercorn": ["chat_server.app:create_app()", "--bind"],
}

pytestmark = pytest.mark.extra


class Foreign:
    """An ASGI server of somebody else's."""

    def __init__(self, name: str, folder: Path) -> None:
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
        (folder / "asgi_of_chat.py").write_text(
            "from chat_server.app import create_app\n\napp = create_app()\n"
        )
        self.port = free_port()
        self.log = folder / "log"
        address = f"127.0.0.1:{self.port}" if name == "hypercorn" else str(self.port)
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [str(Path(sys.executable).with_name(name)), *COMMANDS[name], address],
                cwd=ROOT,
                env={**os.environ, "CHAT_ENVIRONMENT": "testing", "PYTHONPATH": str(folder)},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    async def ready(self) -> int:
        """Wait for an answer and return its status."""
        async with asyncio.timeout(SECONDS):
            while True:
                try:
                    return (await request(self.port, "GET", "/health/ready")).status
                except (OSError, AssertionError):
                    await asyncio.sleep(0.1)

    def stop(self) -> str:
        """End it, and return what it wrote."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        return self.log.read_text()


@pytest.mark.parametrize("name", ["uvicorn", "granian", "hypercorn"])
async def test_it_talks_and_leaving_is_quiet(name: str, tmp_path: Path) -> None:
    server = await asyncio.to_thread(Foreign, name, tmp_path)
    try:
        assert await server.ready() == 200
        async with await chat(f"ws://127.0.0.1:{server.port}/ws", mint("ada")) as ada:
            await ada.ok(type="subscribe", topic="room:a")
            await ada.ok(type="publish", topic="room:a", data=1)
            assert (await ada.next())["data"] == 1
        for _ in range(5):
            client = await RawClient.open(server.port, token=mint("bob"))
            await client.send(b"")
            client.reset()
        async with await RawClient.connect(server.port) as refused:
            await refused.send(upgrade(token="nonsense"))
            answer = await refused.read_answer()
            assert (answer.status, answer.json()["code"]) == (401, "unauthorized")
        assert (await request(server.port, "GET", "/health")).json()["status"] == "ok"
    finally:
        log = await asyncio.to_thread(server.stop)
    assert "Traceback" not in log
    assert "ERROR" not in log


async def test_a_server_without_lifespan_is_told_of(tmp_path: Path) -> None:
    server = await asyncio.to_thread(Foreign, "daphne", tmp_path)
    try:
        assert await server.ready() == 503
        async with await RawClient.open(server.port, token=mint("ada")) as client:
            assert (await client.read_message())["type"] == "welcome"
    finally:
        log = await asyncio.to_thread(server.stop)
    # In our form; the server has a handler of its own.
    assert log.count("chat_server.extension: the application was never started") == 1
    assert "Traceback" not in log
