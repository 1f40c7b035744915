"""A signal that comes when the server has stopped is no crash, and no task keeps the process."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ..rig.server import ServerProcess

PROGRAM = """
import asyncio, os, signal
from chat_server.server.late_signals import end_at_once

async def main():
    loop = asyncio.get_running_loop()
    loop.add_signal_handler({number}, lambda: None)
    end_at_once(loop, [{number}])

{run}(main())
os.kill(os.getpid(), {number})
signal.pause()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("run", ["asyncio.run", "__import__('uvloop').run"])
def test_it_ends_the_process_with_0(number: signal.Signals, run: str) -> None:
    program = PROGRAM.format(number=int(number), run=run)
    ended = subprocess.run([sys.executable, "-c", program], timeout=240, check=False)
    assert ended.returncode == 0


LAST = """
import os, sys
from quart import Quart
from chat_server import ChatServer, load_settings

class Last:  # ends when the interpreter takes its modules apart
    def __del__(self, kill=os.kill, process=os.getpid()):
        kill(process, {number})

app = Quart(__name__)
ChatServer(load_settings()).init_app(app)
sys.last = Last()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_changes_nothing_while_the_interpreter_ends(
    number: signal.Signals, tmp_path: Path
) -> None:
    (tmp_path / "last.py").write_text(LAST.format(number=int(number)))
    with ServerProcess("--app", "last:app", folder=tmp_path) as server:
        assert server.stop() == 0


STUBBORN = """
import asyncio
from chat_server.server.late_signals import ending_within

async def stubborn():
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass

async def main():
    asyncio.get_running_loop().stubborn = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    end.start()

with ending_within(0.2) as end:
    asyncio.run(main())
"""


def test_a_task_that_cannot_be_cancelled_does_not_keep_the_process() -> None:
    program = [sys.executable, "-c", STUBBORN]
    ended = subprocess.run(program, timeout=240, check=False, capture_output=True, text=True)
    assert ended.returncode == 0
    assert "do not end when they are cancelled" in ended.stderr
