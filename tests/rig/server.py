"""A real `chat-server serve` for end-to-end tests."""

import functools
import os
import signal
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from chat_server.auth.tokens import issue_token
from chat_server.clock import SystemClock
from chat_server.settings import AuthSettings, load_settings

from .ports import free_port
from .waiting import PATIENCE_SECONDS

ROOT = Path(__file__).parent.parent.parent

START_SECONDS = 120.0
STOP_SECONDS = 120.0
LEFTOVER_SECONDS = 30.0
"""Seconds that multiprocessing's resource tracker may outlive the supervisor."""
POLL_SECONDS = 0.02

FEWER_CONNECTIONS = {
    "CHAT_LIMITS__MAX_CONNECTIONS": "2000",
    "CHAT_HTTP__MAX_CONNECTIONS": "1000",
}
"""Limits that are enough for every test, and fit a system with 4,096 files per process."""

PATIENCE = {"CHAT_REDIS__TIMEOUT_SECONDS": str(PATIENCE_SECONDS)}
"""A test with a silent Redis overrides this setting."""


class Process(Protocol):
    """What is used of a `subprocess.Popen`."""

    @property
    def pid(self) -> int: ...

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...

    def send_signal(self, sig: int, /) -> None: ...


class ServerProcess:
    """A separate server process, ready after entering and stopped after leaving.

    Leaving without an exception requires exit code 0 and a log without tracebacks. All calls block:
    in an async test, run calls after entering in a thread.

    Args:
        flags: arguments for `chat-server serve`, besides --bind.
        environ: `CHAT_` variables besides CHAT_ENVIRONMENT=testing, `FEWER_CONNECTIONS` and
            `PATIENCE`; the variables of the test process do not count.
        port: the port on 127.0.0.1; None for a free one. A restart keeps the port.
        module: a module to run instead, with the same arguments.
        certificate: a PEM file with a certificate for localhost and its key, for TLS.
        folder: the working directory; None for the present one.
        ready: the path that answers 200 once the server has started.
    """

    def __init__(
        self,
        *flags: str,
        environ: Mapping[str, str] | None = None,
        port: int | None = None,
        module: str = "chat_server",
        certificate: Path | None = None,
        folder: Path | None = None,
        ready: str = "/health/ready",
    ) -> None:
        self.port = port or free_port()
        self.tls = ssl.create_default_context(cafile=certificate) if certificate else None
        secure = "s" if certificate else ""
        self.url = f"http{secure}://127.0.0.1:{self.port}"
        self._ready_url = f"{self.url}{ready}"
        self.ws_url = f"ws{secure}://127.0.0.1:{self.port}/ws"
        inherited = {name: v for name, v in os.environ.items() if not name.startswith("CHAT_")}
        defaults = {"CHAT_ENVIRONMENT": "testing", **FEWER_CONNECTIONS, **PATIENCE}
        # In development there is a database in the working directory; tests share that directory.
        self._scratch = tempfile.TemporaryDirectory()
        if folder is None and (environ or {}).get("CHAT_ENVIRONMENT") == "development":
            file = Path(self._scratch.name) / "chat.db"
            defaults["CHAT_DATABASE__URL"] = f"sqlite+aiosqlite:///{file}"
        self._environ = {**inherited, **defaults, **(environ or {})}
        if certificate is not None:
            self._environ["CHAT_SERVER__TLS_CERTIFICATE_FILE"] = str(certificate)
        self._folder = folder
        if folder is not None:
            self._environ["PYTHONPATH"] = str(ROOT)
        serve = (sys.executable, "-m", module, "serve")
        self._command = [*serve, "--bind", f"127.0.0.1:{self.port}", *flags]
        self._output = tempfile.NamedTemporaryFile()  # noqa: SIM115  (closed by __exit__)
        self._process: Process | None = None

    @property
    def pid(self) -> int:
        """The started process: the supervisor if there are several workers."""
        return self._running().pid

    @property
    def stderr(self) -> str:
        """The output of all starts so far."""
        size = os.fstat(self._output.fileno()).st_size
        return os.pread(self._output.fileno(), size, 0).decode(errors="replace")

    def start(self) -> None:
        """Start the process and return once the path `ready` answers 200.

        Raises:
            AssertionError: the process ended, or was not ready in time; the text includes its
                output.
        """
        assert self._process is None, "is running already"
        self._process = self._spawn()
        try:
            self._await_ready()
        except BaseException:
            self.kill()
            raise

    def stop(self) -> int:
        """Ask the process to end, as an operator does, and return its exit code."""
        process = self._running()
        process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        """Wait for the end of the process and of its workers; return the exit code."""
        process = self._running()
        try:
            code = process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"did not stop in {STOP_SECONDS} s:\n{self.stderr}") from None
        deadline = time.monotonic() + LEFTOVER_SECONDS
        while _group_exists(process.pid) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        assert not self.kill(), f"left workers behind:\n{self.stderr}"
        return code

    def kill(self) -> bool:
        """Kill the process and its workers; return True if any were left."""
        process = self._running()
        self._process = None
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return False
        process.wait()
        return True

    def is_ready(self) -> bool:
        """Return True if the server reports that it has started."""
        try:
            with urllib.request.urlopen(self._ready_url, timeout=5, context=self.tls) as response:
                return bool(response.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self._output.close()
            self._scratch.cleanup()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._scratch, self._output:
            if kind is None:
                if self._process is not None:
                    code = self.stop()
                    assert code == 0, f"ended with {code}:\n{self.stderr}"
                assert "Traceback" not in self.stderr, self.stderr
                return
            if error is not None:
                error.add_note(f"The server wrote:\n{self.stderr}")
            if self._process is not None:
                self.kill()

    def _spawn(self) -> Process:
        # A session of its own, so that `kill` reaches the workers as well.
        return subprocess.Popen(
            self._command,
            env=self._environ,
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._output,
            start_new_session=True,
        )

    def _running(self) -> Process:
        assert self._process is not None, "is not running"
        return self._process

    def _await_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not self.is_ready():
            code = self._running().poll()
            assert code is None, f"ended with {code}:\n{self.stderr}"
            assert time.monotonic() < deadline, f"not ready:\n{self.stderr}"
            time.sleep(POLL_SECONDS)


def _group_exists(pid: int) -> bool:
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return False
    return True


def mint(
    sub: str,
    *,
    name: str | None = None,
    info: Mapping[str, Any] | None = None,
    ttl_seconds: float = 3600.0,
    **topics: Sequence[str],
) -> str:
    """Return a token for the testing environment; `topics` are patterns by action.

    A missing action falls back to config/testing.toml.
    """
    return issue_token(
        _testing_auth(),
        sub=sub,
        name=name,
        info=info,
        topics=topics or None,
        ttl_seconds=ttl_seconds,
        clock=SystemClock(),
    )


@functools.cache
def _testing_auth() -> AuthSettings:
    return load_settings(environ={"CHAT_ENVIRONMENT": "testing"}).auth
