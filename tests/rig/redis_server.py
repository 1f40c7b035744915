"""A real redis-server with its own port and folder, without persistence by default."""

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

from chat_server.settings import RedisSettings

from .ports import free_port
from .waiting import PATIENCE_SECONDS

READY_SECONDS = 60.0
ANSWER_SECONDS = 30.0

KEPT = ("--appendonly", "yes", "--appendfsync", "no")
"""Options that survive a SIGKILL: the system has every acknowledged write. Only a crash of the
system would need fsync.
"""

CLUSTER_STATE = "nodes.conf"
"""A cluster node's knowledge of the other nodes. An operator would keep this file."""


def patient(url: str, **settings: Any) -> RedisSettings:
    """Return settings for an undisturbed Redis on a busy machine."""
    return RedisSettings(url=url, timeout_seconds=PATIENCE_SECONDS, **settings)


class Servers(Protocol):
    """One server, or several related servers."""

    def start(self) -> None: ...

    def stop(self) -> None: ...


SomeServers = TypeVar("SomeServers", bound=Servers)


@contextmanager
def running(servers: SomeServers) -> Iterator[SomeServers]:
    """Start servers, and end them after the block."""
    try:
        servers.start()
        yield servers
    finally:
        servers.stop()


class RedisServer:
    """A redis-server process that tests may stop, kill, freeze and restart.

    Every method blocks, though not for long; only tests call them.

    Args:
        directory: the server's folder.
        arguments: further options of the command line.
        config: a file of options, for a sentinel; the sentinel also stores its state there.
        durable: True writes every command to disk before the answer; otherwise nothing is saved.

    Attributes:
        wipes: number of calls of `wipe`.

    Raises:
        RuntimeError: no redis-server is installed, or the server does not start.
    """

    def __init__(
        self, directory: Path, *arguments: str, config: Path | None = None, durable: bool = False
    ) -> None:
        program = shutil.which("redis-server")
        if program is None:
            raise RuntimeError("redis-server is not installed: `apt-get install redis-server`")
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._log = directory / f"redis-{self.port}.log"
        self._command = [
            *((program, str(config), "--sentinel") if config else (program,)),
            *("--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(directory)),
            *(() if config else ("--save", "", "--appendonly", "yes" if durable else "no")),
            *(("--appendfsync", "always") if durable else ()),
            *("--logfile", str(self._log), "--daemonize", "no"),
            *arguments,
        ]
        self.wipes = 0
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The id of the running process."""
        assert self._process is not None, "is not running"
        return self._process.pid

    def configure(self, *options: str) -> None:
        """Add arguments for every later start."""
        self._command += options

    def start(self) -> None:
        """Start the server and wait until it answers.

        Raises:
            RuntimeError: the server does not answer.
        """
        self._directory.mkdir(exist_ok=True)
        self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL)
        try:
            self._await_answer(self._process)
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """Ask the server to end and wait until it has."""
        if self._process is not None:
            self.resume()
            self._process.terminate()
            try:
                self._process.wait(READY_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def kill(self) -> None:
        """Kill the server with SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """Kill the server if it runs, and start an empty one on the same port."""
        self.kill()
        self.start()

    def wipe(self) -> None:
        """Delete all stored data of a durable server. The server must not run."""
        for path in self._directory.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != CLUSTER_STATE:
                path.unlink()
        self.wipes += 1

    def pause(self) -> None:
        """Freeze the server: connections stay open, nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen server continue."""
        self._signal(signal.SIGCONT)

    def run(self, *command: str | bytes | int) -> Any:
        """Run one command on a separate connection and return the parsed reply.

        Raises:
            RedisError: the server cannot be reached, or refuses.
        """
        # Imported here: load tests import this module in each of their processes.
        from redis import Redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        with Redis(
            port=self.port,
            protocol=2,
            socket_timeout=ANSWER_SECONDS,
            retry=Retry(NoBackoff(), 0),
            single_connection_client=True,
        ) as client:
            return client.execute_command(*command)

    def command(self, *arguments: str | bytes) -> bytes:
        """Run one command on a separate connection and return the start of the raw reply."""
        parts = [part.encode() if isinstance(part, str) else part for part in arguments]
        request = b"*%d\r\n" % len(parts)
        request += b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            connection.sendall(request)
            return connection.recv(65_536)

    def has_replicated_to(self, replica: "RedisServer") -> bool:
        """Return True if a replica has all writes of this server."""
        ours, theirs = (server._offset() for server in (self, replica))
        return ours == theirs

    def _offset(self) -> bytes:
        lines = self.command("INFO", "replication").splitlines()
        return next(line for line in lines if line.startswith(b"master_repl_offset:"))

    def _await_answer(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not self._answers():
            if process.poll() is not None or time.monotonic() > deadline:
                log = self._log.read_text() if self._log.exists() else "(it wrote no log)"
                raise RuntimeError(f"redis-server did not come up:\n{log}")
            time.sleep(0.01)

    def _answers(self) -> bool:
        try:
            # A server that wants a password is up, too.
            return self.command("PING").startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)


def tls_options(port: int, certificate: Path | None) -> tuple[str, ...]:
    """Return the options for TLS on `port`; none without a certificate.

    Args:
        certificate: a self-signed certificate with its key.
    """
    if certificate is None:
        return ()
    files = ("--tls-cert-file", "--tls-key-file", "--tls-ca-cert-file")
    given = (part for option in files for part in (option, str(certificate)))
    return ("--tls-port", str(port), *given, "--tls-auth-clients", "no")
