"""Input, output and exit of a terminal program with an event loop."""

import asyncio
import json
import os
import stat
import sys
import threading
from collections.abc import AsyncIterator, Coroutine
from contextlib import suppress
from io import TextIOWrapper
from typing import Any

import click

from ..client import ClientError
from .output import INTERRUPTED, drop_output
from .patience import timeout_seconds

MAX_LINE_BYTES = 2**20
CHUNK_BYTES = 2**16
NOBODY_TO_ASK = "there is no terminal to ask in; give --yes"


class Failure(click.ClickException):
    """An error, shown as one line on stderr."""

    exit_code = 1

    def show(self, file: Any = None) -> None:
        """Print the error to stderr."""
        print_error(self.format_message())


class Misuse(Failure):
    """An error in the call, the settings or the environment."""

    exit_code = 2


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run a command, and turn its failure into one line and an exit code."""
    if sys.stdout is None:  # closed by the parent process
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  (open until the end)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # A character beyond the locale's encoding must not end the program.
            stream.reconfigure(errors="backslashreplace")
    for descriptor in range(3):
        # The parent may have left descriptors non-blocking. Output to a slow reader would then be
        # lost, and late input would count as the end.
        with suppress(OSError):  # closed
            os.set_blocking(descriptor, True)
    try:
        asyncio.run(_in_time(work))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except ClientError as error:
        raise Failure(str(error)) from None


async def _in_time(work: Coroutine[Any, Any, None]) -> None:
    seconds = timeout_seconds()
    try:
        async with asyncio.timeout(seconds) as bound:
            await work
    except TimeoutError:
        if not bound.expired():
            raise
        raise Failure(f"--timeout: it was not done within {seconds:g} s") from None


async def while_read(work: Coroutine[Any, Any, None]) -> None:
    """Run `work` until it ends or the reader of stdout is gone.

    Raises:
        BrokenPipeError: the reader of stdout is gone.
    """
    loop = asyncio.get_running_loop()
    unread = loop.create_future()
    task = asyncio.create_task(work)
    output = sys.stdout.fileno()
    if pipe := stat.S_ISFIFO(os.fstat(output).st_mode):
        loop.add_reader(output, unread.cancel)  # The writing end becomes readable only when broken.
    try:
        await asyncio.wait([task, unread], return_when=asyncio.FIRST_COMPLETED)
        if unread.cancelled():
            raise BrokenPipeError
        task.result()
    finally:
        if pipe:
            loop.remove_reader(output)
        unread.cancel()
        task.cancel()
        await asyncio.wait([task])


async def read_lines(descriptor: int) -> AsyncIterator[bytes]:
    """Yield the lines of a file, a pipe or a terminal, without their ends.

    Raises:
        Failure: reading fails, or a line is longer than `MAX_LINE_BYTES`.
    """
    rest = b""
    number = 0
    async for chunk in _chunks(descriptor):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            number += 1
            yield line
        if len(rest) > MAX_LINE_BYTES:
            raise Failure(f"line {number + 1}: is longer than {MAX_LINE_BYTES} bytes")
    if rest:
        yield rest


async def _chunks(descriptor: int) -> AsyncIterator[bytes]:
    """Read a file, a pipe or a terminal without blocking the loop, one chunk ahead at most.

    Nothing in asyncio reads all three. The thread is a daemon, because its wait for input cannot be
    ended. The thread reads the descriptor, because Python's exit would wait for the lock of a
    buffered file.
    """
    loop = asyncio.get_running_loop()
    chunks: asyncio.Queue[bytes | OSError] = asyncio.Queue()  # `wanted` bounds it
    wanted = threading.Semaphore()

    def read() -> None:
        chunk: bytes | OSError = b"..."
        while chunk and not isinstance(chunk, OSError):
            wanted.acquire()
            try:
                chunk = os.read(descriptor, CHUNK_BYTES)
            except OSError as error:
                chunk = error
            try:
                loop.call_soon_threadsafe(chunks.put_nowait, chunk)
            except RuntimeError:
                return  # the loop is closed

    threading.Thread(target=read, daemon=True).start()
    while chunk := await chunks.get():
        if isinstance(chunk, OSError):
            raise Failure(f"stdin: {chunk.strerror}")
        wanted.release()
        yield chunk


async def write_line(line: str) -> None:
    """Print one line, in a thread, because a slow reader of stdout may block.

    Raises:
        BrokenPipeError: the reader of stdout is gone.
        Failure: writing fails, because the disk is full for example.
    """
    try:
        await asyncio.to_thread(_write, line)
    except BrokenPipeError:
        raise
    except OSError as error:
        drop_output()
        raise Failure(f"stdout: {error.strerror}") from None


async def write_result(result: object, line: str, as_json: bool) -> None:
    """Print the result of a command: as JSON for programs, or as a line for people.

    Args:
        result: a value for JSON.
        line: the result for people; an empty line prints nothing.
        as_json: whether to print JSON.

    Raises:
        BrokenPipeError, Failure: as `write_line`.
    """
    if as_json:
        # ASCII, so that no character can act on a terminal.
        await write_line(json.dumps(result))
    elif line:
        await write_line(escape_controls(line))


def _write(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def confirm(question: str) -> None:
    """Ask the user to agree to something that cannot be undone.

    Raises:
        click.Abort: the user did not agree.
        Misuse: stdin has no answer and is no terminal.
    """
    if sys.stdin is None:  # closed by the parent process
        raise Misuse(NOBODY_TO_ASK)
    try:
        agreed = click.confirm(question, err=True)
    except click.Abort:
        if not sys.stdin.isatty():
            raise Misuse(NOBODY_TO_ASK) from None
        raise
    if not agreed:
        raise click.Abort


def print_error(line: str) -> None:
    """Print one line to stderr."""
    click.echo(escape_controls(f"chat-server: {line}"), err=True)


def escape_controls(text: str) -> str:
    """Return `text` with visible characters in place of control characters.

    Replaced are line breaks, ESC and other characters that act on a terminal, and characters that
    turn the direction of writing.
    """
    return text.translate(_PICTURES)


_PICTURES = {
    **{code: 0x2400 + code for code in range(0x20)},
    0x7F: 0x2421,
    **dict.fromkeys(
        (
            *(0x061C, 0x200E, 0x200F),
            *range(0x80, 0xA0),
            *range(0x2028, 0x202F),
            *range(0x2066, 0x206A),
        ),
        0xFFFD,
    ),
}
