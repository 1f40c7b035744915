"""`python -m loadtest.held_server serve …`: the chat server, which notes what holds its event loop.

Not part of the product: nobody but a load test needs to know, and noting costs a little.
"""

import asyncio
import os
import time

from chat_server.cli import main
from chat_server.server import worker

from .held import LEAST_NS, NOTE, TICK_SECONDS, VARIABLE


class _Watch:
    """Looks at the clocks again and again: what is late was held by something else.

    Args:
        loop: where.
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
            # One write of a few bytes at the end: workers can share the file.
            note = NOTE.pack(os.getpid(), self._at, now - self._at, worked - self._worked)
            os.write(self._notes, note)
        self._at, self._worked = now, worked
        self._loop.call_later(TICK_SECONDS, self._look)


def watch_loops(path: str) -> None:
    """Append a note whenever the loop of a worker of this process is held, from now on."""
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
