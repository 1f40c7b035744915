"""The broker that joins workers through Redis: streams keep events, pub/sub carries them."""

import asyncio
import logging
import math
import secrets
import time
from asyncio import Future
from collections.abc import Callable
from typing import Any, Final

from redis.exceptions import AuthenticationError, ConnectionError, NoPermissionError

from ..protocol.errors import Unavailable
from ..protocol.events import READ_BYTES, Draft, Event, Kind, Published, Slice
from ..protocol.messages import Position
from ..settings import BrokerSettings, RedisSettings, take_apart
from .base import Listener, Reporter, Seldom, away, epochs, failed
from .canary import Canary, Deaf
from .discovery import master_connector
from .lane import Lane, Script, pack
from .link import LINK_ERRORS, Link, connector
from .subscriber import Subscriber, signal_payload

log = logging.getLogger(__name__)

PUBLISH: Final = Script("publish")
READ: Final = Script("read")
BEGIN: Final = Script("begin")

PUBLISH_PIPELINE = 512
"""Publications sent together at most: by then the cost of a round trip is spread thin, and the
first of them waits only some 10 ms for the last."""

READ_PIPELINE = 16
"""Reads sent together at most: each may return megabytes, and whole pipelines are held."""

PASSING_MS = 60_000
"""How long a position is kept that was given to a topic because somebody read it: long enough for
one who reads and then subscribes. With subscribers or events it is kept as the settings say, but
anyone may read any number of topics that there are none of."""

BACKOFF_SECONDS = (0.05, 2.0)
"""The first and the longest time between two attempts to connect, before jitter."""

_RANDOM = secrets.SystemRandom()


