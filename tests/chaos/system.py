"""The system under test: a server with its workers, its Redis, and proxies in front of both."""

import asyncio
import os
import re
import signal
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import TypeVar

from msgspec import Struct

from loadtest.accounting import PROC
from loadtest.server import Target, started
from loadtest.wire import LoadError

from ..rig.proxy import Proxy
from ..rig.redis_cluster import FAILING_MS, RedisCluster
from ..rig.redis_server import RedisServer, running
from ..rig.webhook_receiver import WebhookReceiver
from . import hooked
from .archived import NAMESPACE
from .config import Config
from .databases import Database, postgres, sqlite
from .slots import Slots

HISTORY = {"room": 1_000_000, "short": 5, "spool": 1_000_000}
"""Events kept by namespace: all events, or so few that a returning client misses some."""

MAX_REPLAY = 1_000

HEARTBEAT_SECONDS, PONG_SECONDS = 3.0, 3.0
LEASE_SECONDS = 4.0
"""Seconds, less than a worker's freeze or an outage of Redis: leases of live workers expire."""

GRACE_SECONDS = 1.0

SPREAD_SECONDS = 1.0
"""Seconds that a replaced worker adds to the grace period."""

PRESENCE_SECONDS = (
    HEARTBEAT_SECONDS + PONG_SECONDS + LEASE_SECONDS * 4 / 3 + GRACE_SECONDS + SPREAD_SECONDS
)
"""Seconds after the last fault within which presence must be correct: section "Presence" of
docs/protocol.md.
"""

PRESENCE = {
    "CHAT_BROKER__PRESENCE_LEASE_SECONDS": str(LEASE_SECONDS),
    "CHAT_NAMESPACES__ROOM__PRESENCE": "true",
    "CHAT_NAMESPACES__ROOM__PRESENCE_GRACE_SECONDS": str(GRACE_SECONDS),
    # About as many as there are, so that changes come singly and gathered.
    "CHAT_NAMESPACES__ROOM__PRESENCE_BATCH": "6",
}

ENVIRON = {
    "CHAT_LIMITS__MAX_REPLAY": str(MAX_REPLAY),
    "CHAT_LIMITS__SLOW_BUFFER_BYTES": "32768",
    "CHAT_LIMITS__SLOW_TIMEOUT_SECONDS": "3",
    "CHAT_GATEWAY__HEARTBEAT_SECONDS": str(HEARTBEAT_SECONDS),
    "CHAT_GATEWAY__PONG_TIMEOUT_SECONDS": str(PONG_SECONDS),
    "CHAT_LOG__LEVEL": "INFO",
    **{f"CHAT_NAMESPACES__{name}__HISTORY_SIZE".upper(): str(n) for name, n in HISTORY.items()},
    **PRESENCE,
}

SPOOLING = {"CHAT_NAMESPACES__SPOOL__SPOOL_MESSAGES": "1000"}

ARCHIVING = {
    "CHAT_DATABASE__MIGRATE": "true",
    f"CHAT_NAMESPACES__{NAMESPACE.upper()}__ARCHIVE": "true",
}

LOG_TAIL = 4000

Entered = TypeVar("Entered")

EXPECTED = re.compile(
    r" ERROR \[[^\]]+\] (?:"
    r"chat_server\.server\.supervisor: worker \d+ \(\d+\) was ended by SIGKILL; .*"
    r"|chat_server\.server\.process: worker \d+ \(\d+\) did (?:nothing for|not end within) \S+ s;"
    r" killing it"
    r"|chat_server\.broker\.redis\.diagnosis: Redis takes what is published but does not"
    r" deliver it; subscribing anew"
    r"|chat_server\.database\.database: the database fails: .*"
    r")$"
)
"""ERROR lines that the faults explain: killed or hung workers, a deaf link, a database that is down
or full.
"""


def has_presence(topic: str) -> bool:
    """Return True if a topic's namespace has presence."""
    return topic.startswith("room:")


class Shard(Struct, frozen=True):
    """A Redis, and the proxy between the workers and this Redis."""

    server: RedisServer
    proxy: Proxy


