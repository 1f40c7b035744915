"""A signal that comes when the server has stopped is no crash."""

import signal
import subprocess
import sys

import pytest

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
    ended = subprocess.run([sys.executable, "-c", program], timeout=60, check=False)
    assert ended.returncode == 0