class RedisBroker:
    """Keeps `realtime.ports.Broker` over one Redis server, or whichever sentinels call the master.

    A worker has one connection to hear, one to publish (so that its publications keep their order)
    and, as needed, some to read. Whether Redis is available is decided by the first: it is never
    left unread, it is asked for a sign of life when silent, and while it is away everything fails
    at once.

    Args:
        redis: where Redis is, and how long it may stay silent.
        broker: how long positions and idempotency keys are kept, how much may wait.
        connect: makes links to it; by default to `redis.url`.
        sharded: whether it is one shard of a cluster, whose pub/sub goes by slots.
        on_evicted: called with a topic that has been subscribed to and that it serves no longer.

    Attributes:
        home: the hash tag of what is its own; in a cluster one that this shard serves.

    Raises:
        ValueError: `redis.url` cannot be used.
    """

    def __init__(
        self,
        redis: RedisSettings,
        broker: BrokerSettings,
        *,
        connect: Callable[[], Link] | None = None,
        sharded: bool = False,
        on_evicted: Callable[[str], None] = lambda topic: None,
    ) -> None:
        connect = connect or _connector(redis.url)
        self._prefix = redis.prefix
        self._timeout = redis.timeout_seconds
        self._position_ms = _milliseconds(broker.position_seconds)
        self._once_ms = _milliseconds(broker.idempotency_seconds)
        self._epochs = epochs()
        self._available = False
        self._lost = False
        self._seldom = Seldom()
        self._reporter: Reporter
        self._supervisor: asyncio.Task[None] | None = None
        self._subscriber = Subscriber(
            connect,
            self._channel,
            timeout_seconds=self._timeout,
            limit=broker.max_pending,
            sharded=sharded,
            on_evicted=on_evicted,
        )

        def lane(pipeline: int, *scripts: Script) -> Lane:
            return Lane(
                connect,
                scripts,
                timeout_seconds=self._timeout,
                limit=broker.max_pending,
                pipeline=pipeline,
                on_trouble=self._on_trouble,
            )

        self._publisher = lane(PUBLISH_PIPELINE, PUBLISH)
        self.settle("")
        self._canary = Canary(
            self._publisher,
            self._subscriber,
            every_seconds=redis.canary_seconds,
            timeout_seconds=self._timeout,
        )
        readers = max(1, redis.max_connections - 2)
        self._readers = [lane(READ_PIPELINE, READ, BEGIN) for _ in range(readers)]

    @property
    def available(self) -> bool:
        """Whether Redis is believed to be reachable."""
        return self._available

    @property
    def deaf(self) -> bool:
        """Whether Redis takes publications that this worker does not hear."""
        return self._canary.deaf

    @property
    def deaf_seconds(self) -> float:
        """How long that was so, in all."""
        return self._canary.deaf_seconds

    def reaches(self, topic: str) -> bool:
        """Return whether what is published to the topic can be stored now."""
        return self._available

    def settle(self, home: str) -> None:
        """Use `home` as the hash tag of its own key and channel."""
        self.home = home
        self._own = self._channel(home) if home else self._prefix
        self._subscriber.move_canary(f"{self._own}:canary:{secrets.token_hex(8)}")

    # Life ----------------------------------------------------------------------------------

    async def start(self, listener: Listener) -> None:
        """Begin to deliver to `listener`.

        Waits for the first attempt to connect, `timeout_seconds` at most; after that a server
        that is away is awaited in the background.
        """
        self._reporter = Reporter(listener)
        for lane in self._lanes:
            lane.start()
        tried = asyncio.Event()
        self._supervisor = asyncio.create_task(self._supervise(tried), name="redis supervisor")
        try:
            async with asyncio.timeout(self._timeout):
                await tried.wait()
        except TimeoutError:
            if not tried.is_set():
                self._away(TimeoutError(f"no answer within {self._timeout:g} s"))

    async def stop(self) -> None:
        """End every task and connection; pending futures fail with `Unavailable`."""
        self._available = False
        supervisor, self._supervisor = self._supervisor, None
        try:
            if supervisor is not None:
                supervisor.cancel()
                await asyncio.wait([supervisor])
        finally:
            await asyncio.gather(*(lane.stop() for lane in self._lanes))

    @property
    def _lanes(self) -> list[Lane]:
        return [self._publisher, *self._readers]

    async def _supervise(self, tried: asyncio.Event) -> None:
        """Hold the connection that decides whether Redis is available."""
        loop = asyncio.get_running_loop()
        shortest, longest = BACKOFF_SECONDS
        delay = shortest
        while True:
            began = loop.time()
            try:
                error = await self._hold(tried)
                self._away(error)
                tried.set()
            finally:
                await self._subscriber.close()
            if loop.time() - began > longest:
                delay = shortest
            await asyncio.sleep(_RANDOM.uniform(0, delay))
            delay = min(delay * 2, longest)

    async def _hold(self, tried: asyncio.Event) -> Exception:
        """Connect, be available until the connection is lost, and return why that is."""
        try:
            await self._subscriber.open(self._reporter)
            for lane in self._lanes:
                # The address may lead to another server than before.
                lane.renew()
            # A server that takes no writes (a replica, a full disk) is no use to us.
            probe = pack("SET", f"{self._own}:probe", "1", "PX", 1_000)
            await self._publisher.send(probe, bool)
            await self._canary.sing()
            self._here()
            tried.set()
            await self._canary.watch()
        except Exception as error:
            if not isinstance(error, (*LINK_ERRORS, Unavailable)):
                log.exception("the connection to Redis failed by a fault of our own")
            return error

    def _here(self) -> None:
        self._available = True
        if self._lost:
            self._lost = False
            log.info("Redis is back")
            self._reporter.restored()

    def _away(self, error: Exception) -> None:
        self._available = False
        due = self._seldom.due(type(error).__name__)
        if due or not self._lost:
            _report(error)
        if not self._lost:
            self._lost = True
            self._reporter.lost()

    def _on_trouble(self, error: Exception) -> None:
        """Judge what the failure of one lane says about Redis."""
        closed = type(error) is ConnectionError or isinstance(error, OSError)
        if closed and not isinstance(error, TimeoutError):
            # That may happen to any one connection; the subscriber's shows whether it is more.
            self._mention(error)
            self._subscriber.check()
        else:
            self._away(error)
            self._subscriber.abort()

    def _mention(self, error: Exception) -> None:
        if self._seldom.due(type(error).__name__):
            _report(error)

    # Events --------------------------------------------------------------------------------

    def publish(self, draft: Draft) -> "Future[Published]":
        """Store `draft` and send it to every worker, in one script."""
        if not self._available:
            return failed(away())
        keys = self._keys(draft.topic)
        if draft.key is not None:
            keys.append(f"{keys[2]}:key:{draft.key}")
        history_ms = _milliseconds(draft.retention.seconds)
        return self._publisher.call(
            PUBLISH,
            keys,
            (
                next(self._epochs),
                draft.kind,
                draft.head,
                draft.tail,
                draft.retention.size,
                history_ms,
                # What is stored has no place without a position.
                max(self._position_ms, history_ms),
                self._once_ms,
                self._subscriber.publish,
            ),
            _published,
        )

    def signal(self, topic: str, frame: bytes) -> "Future[None]":
        """Send `frame` to every worker."""
        if not self._available:
            return failed(away())
        command = pack(self._subscriber.publish, self._channel(topic), signal_payload(frame))
        return self._publisher.send(command, _nothing)

    def settled(self) -> "Future[bool]":
        """Return when everything published before this call is answered, if `Redis` is there."""
        return self._publisher.send(pack("PING"), bool)

    def subscribe(self, topic: str) -> "Future[None]":
        """Receive the topic's events from all workers.

        While Redis is away the future fails, but the topic is remembered.
        """
        future = self._subscriber.subscribe(topic)
        # A connection that is still being made again may take its time.
        return future if self._available else failed(away())

    def unsubscribe(self, topic: str) -> None:
        """Forget the subscription."""
        self._subscriber.unsubscribe(topic)

    async def read(
        self,
        topic: str,
        *,
        after: int = 0,
        before: int | None = None,
        limit: int,
        newest: bool = False,
        max_bytes: int = READ_BYTES,
    ) -> Slice:
        """Read stored events and the topic's position, in one script."""
        if not self._available:
            raise away()
        first, last = after + 1, None if before is None else before - 1
        if last is not None and last < first:
            limit = 0
        meta, log_key, _ = self._keys(topic)
        lasting = self._subscriber.remembers(topic)
        arguments = (
            next(self._epochs),
            self._position_ms if lasting else min(PASSING_MS, self._position_ms),
            f"{first}-0",
            "+" if last is None else f"{last}-0",
            limit,
            int(newest),
            int(lasting),
            max_bytes,
        )

        def decode(reply: Any) -> Slice:
            return _slice(topic, reply, newest)

        return await self._reader().call(READ, (meta, log_key), arguments, decode)

    async def begin_epoch(self, topic: str, lost: str) -> Position:
        """Begin another epoch where the topic stands, unless somebody has."""
        if not self._available:
            raise away()
        meta, _, _ = self._keys(topic)
        return await self._reader().call(BEGIN, (meta,), (lost, next(self._epochs)), _position)

    async def ping(self) -> float:
        """Send PING and return how long the answer took, in seconds."""
        if not self._available:
            raise away()
        began = time.perf_counter()
        await self._reader().send(pack("PING"), bool)
        return time.perf_counter() - began

    def _reader(self) -> Lane:
        # The first idle one: with little to do, one connection is all there is.
        return min(self._readers, key=len)

    def _channel(self, topic: str) -> str:
        # Braces make the topic the hash tag: one topic's keys and channel share a cluster's slot.
        return f"{self._prefix}:{{{topic}}}"

    def _keys(self, topic: str) -> list[str]:
        channel = self._channel(topic)
        return [f"{channel}:meta", f"{channel}:log", channel]


