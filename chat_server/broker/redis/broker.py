"""The broker that joins workers through Redis: streams keep events, pub/sub carries them."""

import asyncio
import logging
import secrets
import time
from asyncio import Future
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from redis.exceptions import ConnectionError

from ...events import READ_BYTES, Draft, HistoryPage, Position, PublishResult, Retention
from ...logs import LogThrottle
from ...protocol.errors import Unavailable
from ...realtime.ports import BrokerHealth, Listener
from ...settings import BrokerSettings, RedisSettings
from ..base import GuardedListener, failed, unavailable
from .connection import CONNECTION_ERRORS, RedisConnection, database_of
from .diagnosis import explain, report
from .pipeline import Pipeline, Script, pack
from .probe import PubSubProbe
from .refusals import CLUSTER, REPLICA, TOO_OLD, UNNAMED, Closed, Refusal, refusal_of
from .storage import BEGIN_EPOCH, HISTORY, PASSING_MS, PUBLISH, Keyspace, Storage
from .subscriber import Subscriber, signal_message
from .topology import connector_of

log = logging.getLogger(__name__)

PUBLISH_BATCH = 512
"""Publications sent together at most: by then the cost of a round trip is spread thin, and the
first of them waits only some 10 ms for the last."""

READ_BATCH = 16
"""Reads sent together at most: each may return megabytes, and whole pipelines are held."""

PROLONG_SECONDS = PASSING_MS / 3_000
"""How often it is."""

BACKOFF_SECONDS = (0.05, 2.0)
"""The first and the longest time between two attempts to connect, before jitter."""

MISCONFIGURED_SECONDS = 30.0
"""The longest such time if an operator has to change something first."""

PROBE = Retention(1, 60.0, 1)
"""How long a canary is kept: the next one replaces it."""

KEPT_NOT = Retention(0, 60.0)
"""Likewise of a topic without history."""

