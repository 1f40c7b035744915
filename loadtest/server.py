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
"""Settings under which the limits of a single client do not limit the load test."""

PLAIN = {
    "CHAT_NAMESPACES__DEFAULT__ARCHIVE": "false",
    "CHAT_NAMESPACES__DEFAULT__PRESENCE": "false",
    "CHAT_ACCOUNTS__ENABLED": "off",
    "CHAT_METRICS__ENABLED": "false",
    "CHAT_DATABASE__URL": "",
}
"""Off in production, on in development; an earlier checkout may not know them."""


class Target(Struct, frozen=True):
    """A server to put load on.

    Args:
        name: what the reports call it.
        dialect: what it speaks; see `dialects.DIALECTS`.
        pid: its first process, to tell what it costs; None if not known.
        redis_pid: that of a Redis started for it.
        started_elsewhere: not by this load test.
        pauses: where it notes its garbage collections, if it does.
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
        """Return a token for a user of a topic or a pattern, "" where the server wants none.

        Args:
            more: what the user may do there besides talk and read.
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
    """Return the cores for a server: as many as it has workers, but never all of the machine."""
    available = cores()
    return available[: min(workers, len(available) - 1)]


def load_cores(workers: int = 1) -> list[int]:
    """Return the cores for everything else: those that `server_cores` leaves."""
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
    """Run `chat-server serve` with the limits of clients out of the way.

    Args:
        flags: more arguments for it.
        workers: processes that share the port.
        redis: start a Redis for it as well.
        environ: more settings, as `CHAT_` variables.
        log: where what it writes is kept.
        module: what is run as `chat-server`.
        port: what it listens to; None for one that is free.
        to: the cores to keep it on; `server_cores` if empty.
        folder: a checkout whose code is run instead of ours, with our interpreter and libraries.

    Raises:
        LoadError: it does not get ready; bears what it wrote.
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
    """Run it so that reports tell how long its garbage collector stopped it; see `started`."""
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
    """Run a redis-server that stores nothing on disk; yield its URL and pid.

    Raises:
        LoadError: it is not installed, or does not get ready.
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
    """Run a process until this context is left; yield its pid once it is ready.

    Args:
        command: what to run.
        ready: tells whether it is.
        environ: variables besides our own.
        to: the cores to keep it on.
        log: where what it writes is kept.
        folder: what it runs in; ours if None.

    Raises:
        LoadError: it ended, or was not ready in time; bears what it wrote.
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
    """Return whether an HTTP GET succeeds."""
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False


def accepts(port: int) -> bool:
    """Return whether something listens on a port of this machine."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


@functools.cache
def _settings() -> Settings:
    return load_settings()