def _connector(url: str) -> Callable[[], Link]:
    try:
        several = take_apart(url)
    except ValueError as error:
        raise ValueError(f"redis.url: {error}") from None
    return connector(url) if several is None else master_connector(several)


def _report(error: Exception) -> None:
    if isinstance(error, AuthenticationError | NoPermissionError):
        log.error("Redis does not let us in; see redis.url and its ACL: %s", error)
    elif isinstance(error, Deaf):
        log.error("Redis takes what is published but does not deliver it; subscribing anew")
    else:
        log.warning("Redis cannot be reached: %s", str(error) or type(error).__name__)


def _milliseconds(seconds: float) -> int:
    return math.ceil(seconds * 1_000)


def _nothing(_: Any) -> None:
    return None


def _published(reply: Any) -> Published:
    epoch, seq, at, duplicate = reply
    return Published(seq, epoch.decode(), at, duplicate == 1)


def _position(reply: Any) -> Position:
    epoch, seq = reply
    return Position(epoch.decode(), seq)


def _slice(topic: str, reply: Any, newest: bool) -> Slice:
    place, seq, entries, base, more = reply
    epoch = place.decode()
    events = [
        Event(topic, epoch, int(id.partition(b"-")[0]), Kind(fields[1].decode()), fields[5])
        for id, fields in entries
    ]
    if newest:
        events.reverse()
    return Slice(epoch, seq, events, more=more == 1, base=base)
