"""`chat-server` as a process of its own."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

SECONDS = 90.0
"""How long the program may take: the machine may be busy."""

USER = "grace"
"""Who runs the program: the user of the tests may have no name."""

ENVIRON = {name: value for name, value in os.environ.items() if not name.startswith("CHAT")}
ENVIRON["LOGNAME"] = USER


class Program:
    """A running `chat-server`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def write(self, data: bytes) -> None:
        """Write to its stdin."""
        assert self._process.stdin is not None
        self._process.stdin.write(data)
        await self._process.stdin.drain()

    async def line(self) -> str:
        """Read a line of its stdout, without the end."""
        assert self._process.stdout is not None
        async with asyncio.timeout(SECONDS):
            return (await self._process.stdout.readline()).decode().removesuffix("\n")

    async def complaint(self) -> str:
        """Read a line of its stderr, without the end."""
        assert self._process.stderr is not None
        async with asyncio.timeout(SECONDS):
            return (await self._process.stderr.readline()).decode().removesuffix("\n")

    def interrupt(self) -> None:
        """Do what Ctrl-C does."""
        self._process.send_signal(signal.SIGINT)

    def stop_reading(self) -> None:
        """Close our end of its stdout."""
        # asyncio has no public way to close one pipe of a process.
        transport = self._process._transport.get_pipe_transport(1)  # type: ignore[attr-defined]
        transport.close()

    async def wait(self) -> int:
        """Wait for it to end, its stdin still open; return the exit code."""
        async with asyncio.timeout(SECONDS):
            return await self._process.wait()

    async def end(self, stdin: bytes = b"") -> tuple[int, str, str]:
        """Write the rest of stdin and close it; return the exit code, stdout and stderr."""
        async with asyncio.timeout(SECONDS):
            out, err = await self._process.communicate(stdin)
        assert self._process.returncode is not None
        assert b"Traceback" not in err, err.decode()
        return self._process.returncode, out.decode(), err.decode()


@asynccontextmanager
async def program(*arguments: str, url: str, token: str | None = "t0ken") -> AsyncIterator[Program]:
    """Start `chat-server` with `arguments`; it is killed if it is still there at the end."""
    environ = {**ENVIRON, "CHATCLIENT_URL": url, "PYTHONUNBUFFERED": "1"}
    if token is not None:
        environ["CHATCLIENT_TOKEN"] = token
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "chat_server", *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environ,
    )
    try:
        yield Program(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def run(
    *arguments: str, url: str, token: str | None = "t0ken", stdin: bytes = b""
) -> tuple[int, str, str]:
    """Run `chat-server` to its end; return the exit code, stdout and stderr."""
    async with program(*arguments, url=url, token=token) as running:
        return await running.end(stdin)
