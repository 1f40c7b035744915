"""What the faults strike: a server with its workers, its Redis, and the wires between them."""

import asyncio
import os
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

from ..accounting import PROC
from ..server import Target, started
from ..wire import LoadError
from .proxy import Proxy
from .store import Store

HISTORY = {"room": 1_000_000, "short": 5}
"""Events kept by namespace: all, and so few that a client that was away finds them gone."""

MAX_REPLAY = 1_000

ENVIRON = {
    "CHAT_LIMITS__MAX_REPLAY": str(MAX_REPLAY),
    "CHAT_LIMITS__SLOW_BUFFER_BYTES": "32768",
    "CHAT_LIMITS__SLOW_TIMEOUT_SECONDS": "3",
    "CHAT_GATEWAY__HEARTBEAT_SECONDS": "3",
    "CHAT_GATEWAY__PONG_TIMEOUT_SECONDS": "3",
    "CHAT_LOG__LEVEL": "INFO",
    **{f"CHAT_NAMESPACES__{name}__HISTORY_SIZE".upper(): str(n) for name, n in HISTORY.items()},
}

LAST_WORDS = 4000

EXPECTED = ("chat_server.server", "does not deliver")
"""In lines at level ERROR that the faults may cause: workers that died or hung, a deaf link."""


class Site:
    """A running server, reached through proxies.

    Args:
        target: the server.
        front: between clients and the server.
        back: between the workers and Redis, if there is one.
        log: what the server writes.
    """

    def __init__(
        self,
        target: Target,
        front: Proxy,
        log: Path,
        back: Proxy | None = None,
        store: Store | None = None,
    ) -> None:
        self.front = front
        assert target.pid is not None
        self.target = target
        self._pid = target.pid
        self._log = log
        self._back = back
        self._store = store

    @property
    def back(self) -> Proxy:
        """The proxy before Redis."""
        assert self._back is not None, "there is no Redis"
        return self._back

    @property
    def store(self) -> Store:
        """Redis."""
        assert self._store is not None, "there is no Redis"
        return self._store

    @property
    def wipes(self) -> int:
        """How often the store lost everything."""
        return self._store.wipes if self._store is not None else 0

    def workers(self) -> list[int]:
        """Return the worker processes that run now, if the server has several."""
        try:
            children = (PROC / f"{self._pid}/task/{self._pid}/children").read_text().split()
        except OSError:
            return []
        return [pid for pid in map(int, children) if b"spawn_main" in _command(pid)]

    def rolls(self) -> bool:
        """Return whether the supervisor replaces its workers when it is told to by SIGHUP."""
        status = (PROC / f"{self._pid}/status").read_text()
        (caught,) = (line for line in status.splitlines() if line.startswith("SigCgt:"))
        return bool(int(caught.split()[1], 16) >> (signal.SIGHUP - 1) & 1)

    def roll(self) -> None:
        """Have the workers replaced one by one."""
        os.kill(self._pid, signal.SIGHUP)

    def faults_logged(self) -> list[str]:
        """Return the lines in which the server says that something happened which must not."""
        lines = self._log.read_text(errors="replace").splitlines()
        return [line for line in lines if "Traceback" in line or _is_fault(line)]

    def check(self) -> None:
        """Fail if the server has ended.

        Raises:
            LoadError: it has.
        """
        if not (PROC / str(self._pid)).exists() or "Z" in _state(self._pid):
            raise LoadError("the server has ended")

    def last_words(self) -> str:
        """Return the end of what the server wrote."""
        return self._log.read_text(errors="replace")[-LAST_WORDS:]


def _is_fault(line: str) -> bool:
    return " ERROR " in line and not any(text in line for text in EXPECTED)


def _command(pid: int) -> bytes:
    with suppress(OSError):
        return (PROC / f"{pid}/cmdline").read_bytes()
    return b""


def _state(pid: int) -> str:
    with suppress(OSError):
        return (PROC / f"{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return "Z"


@asynccontextmanager
async def open_site(broker: str, workers: int) -> AsyncIterator[Site]:
    """Start a server, its Redis if it is to have one, and the proxies.

    Args:
        broker: "memory" or "redis".

    Raises:
        LoadError: something does not start.
    """
    if not (PROC / "self/stat").exists():
        raise LoadError("chaos needs Linux: it looks for the workers in /proc")
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-")))
        environ, store, back = dict(ENVIRON), None, None
        if broker == "redis":
            store = stack.enter_context(Store(folder))
            back = await stack.enter_async_context(Proxy(store.port))
            environ["CHAT_REDIS__URL"] = f"redis://127.0.0.1:{back.port}/0"
        log = folder / "server.log"
        server = started(workers=workers, environ=environ, log=log)
        # Not in this thread: the server wants to be answered by the proxy while it starts.
        target = await asyncio.to_thread(server.__enter__)
        stack.push_async_callback(asyncio.to_thread, server.__exit__, None, None, None)
        front = await stack.enter_async_context(Proxy(target.port))
        yield Site(target, front, log, back, store)
