"""Reading lines without blocking the loop, and giving it up."""

import asyncio
import gc
import os
import select
import threading
import time

import pytest

from chat_server.cli.terminal import read_lines


@pytest.mark.parametrize("closed", [False, True], ids=["before the loop closes", "after it"])
def test_a_line_that_comes_when_nobody_reads_any_more_is_dropped(closed: bool) -> None:
    """Python would complain of a coroutine that nobody awaited."""
    before = set(threading.enumerate())
    reading, writing = os.pipe()

    async def read_one() -> None:
        lines = read_lines(reading)
        os.write(writing, b"one\n")
        assert await anext(lines) == b"one"
        await lines.aclose()  # type: ignore[attr-defined]

    loop = asyncio.new_event_loop()
    loop.run_until_complete(read_one())
    loop.run_until_complete(loop.shutdown_asyncgens())
    [reader] = set(threading.enumerate()) - before
    if closed:
        loop.close()
    os.write(writing, b"two\n")
    while select.select([reading], [], [], 0)[0]:
        time.sleep(0.01)
    reader.join(30 if closed else 0.1)
    assert reader.is_alive() is not closed, "nobody would ever take what it read"
    loop.close()
    gc.collect()
    os.close(writing)
    os.close(reading)
