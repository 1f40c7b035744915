"""The servers under test: started here and pinned, or already running."""

import functools
import os
import shlex
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from chat_server.auth.tokens import issue_token
from chat_server.clock import SystemClock
from chat_server.settings import Settings, load_settings
from tests.rig.ports import free_port
from tests.rig.redis_server import RedisServer

from .accounting import cores, pinned
from .crowd import raise_file_limit
from .dialects import DIALECTS
from .pauses import VARIABLE
from .processes import put_off_ending
from .wire import LoadError

START_SECONDS = 60.0
STOP_SECONDS = 20.0
TOKEN_SECONDS = 3600.0

UNLIMITED = {
    "CHAT_LIMITS__MAX_CONNECTIONS": "1000000",
    "CHAT_HTTP__MAX_CONNECTIONS": "1000000",
    "CHAT_LIMITS__MAX_CONNECTIONS_PER_ADDRESS": "1000000",
    "CHAT_LIMITS__MESSAGES_PER_SECOND": "1000000",
    "CHAT_LIMITS__MESSAGE_BURST": "1000000",
    "CHAT_LIMITS__READ_BYTES_PER_SECOND": "1e9",
    "CHAT_LIMITS__READ_BURST_BYTES": "1000000000",
    "CHAT_HTTP__PAGE": "false",
    "CHAT_LOG__LEVEL": "WARNING",
}
"""Settings that lift the limits of a single client."""

PLAIN = {
    "CHAT_NAMESPACES__DEFAULT__ARCHIVE": "false",
    "CHAT_NAMESPACES__DEFAULT__PRESENCE": "false",
    "CHAT_ACCOUNTS__ENABLED": "off",
    "CHAT_METRICS__ENABLED": "false",
    "CHAT_DATABASE__URL": "",
}
"""Features off in production and on in development; an earlier checkout may not have them."""


class Target(Struct, frozen=True):
    """A server under load.

    Args:
        name: the name in reports.
        dialect: the server's protocol; see `dialects.DIALECTS`.
        pid: the first process of the server, for its costs; None if unknown.
        redis_pid: the process of a Redis started for the server.
        started_elsewhere: True for a server not started by this load test.
        pauses: the file with notes of garbage collections; None without notes.
    """

    name: str
    dialect: str
    port: int
    host: str = "127.0.0.1"
    pid: int | None = None
    redis_pid: int | None = None
    started_elsewhere: bool = False
    pauses: Path | None = None

    def mint(self, user: str, topic: str, *more: str) -> str:
        """Return a token for a user of a topic or a pattern, "" for servers without tokens.

        Args:
            more: further grants besides publishing and reading.
        """
        if not DIALECTS[self.dialect].authenticates:
            return ""
        return issue_token(
            _settings().auth,
            sub=user,
            topics={grant: [topic] for grant in ("subscribe", "publish", "history", *more)},
            ttl_seconds=TOKEN_SECONDS,
            clock=SystemClock(),
        )


def server_cores(workers: int = 1) -> list[int]:
    """Return the cores for a server: one per worker, but never all cores of the machine."""
    available = cores()
    return available[: min(workers, len(available) - 1)]


def load_cores(workers: int = 1) -> list[int]:
    """Return the cores for other processes: the cores that `server_cores` leaves."""
    return cores()[len(server_cores(workers)) :]


