"""The processes below a server."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Protocol

from tests.rig.chat_client import Chat, Closed, chat
from tests.rig.raw_client import RawClient, request
from tests.rig.server import ROOT, ServerProcess, mint
from tests.rig.waiting import SECONDS

PATIENT = {"CHAT_SERVER__HANG_SECONDS": "0"}
"""For a server whose workers a test freezes: on a slow machine they are replaced otherwise."""


def refused(*flags: str, folder: Path = ROOT, **environ: str) -> tuple[int, str]:
    """Run a server that must not start; return its exit code and what it wrote to stderr."""
    inherited = {name: v for name, v in os.environ.items() if not name.startswith("CHAT_")}
    done = subprocess.run(
        [sys.executable, "-m", "chat_server", "serve", *flags],
        env={**inherited, "CHAT_ENVIRONMENT": "testing", "PYTHONPATH": str(ROOT)} | environ,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    return done.returncode, done.stderr


def accepts(port: int) -> bool:
    """Return whether somebody listens on a port of this machine."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


def workers(supervisor: int) -> set[int]:
    """Return the worker processes of a supervisor that run now."""
    try:
        children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text()
    except FileNotFoundError:
        return set()
    return {pid for pid in map(int, children.split()) if "spawn_main" in _command(pid)}


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def state(pid: int) -> str:
    """Return a process's state as `ps` shows it, or nothing if there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def runs(pid: int) -> bool:
    """Return whether a process is there and has not ended."""
    return state(pid) not in ("", "Z")


def pending(pid: int, number: signal.Signals) -> bool:
    """Return whether a signal has been sent to a process that has not taken it yet."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("ShdPnd:"):
            return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return False


def holdings(pid: int) -> tuple[int, int]:
    """Return how many files a process has open, and how many children, also ended ones."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return len(os.listdir(f"/proc/{pid}/fd")), len(children)


def worker_of(client: Chat) -> int:
    """Return the process that serves a client, which its name tells."""
    return _pid(client.welcome["server"])


class Address(NamedTuple):
    """Where a server listens, and its process."""

    port: int
    pid: int


class Served(Protocol):
    """A server of several workers."""

    @property
    def port(self) -> int: ...

    @property
    def pid(self) -> int: ...


async def ready_workers(server: Served, count: int) -> set[int]:
    """Wait until that many workers of a server accept connections; return their processes."""
    seen: set[int] = set()
    deadline = time.monotonic() + SECONDS
    while len(seen) < count or not seen <= workers(server.pid):
        assert time.monotonic() < deadline, f"only {seen} of {workers(server.pid)} answer"
        seen &= workers(server.pid)
        # One that waits for a worker that was killed may just end.
        with suppress(OSError, AssertionError):
            health = await request(server.port, "GET", "/health")
            seen.add(_pid(health.json()["node"]))
    return seen


def _pid(node: str) -> int:
    return int(node.rsplit("-", 2)[1])


async def connect_to(url: str, pid: int, jwt: str | None = None) -> Chat:
    """Connect until the kernel chooses the given worker."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        try:
            client = await chat(url, jwt or mint("ada"))
        except (OSError, Closed):
            await asyncio.sleep(0.05)
            continue
        if worker_of(client) == pid:
            return client
        await client.websocket.close()
    raise AssertionError(f"no connection to worker {pid} of {os.getpid()}")


async def http_to(server: ServerProcess, pid: int) -> RawClient:
    """Open connections until the given worker answers; return that one, for more requests."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        wire = await RawClient.connect(server.port)
        await wire.send(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
        if _pid((await wire.read_answer()).json()["node"]) == pid:
            return wire
        wire.socket.close()
    raise AssertionError(f"no connection to worker {pid} of {os.getpid()}")


def rss(pid: int) -> int:
    """Return the bytes of memory that a process has now."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"{pid} has ended")
