"""`python -m loadtest.held_server serve …`: the chat server with notes of blocked event loops.

Not part of the product: only a load test needs the notes, and noting costs a little.
"""

import asyncio
import os
import time

from chat_server.cli import main
from chat_server.server import worker

from .held import LEAST_NS, NOTE, TICK_SECONDS, VARIABLE


class _Watch:
    """Looks at the clocks repeatedly: a late look means that other code blocked the loop.

    Args:
        loop: the event loop.
        notes: the descriptor of the file.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, notes: int) -> None:
        self._loop = loop
        self._notes = notes
        self._at, self._worked = time.monotonic_ns(), time.thread_time_ns()
        loop.call_soon(self._look)

    def _look(self) -> None:
        now, worked = time.monotonic_ns(), time.thread_time_ns()
        if now - self._at >= LEAST_NS:
            # One short write at the end of the file, so workers can share the file.
            note = NOTE.pack(os.getpid(), self._at, now - self._at, worked - self._worked)
            os.write(self._notes, note)
        self._at, self._worked = now, worked
        self._loop.call_later(TICK_SECONDS, self._look)


def watch_loops(path: str) -> None:
    """From now on append a note whenever the loop of a worker of this process is blocked."""
    notes = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    make_factory = worker._loop_factory

    def watched() -> asyncio.AbstractEventLoop:
        loop = (make_factory() or asyncio.new_event_loop)()
        _Watch(loop, notes)
        return loop

    worker._loop_factory = lambda: watched


# Not below `__main__`: workers of a supervisor import this module by another name.
watch_loops(os.environ[VARIABLE])

if __name__ == "__main__":
    main(prog_name="chat-server")