@contextmanager
def started(
    *flags: str,
    workers: int = 1,
    redis: bool = False,
    environ: Mapping[str, str] | None = None,
    log: Path | None = None,
    module: str = "chat_server",
    port: int | None = None,
    to: Sequence[int] = (),
    folder: Path | None = None,
) -> Iterator[Target]:
    """Run `chat-server serve` without limits for clients.

    Args:
        flags: more arguments of the command.
        workers: processes that share the port.
        redis: True starts a Redis as well.
        environ: more settings, as `CHAT_` variables.
        log: the file for the server's output.
        module: the module to run as `chat-server`.
        port: the port; None for a free one.
        to: the cores of the server; `server_cores` if empty.
        folder: a checkout whose code is run instead of ours, with our interpreter and libraries.

    Raises:
        LoadError: the server is not ready in time; the text includes the server's output.
    """
    if redis:
        with redis_server() as (redis_url, redis_pid):
            own = [*flags, "--redis-url", redis_url]
            with started(
                *own,
                workers=workers,
                environ=environ,
                log=log,
                module=module,
                port=port,
                to=to,
                folder=folder,
            ) as target:
                yield replace(target, redis_pid=redis_pid)
        return
    port = port or free_port()
    serve = [sys.executable, "-m", module, "serve", "--bind", f"127.0.0.1:{port}"]
    command = [*serve, "--workers", str(workers), *flags]
    with launched(
        command,
        ready=lambda: answers(f"http://127.0.0.1:{port}/health/ready"),
        environ={**UNLIMITED, **(PLAIN if folder is None else {}), **(environ or {})},
        to=to or server_cores(workers),
        log=log,
        folder=folder,
    ) as pid:
        yield Target("chat_server", "chat", port, pid=pid)


@contextmanager
def started_noting_pauses(
    *, workers: int = 1, redis: bool = False, environ: Mapping[str, str] | None = None
) -> Iterator[Target]:
    """Run the server with notes of the garbage collector's pauses for reports; see `started`."""
    with tempfile.TemporaryDirectory() as folder:
        notes = Path(folder) / "pauses"
        with started(
            workers=workers,
            redis=redis,
            environ={**(environ or {}), VARIABLE: str(notes)},
            module=f"{__package__}.pauses_server",
        ) as target:
            yield replace(target, pauses=notes)


@contextmanager
def redis_server() -> Iterator[tuple[str, int]]:
    """Run a redis-server without persistence; yield its URL and pid.

    Raises:
        LoadError: redis-server is not installed, or is not ready in time.
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            server = RedisServer(Path(folder))
            with pinned(load_cores()), put_off_ending():
                server.start()
            yield server.url, server.pid
        except RuntimeError as error:
            raise LoadError(str(error)) from None
        finally:
            server.stop()


@contextmanager
def launched(
    command: Sequence[str],
    *,
    ready: Callable[[], bool],
    environ: Mapping[str, str] | None = None,
    to: Sequence[int] = (),
    log: Path | None = None,
    folder: Path | None = None,
) -> Iterator[int]:
    """Run a process until the end of this context; yield its pid once the process is ready.

    Args:
        command: the command line.
        ready: returns True once the process is ready.
        environ: variables in addition to our own.
        to: the cores of the process.
        log: the file for the process's output.
        folder: the working directory; ours if None.

    Raises:
        LoadError: the process ended, or was not ready in time; the text includes its output.
    """
    raise_file_limit()
    with tempfile.TemporaryFile() if log is None else log.open("w+b") as written:
        process: subprocess.Popen[bytes] | None = None
        try:
            with pinned(to), put_off_ending():
                process = subprocess.Popen(
                    command,
                    env={**os.environ, **(environ or {})},
                    stdin=subprocess.DEVNULL,
                    stdout=written,
                    stderr=written,
                    cwd=folder,
                )
            deadline = time.monotonic() + START_SECONDS
            while not ready():
                if process.poll() is not None or time.monotonic() > deadline:
                    written.seek(0)
                    wrote = written.read().decode(errors="replace")
                    how = "ended" if process.returncode is not None else "is not ready"
                    raise LoadError(f"{shlex.join(command)} {how}\n{wrote}".rstrip())
                time.sleep(0.05)
            yield process.pid
        finally:
            if process is not None:
                _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def answers(url: str) -> bool:
    """Return True if an HTTP GET succeeds."""
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False


def accepts(port: int) -> bool:
    """Return True if a process listens on a port of this machine."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


@functools.cache
def _settings() -> Settings:
    return load_settings()