class System:
    """A running server behind proxies.

    Args:
        target: the server.
        front: the proxy between clients and the server.
        log: the file with the server's output.
        shards: the Redis servers of the messages; none in memory.
        slots: the slots of the Redis Cluster; None without a cluster.
        database: the database of the archive; None without an archive.
        receiver: the webhook endpoint; None without webhooks.
    """

    def __init__(
        self,
        target: Target,
        front: Proxy,
        log: Path,
        shards: Sequence[Shard] = (),
        slots: Slots | None = None,
        database: Database | None = None,
        receiver: WebhookReceiver | None = None,
    ) -> None:
        self.front = front
        assert target.pid is not None
        self.target = target
        self.shards = shards
        self._pid = target.pid
        self._log = log
        self._slots = slots
        self.database = database
        self.receiver = receiver

    def mint(self, user: str, *more: str) -> str:
        """Return a token for a user of all topics; `more` are grants."""
        return self.target.mint(user, "**", *more)

    @property
    def slots(self) -> Slots:
        """The slots of the Redis Cluster."""
        assert self._slots is not None, "there is no cluster"
        return self._slots

    @property
    def sharded(self) -> bool:
        """True if the store is a Redis Cluster."""
        return self._slots is not None

    def server_of(self, topic: str) -> RedisServer:
        """Return the Redis that stores a topic, while no slot is moving."""
        if self._slots is not None:
            return self._slots.server_of(topic)
        (shard,) = self.shards
        return shard.server

    @property
    def wipes(self) -> int:
        """Number of times a store lost everything."""
        return sum(shard.server.wipes for shard in self.shards)

    def workers(self) -> list[int]:
        """Return the running worker processes, if the server has several."""
        try:
            children = (PROC / f"{self._pid}/task/{self._pid}/children").read_text().split()
        except OSError:
            return []
        return [pid for pid in map(int, children) if b"spawn_main" in _command(pid)]

    def roll(self) -> None:
        """Let the server replace its workers one by one."""
        os.kill(self._pid, signal.SIGHUP)

    def faults_logged(self) -> list[str]:
        """Return the log lines about faults that must not happen."""
        lines = self._log.read_text(errors="replace").splitlines()
        return [line for line in lines if is_fault(line)]

    def check(self) -> None:
        """Fail if the server has ended.

        Raises:
            LoadError: the server has ended.
        """
        if not (PROC / str(self._pid)).exists() or "Z" in _state(self._pid):
            raise LoadError("the server has ended")

    def log_tail(self) -> str:
        """Return the end of the server's output."""
        return self._log.read_text(errors="replace")[-LOG_TAIL:]


def is_fault(line: str) -> bool:
    """Return True if a log line reports a fault that no injected fault explains."""
    bad = " ERROR " in line or " CRITICAL " in line or "Traceback" in line
    return bad and not EXPECTED.search(line)


def _command(pid: int) -> bytes:
    with suppress(OSError):
        return (PROC / f"{pid}/cmdline").read_bytes()
    return b""


def _state(pid: int) -> str:
    with suppress(OSError):
        return (PROC / f"{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return "Z"


@asynccontextmanager
async def open_system(config: Config) -> AsyncIterator[System]:
    """Start a server, its Redis if the broker needs one, and the proxies.

    Raises:
        LoadError: a part does not start.
    """
    if not (PROC / "self/stat").exists():
        raise LoadError("chaos needs Linux: it looks for the workers in /proc")
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-")))
        environ, slots = ENVIRON | (SPOOLING if config.spool else {}), None
        try:
            shards, cluster = await _start_store(stack, folder, config.broker)
        except RuntimeError as error:
            raise LoadError(str(error)) from None
        if cluster is not None:
            environ["CHAT_REDIS__URL"] = cluster.url
            slots = await asyncio.to_thread(Slots, cluster, config.topics)
        elif shards:
            environ["CHAT_REDIS__URL"] = f"redis://127.0.0.1:{shards[0].proxy.port}/0"
        database, receiver = None, None
        if config.archive:
            opened: AbstractContextManager[Database] = (
                postgres() if config.postgresql else sqlite(folder)
            )
            database = await stack.enter_async_context(_entered(opened))
            environ = environ | ARCHIVING | {"CHAT_DATABASE__URL": database.url}
        if config.webhook:
            receiver = await stack.enter_async_context(WebhookReceiver())
            environ = environ | hooked.environ(receiver)
        log = folder / "server.log"
        workers = config.workers if shards else 1
        server = started(workers=workers, environ=environ, log=log, module=config.module)
        # Not in this thread: the server wants to be answered by the proxy while it starts.
        target = await stack.enter_async_context(_entered(server))
        front = await stack.enter_async_context(Proxy(target.port, small_buffers=True))
        yield System(target, front, log, shards, slots, database, receiver)


async def _start_store(
    stack: AsyncExitStack, folder: Path, broker: str
) -> tuple[list[Shard], RedisCluster | None]:
    """Start the message store, each Redis behind a proxy.

    Raises:
        RuntimeError: no redis-server is installed, or the server does not start.
    """
    if broker == "memory":
        return [], None
    if broker == "redis":
        server = RedisServer(folder / "redis", durable=True)
        await stack.enter_async_context(_entered(running(server)))
        return [await _shard(stack, server)], None
    cluster = RedisCluster(folder, node_timeout_ms=FAILING_MS, durable=True)
    shards = [await _shard(stack, node) for node in cluster.nodes]
    for shard in shards:
        cluster.announce(shard.server, shard.proxy.port)
    await stack.enter_async_context(_entered(running(cluster)))
    return shards, cluster


@asynccontextmanager
async def _entered(context: AbstractContextManager[Entered]) -> AsyncIterator[Entered]:
    """Enter a blocking context in a thread; leave the context even if cancelled during entering."""
    entering = asyncio.create_task(asyncio.to_thread(context.__enter__))
    try:
        yield await asyncio.shield(entering)
    finally:
        await asyncio.wait([entering])
        if entering.exception() is None:
            await asyncio.to_thread(context.__exit__, None, None, None)


async def _shard(stack: AsyncExitStack, server: RedisServer) -> Shard:
    proxy = await stack.enter_async_context(Proxy(server.port, small_buffers=True))
    return Shard(server, proxy)