SCATTERED = 64
"""Keys that are read to see whether this server has all of them. A cluster's node that had nine
tenths of the slots would pass one time in 800."""

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
        connect: makes connections to it; by default to `redis.url`.
        sharded: whether it is one shard of a cluster, whose pub/sub goes by slots.
        on_evicted: called with a topic that has been subscribed to and that it serves no longer.
        throttle: keeps the log short, together with others.

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
        connect: Callable[[], RedisConnection] | None = None,
        sharded: bool = False,
        on_evicted: Callable[[str], None] = lambda topic: None,
        throttle: LogThrottle | None = None,
    ) -> None:
        self._connect = connect = connect or connector_of(redis.url)
        self._sharded = sharded
        self._names = Keyspace(redis.prefix, database_of(redis.url))
        self._timeout = redis.timeout_seconds
        self._available = False
        self._lost = False
        self._refusal: Refusal | None = None
        self._logged = False
        self._unused: set[str] = set()
        self._throttle = throttle = throttle or LogThrottle()
        self._listener: GuardedListener
        self._tasks: list[asyncio.Task[None]] = []
        self._subscriber = Subscriber(
            connect,
            self._names.channel,
            timeout_seconds=self._timeout,
            limit=broker.max_pending,
            sharded=sharded,
            on_evicted=on_evicted,
            throttle=throttle,
        )

        self._storage = Storage(broker, self._subscriber.publish)

        def pipeline(batch_size: int, reads: bool, *scripts: Script) -> Pipeline:
            return Pipeline(
                connect,
                scripts,
                timeout_seconds=self._timeout,
                limit=broker.max_pending,
                batch_size=batch_size,
                on_trouble=self._on_reader_trouble if reads else self._on_trouble,
                on_refusal=self._on_refused_read if reads else self._on_refusal,
                clustered=sharded,
                throttle=throttle,
            )

        self._publisher = pipeline(PUBLISH_BATCH, False, PUBLISH)
        self.set_hash_tag("")
        self._probe = PubSubProbe(
            self._publish_probe,
            self._signal_probe,
            self._subscriber,
            self._on_result,
            every_seconds=redis.canary_seconds,
            timeout_seconds=self._timeout,
        )
        readers = max(1, redis.max_connections - 2)
        self._readers = [pipeline(READ_BATCH, True, HISTORY, BEGIN_EPOCH) for _ in range(readers)]

    @property
    def available(self) -> bool:
        """Whether Redis is believed to be reachable."""
        return self._available

    @property
    def status(self) -> str:
        """One word for operators; see `BrokerHealth`."""
        if self._probe.deaf:
            return "deaf"
        if self._refusal is not None:
            return self._refusal.status
        return "ok" if self._available else "unavailable"

    @property
    def deaf_seconds(self) -> float:
        """Seconds of deafness since the start, in all."""
        return self._probe.deaf_seconds

    async def health(self, *, ping: bool = True) -> BrokerHealth:
        """Return the state of this server."""
        latency = await self._ping() if ping and self._available else None
        silent = ping and latency is None and self.status == "ok"
        return BrokerHealth("unavailable" if silent else self.status, self.deaf_seconds, latency)

    async def _ping(self) -> float | None:
        began = time.perf_counter()
        try:
            await self._reader().send(pack("PING"), bool)
        except Closed:
            pass  # An answer, too: see `Subscriber`.
        except Unavailable:
            return None
        return time.perf_counter() - began

    def reaches(self, topic: str) -> bool:
        """Return whether Redis is believed to be reachable."""
        return self._available

    def accepts(self, topic: str) -> bool:
        """Return whether what is published to the topic can be stored now."""
        return self._available and self._refusal is None

    def set_hash_tag(self, home: str) -> None:
        """Use `home` as the hash tag of its own keys and channel."""
        self.home = home
        self._own = self._names.own(home, f"canary:{secrets.token_hex(8)}")
        self._subscriber.set_probe_channel(self._own.channel)

    # Life ----------------------------------------------------------------------------------

    async def start(self, listener: Listener) -> None:
        """Begin to deliver to `listener`.

        Waits for the first attempt to connect, `timeout_seconds` at most; after that a server
        that is unavailable is awaited in the background.
        """
        self._listener = GuardedListener(listener)
        for pipeline in self._pipelines:
            pipeline.start()
        tried = asyncio.Event()
        self._tasks = [
            asyncio.create_task(self._supervise(tried), name="redis supervisor"),
            asyncio.create_task(self._prolong(), name="redis positions"),
        ]
        try:
            async with asyncio.timeout(self._timeout):
                await tried.wait()
        except TimeoutError:
            if not tried.is_set():
                self._on_disconnected(TimeoutError(f"no answer within {self._timeout:g} s"))

    async def stop(self) -> None:
        """End every task and connection; pending futures fail with `Unavailable`."""
        self._available = False
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        try:
            if tasks:
                await asyncio.wait(tasks)
        finally:
            await asyncio.gather(*(pipeline.stop() for pipeline in self._pipelines))

    @property
    def _pipelines(self) -> list[Pipeline]:
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
                self._on_disconnected(error)
                tried.set()
            finally:
                await self._subscriber.close()
            if loop.time() - began > max(longest, delay):
                delay = shortest
            await asyncio.sleep(_RANDOM.uniform(0, delay))
            lasting = self._refusal is not None and self._refusal.status == "misconfigured"
            delay = min(delay * 2, MISCONFIGURED_SECONDS if lasting else longest)

    async def _hold(self, tried: asyncio.Event) -> Exception:
        """Connect, be available until the connection is lost, and return why that is."""
        try:
            await self._subscriber.open(self._listener)
            # The address may lead to another server than before.
            self._renew_pipelines()
            await self._probe.sing()
            self._on_connected()
            tried.set()
            await self._probe.watch()
        except Exception as error:
            if not isinstance(error, (*CONNECTION_ERRORS, Unavailable)):
                log.exception("the connection to Redis failed by a fault of our own")
            return error

    def _publish_probe(self) -> "Future[Any]":
        """Publish twice: every command of the script runs. Read, too, unless all is well."""
        probe = self._probe_writes() if self.accepts("") else self._probe_everything()
        return asyncio.create_task(probe, name="redis probe")

    async def _probe_writes(self) -> None:
        for retention in (PROBE, KEPT_NOT):
            await self._storage.publish_probe(self._publisher, self._own, retention)

    async def _probe_everything(self) -> None:
        await self._probe_writes()
        try:
            for newest in (False, True):
                await self._storage.history(self._reader(), "", self._own, limit=1, newest=newest)
        except Closed:
            raise
        except Unavailable:
            pass  # There may be no connection to read on, but then there are others.
        if not self._sharded:
            # On one node of a cluster some of them belong to others.
            keys = (self._names.keys(str(number)).once for number in range(SCATTERED))
            await asyncio.gather(*(self._publisher.send(pack("GET", key), bool) for key in keys))

    def _signal_probe(self) -> "Future[bool]":
        return self._publisher.send(pack(self._subscriber.publish, self._own.channel, b""), bool)

    async def _on_result(self, refusal: Refusal | None) -> None:
        """Note the outcome of a probe."""
        if refusal in (UNNAMED, TOO_OLD):
            refusal = await self._explain(refusal)
        known, self._refusal = self._refusal, refusal
        if refusal is not None:
            if known != refusal or not self._available:
                self._log_refusal(refusal)
        elif known is not None:
            if known is REPLICA:
                self._renew_pipelines()
            if known is UNNAMED:
                self._log_refusal(known)
            if self._logged:
                log.info("Redis takes publications again")
            self._logged = False

    def _on_refusal(self, refusal: Refusal, reply: Exception) -> None:
        """Take what Redis answered to a publication."""
        known = self._refusal
        if refusal is REPLICA and known is None and self._available:
            # The address, or the sentinels, may lead to the master by now.
            self._on_disconnected(reply)
            self._subscriber.abort()
            return
        if refusal is REPLICA:
            self._publisher.renew()
        if self._available and known is None:
            self._refusal = refusal
            self._probe.hurry()
            if refusal is not UNNAMED:  # The probe finds the command's name.
                self._log_refusal(refusal)

    def _on_refused_read(self, refusal: Refusal, reply: Exception) -> None:
        if self._available and self._throttle.due(f"read {refusal.reason}"):
            reason = refusal.describe(self._names.prefix)
            log.error("Redis refuses to read: %s (%s)", reason, reply)

    async def _explain(self, refusal: Refusal) -> Refusal:
        known = self._refusal
        again = self._throttle.due("explain")
        if known not in (None, UNNAMED, TOO_OLD) and known.status == refusal.status and not again:
            return known
        with suppress(TimeoutError):
            async with asyncio.timeout(self._timeout):
                command = self._subscriber.publish
                return await explain(self._connect, self._own, command, refusal)
        return refusal

    def _log_refusal(self, refusal: Refusal) -> None:
        self._logged = True
        if self._throttle.due(refusal.reason):
            log.error("Redis takes no publications: %s", refusal.describe(self._names.prefix))

    def _renew_pipelines(self) -> None:
        for pipeline in self._pipelines:
            pipeline.renew()

    def _on_connected(self) -> None:
        self._available = True
        if self._lost:
            self._lost = False
            log.info("Redis is back%s", "" if self._refusal is None else ", for reads only")
            self._listener.restored()

    def _on_disconnected(self, error: Exception) -> None:
        self._available = False
        if not isinstance(error, Unavailable):  # which follows from an error that has been noted
            refusal = self._refusal = self._refusal_in(error)
            # What an operator must change is said once a minute, and not by every shard.
            due = self._throttle.due(refusal.reason if refusal else type(error).__name__)
            if due or not (self._lost or refusal):
                report(error, refusal, self._names.prefix)
        if not self._lost:
            self._lost = True
            self._listener.lost()

    def _refusal_in(self, error: Exception) -> Refusal | None:
        """Return what an operator has to do about an error; nothing if a slot of a shard moves."""
        refusal = refusal_of(error)
        return None if self._sharded and refusal is CLUSTER else refusal

    def _on_trouble(self, error: Exception) -> None:
        """Judge what the failure of one pipeline says about Redis."""
        closed = type(error) is ConnectionError or isinstance(error, OSError)
        if closed and not isinstance(error, TimeoutError):
            # That may happen to any one connection; the subscriber's shows whether it is more.
            self._mention(error)
            self._subscriber.check()
        else:
            self._on_disconnected(error)
            self._subscriber.abort()

    def _on_reader_trouble(self, error: Exception) -> None:
        """Judge what the failure of a connection that reads says about Redis."""
        if isinstance(error, TimeoutError | asyncio.TimeoutError):
            # What was asked of it may be too much, and then only reads suffer.
            if self._throttle.due("slow read"):
                log.warning("Redis took longer than %g s to read", self._timeout)
            self._subscriber.check()
        else:
            self._on_trouble(error)

    def _mention(self, error: Exception) -> None:
        if self._throttle.due(type(error).__name__):
            report(error, self._refusal_in(error), self._names.prefix)

    # Events --------------------------------------------------------------------------------

    def publish(self, draft: Draft) -> "Future[PublishResult]":
        """Store `draft` and send it to every worker, in one script."""
        if not self._available:
            return failed(unavailable())
        if self._refusal is not None and self._refusal.status == "misconfigured":
            # A script that the ACL ends in the middle may have stored the message.
            return failed(Closed(self._refusal, sent=False))
        return self._storage.publish(self._publisher, self._names.keys(draft.topic), draft)

    def signal(self, topic: str, payload: bytes) -> "Future[None]":
        """Send `payload` to every worker."""
        if not self._available:
            return failed(unavailable())
        command = pack(
            self._subscriber.publish, self._names.channel(topic), signal_message(payload)
        )
        return self._publisher.send(command, lambda _: None)

    def flushed(self) -> "Future[bool]":
        """Return when everything published before this call is answered, if `Redis` is there."""
        return self._publisher.send(pack("PING"), bool)

    def subscribe(self, topic: str) -> "Future[None]":
        """Receive the topic's events from all workers.

        While Redis is unavailable the future fails, but the topic is remembered.
        """
        future = self._subscriber.subscribe(topic)
        # A connection that is still being made again may take its time.
        return future if self._available else failed(unavailable())

    def unsubscribe(self, topic: str) -> None:
        """Forget the subscription."""
        self._subscriber.unsubscribe(topic)

    async def history(
        self,
        topic: str,
        *,
        after: int = 0,
        before: int | None = None,
        limit: int,
        newest: bool = False,
        max_bytes: int = READ_BYTES,
    ) -> HistoryPage:
        """Read stored events and the topic's position, in one script."""
        if not self._available:
            raise unavailable()
        lasting = self._subscriber.remembers(topic)
        page = await self._storage.history(
            self._reader(),
            topic,
            self._names.keys(topic),
            after=after,
            before=before,
            limit=limit,
            newest=newest,
            max_bytes=max_bytes,
            lasting=lasting,
        )
        if lasting and page.seq == 0:
            self._unused.add(topic)
        return page

    async def _prolong(self) -> None:
        """Keep the positions of topics that nothing was published to, while they are subscribed."""
        while True:
            await asyncio.sleep(PROLONG_SECONDS)
            for topic in list(self._unused):
                self._unused.discard(topic)
                if self._subscriber.remembers(topic):
                    try:
                        await self.history(topic, limit=0)
                    except Unavailable:
                        self._unused.add(topic)

    async def begin_epoch(self, topic: str, lost: str) -> Position:
        """Begin another epoch where the topic stands, unless somebody has."""
        if not self._available:
            raise unavailable()
        keys = self._names.keys(topic)
        return await self._storage.begin_epoch(self._reader(), keys, lost)

    def _reader(self) -> Pipeline:
        # The first idle one: with little to do, one connection is all there is.
        return min(self._readers, key=len)
