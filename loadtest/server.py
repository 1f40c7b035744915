"""The server under test: started here or already running, and what it costs."""

import math
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from .wire import LoadError

START_SECONDS = 20.0
STOP_SECONDS = 20.0

UNLIMITED = {
    "CHAT_LIMITS__MAX_CONNECTIONS_PER_ADDRESS": "1000000",
    "CHAT_LIMITS__MESSAGES_PER_SECOND": "1000000",
    "CHAT_LIMITS__MESSAGE_BURST": "1000000",
    "CHAT_HTTP__PAGE": "false",
    "CHAT_LOG__LEVEL": "WARNING",
}
"""Settings under which the limits of a single client do not limit the load test."""


@contextmanager
def started(*flags: str, environ: Mapping[str, str] | None = None) -> Iterator[tuple[str, int]]:
    """Run `chat-server serve` with limits out of the way; yield its WebSocket URL and its pid.

    Raises:
        LoadError: it does not get ready; bears what it wrote.
    """
    port = _free_port()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "chat_server", "serve", "--bind", f"127.0.0.1:{port}", *flags],
            env={**os.environ, **UNLIMITED, **(environ or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
        )
        try:
            if not _await_ready(process, port):
                log.seek(0)
                raise LoadError("the server did not start:\n" + log.read().decode(errors="replace"))
            yield f"ws://127.0.0.1:{port}/ws", process.pid
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def cpu_seconds(pid: int | None) -> float:
    """Return the CPU time that a process and its descendants have used.

    Not a number if there is no `pid`, or no /proc.
    """
    if pid is None or not Path("/proc/self/stat").exists():
        return math.nan
    ticks: dict[int, int] = {}
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # It has ended meanwhile.
        process = int(entry.parent.name)
        parents[process] = int(fields[1])
        ticks[process] = int(fields[11]) + int(fields[12])
    if pid not in ticks:
        raise LoadError(f"there is no process {pid}")
    total = sum(used for process, used in ticks.items() if _descends(process, pid, parents))
    return total / os.sysconf("SC_CLK_TCK")


def _descends(process: int, ancestor: int, parents: Mapping[int, int]) -> bool:
    while process != ancestor and process in parents:
        process = parents[process]
    return process == ancestor


def _await_ready(process: subprocess.Popen[bytes], port: int) -> bool:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=5):
                return True
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
