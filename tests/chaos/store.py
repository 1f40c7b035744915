"""A Redis that forgets nothing, made to be killed."""

import shutil
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from loadtest.server import START_SECONDS, free_port
from loadtest.wire import LoadError

ANSWER_SECONDS = 5.0

CLUSTER_STATE = "nodes.conf"
"""What a node of a cluster knows of the others; its operator would not let it forget that."""


class RedisServer:
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
        self._folder = folder
        self._command = [
            *(program, "--bind", "127.0.0.1", "--port", str(self.port), "--save", ""),
            *("--dir", str(self._folder), "--appendonly", "yes", "--appendfsync", "always"),
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def configure(self, *options: str) -> None:
        """Start it with more arguments from now on."""
        self._command += options

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
        """Forget everything that was stored; it must not run."""
        for path in self._folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != CLUSTER_STATE:
                path.unlink()
        self.wipes += 1

    def freeze(self) -> None:
        """Stop it in its tracks: connections stand, nothing answers."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def run(self, *command: str | bytes | int) -> Any:
        """Run a command on a connection of its own, past every proxy, and return the reply.

        Raises:
            RedisError: it cannot be reached, or refuses.
        """
        with Redis(
            port=self.port,
            protocol=2,
            socket_timeout=ANSWER_SECONDS,
            retry=Retry(NoBackoff(), 0),
            single_connection_client=True,
        ) as client:
            return client.execute_command(*command)

    def _answers(self) -> bool:
        try:
            return bool(self.run("PING"))
        except RedisError:
            return False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()
