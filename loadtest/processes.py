"""Child processes that report through a pipe until their end."""

import multiprocessing
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import FrameType, TracebackType
from typing import Any, Self

from .accounting import pinned
from .wire import LoadError

END_SECONDS = 5.0

ENDING = (signal.SIGTERM, signal.SIGHUP)


def end_what_was_started() -> None:
    """Let SIGTERM and SIGHUP act like Ctrl-C: raise an exception, which ends every child.

    An ignored SIGHUP stays ignored, as `nohup` requires.
    """
    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)


def _interrupt(_number: int, frame: FrameType | None) -> None:
    # A further signal must not interrupt the end. Children would inherit SIG_IGN.
    for number in ENDING:
        if signal.getsignal(number) is _interrupt:
            signal.signal(number, _heed_no_more)
    interrupt = signal.getsignal(signal.SIGINT)
    if not callable(interrupt):  # a shell's background job ignores SIGINT
        raise KeyboardInterrupt
    interrupt(signal.SIGINT, frame)  # while a loop runs, asyncio's own handler


def _heed_no_more(_number: int, _frame: FrameType | None) -> None:
    pass


@contextmanager
def put_off_ending() -> Iterator[None]:
    """Delay signals that end the load test until the end of the block.

    An exception in the middle of `Popen` would leave an unknown process behind. Signals interrupt
    the main thread only.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    handlers = {number: signal.getsignal(number) for number in (*ENDING, signal.SIGINT)}
    heeded = {number: handler for number, handler in handlers.items() if callable(handler)}
    for number in heeded:
        signal.signal(number, lambda number, _frame: came.append(number))
    try:
        yield
    finally:
        for number, handler in heeded.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


class Workers:
    """Child processes, all ended at the end of this context.

    Args:
        cores: the cores of the processes; any core if empty.
    """

    def __init__(self, cores: Sequence[int] = ()) -> None:
        self._cores = cores
        # Not fork: a child must not inherit the caller's sockets and threads.
        self._context = multiprocessing.get_context("spawn")
        self._processes: list[BaseProcess] = []

    def start(self, target: Callable[[Connection, Any], None], plan: object) -> Connection:
        """Run `target(pipe, plan)` in a separate process; return this end of the pipe."""
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=target, args=(theirs, plan), daemon=True)
        with pinned(self._cores), put_off_ending():
            process.start()
            self._processes.append(process)
        theirs.close()
        return ours

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for process in self._processes:
            if kind is not None:
                process.kill()
            process.join(END_SECONDS)
            if process.is_alive():
                process.kill()
                process.join()


def messages(
    pipes: Collection[Connection], *, seconds: float
) -> Iterator[tuple[Connection, object]]:
    """Yield each message with its pipe; the caller may remove a pipe meanwhile.

    Raises:
        LoadError: a process reported an error or ended early, or `seconds` have passed.
    """
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        for pipe in wait(list(pipes), timeout=left):
            assert isinstance(pipe, Connection)
            try:
                message = pipe.recv()
            except (EOFError, ConnectionError):
                raise LoadError("a process of the load test ended early") from None
            if isinstance(message, LoadError):
                raise message
            yield pipe, message
    raise LoadError(f"the server took longer than {seconds:g} s")
