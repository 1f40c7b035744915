"""A Redis that forgets nothing, made to be killed."""

import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from ..server import START_SECONDS, free_port
from ..wire import LoadError


class Store:
    """A redis-server that writes every command to disk before it answers.

    Every method blocks, though not for long.

    Args:
        folder: for its files.

    Raises:
        LoadError: it is not installed.
    """

    def __init__(self, folder: Path) -> None:
        program = shutil.which("redis-server")
        if program is None:
            raise LoadError("redis-server is not installed")
        self.port = free_port()
        self.wipes = 0
        self._folder = folder / "redis"
        self._command = [
            *(program, "--bind", "127.0.0.1", "--port", str(self.port), "--save", ""),
            *("--dir", str(self._folder), "--appendonly", "yes", "--appendfsync", "always"),
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and return once it answers.

        Raises:
            LoadError: it does not.
        """
        self._folder.mkdir(exist_ok=True)
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise LoadError("redis-server did not start")
            time.sleep(0.02)

    def kill(self) -> None:
        """End it without giving it a chance to say anything."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def wipe(self) -> None:
        """Forget everything; it must not run."""
        shutil.rmtree(self._folder)
        self.wipes += 1

    def freeze(self) -> None:
        """Stop it in its tracks: connections stand, nothing answers."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def command(self, text: str) -> bytes:
        """Run a command on a connection of its own, and return the start of the raw reply."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall(text.encode() + b"\r\n")
            return connection.recv(1024)

    def _answers(self) -> bool:
        try:
            return self.command("PING").startswith(b"+PONG")
        except OSError:
            return False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()
