"""The broker over one Redis server: sorted sets store events, pub/sub carries them to workers."""

import asyncio
import logging
import secrets
from asyncio import Future
from collections.abc import Callable
from contextlib import suppress

from redis.exceptions import ConnectionError

from ...changes import Change, ChangeResult
from ...events import READ_BYTES, Draft, HistoryPage, Kind, Position, PublishResult
from ...logs import LogThrottle
from ...metrics.numbers import StoreNumbers
from ...protocol.errors import Unavailable
from ...realtime.ports import BrokerHealth, Listener
from ...settings import BrokerSettings, RedisSettings
from ..common import GuardedListener, failed, unavailable
from .clock import ask_time
from .connection import CONNECTION_ERRORS, RedisConnection, database_of
from .cursors import UNREAD, RedisCursors
from .diagnosis import explain, report, warn_of_eviction
from .feed import RELEASE, RedisFeed
from .orders import PUT, READ, RedisOrders
from .pipeline import Pipeline, Script, pack
from .presence import PAGE, WRITE, RedisPresence
from .probe import PubSubProbe
from .prolonging import Prolonging
from .refusals import CLUSTER, REPLICA, TOO_OLD, UNNAMED, Refusal, StoreRefuses, refusal_of
from .storage import BEGIN_EPOCH, HISTORY, STORING, Keyspace, Storage
from .subscriber import PubSubConnection, signal_message
from .topology import connector_of
from .write_probe import WriteProbe

log = logging.getLogger(__name__)

PUBLISH_BATCH = 512
"""Maximum number of publications in one pipeline: the round trip costs little per publication, and
the first publication waits only some 10 ms for the last."""

READ_BATCH = 16
"""Maximum number of reads in one pipeline: each may return megabytes, held until the last read."""

BACKOFF_SECONDS = (0.05, 2.0)
"""First and longest seconds between two attempts to connect, before jitter."""

MISCONFIGURED_SECONDS = 30.0
"""Longest delay in seconds if an operator must change something first."""

_RANDOM = secrets.SystemRandom()


class RedisBroker:
    """Keeps `realtime.ports.Broker` over one Redis server, or the sentinels' master.

    A worker has one subscriber connection, one connection to publish (so that publications keep
    their order) and, as needed, some to read. The subscriber connection decides whether Redis is
    available: the worker always reads from it, and sends a PING after silence. While this
    connection is lost every call fails at once.

    Args:
        redis: the address, and the longest silence of Redis.
        broker: lifetimes of positions and idempotency keys, and the limit of waiting calls.
        connect: makes connections; by default to `redis.url`.
        sharded: True for a shard of a cluster, where channels belong to slots.
        on_moved: called with a subscribed topic that this server does not serve any more.
        throttle: shared limit of log lines.
        numbers: counters of the commands to Redis.

    Attributes:
        cursors: the store of read cursors.
        feed: names the topics with new events.
        orders: the store of operators' orders.
        presence: the store of presence.
        home: the hash tag of the probe's keys; in a cluster a tag that this shard serves.

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
        on_moved: Callable[[str], None] = lambda topic: None,
        throttle: LogThrottle | None = None,
        numbers: StoreNumbers | None = None,
    ) -> None:
        self._numbers = numbers
        self._connect = connect = connect or connector_of(redis.url)
        self._sharded = sharded
        self._names = names = Keyspace(redis.prefix, database_of(redis.url))
        self._timeout = redis.timeout_seconds
        self._limit = broker.max_pending
        self.home = ""
        # True while the subscriber connection is open and the last probe came back.
        self._available = False
        # True from `Listener.on_lost` to `on_restored`.
        self._lost = False
        # The reason for which Redis stores nothing, although it answers.
        self._refusal: Refusal | None = None
        # True if the log has a line about that reason, so that its end must be logged too.
        self._logged = False
        self._recovered = False  # True if the last line says that publications are stored again
        self._throttle = throttle = throttle or LogThrottle()
        self._listener: GuardedListener  # Set by `start`.
        # The supervisor of the subscriber connection, and the prolonging of positions.
        self._tasks: list[asyncio.Task[None]] = []
        self._subscriber = PubSubConnection(
            connect,
            self._names.channel,
            timeout_seconds=self._timeout,
            limit=self._limit,
            sharded=sharded,
            on_moved=on_moved,
            throttle=throttle,
        )
        self._storage = Storage(broker, self._subscriber.publish)
        self._publisher = self._make_pipeline(PUBLISH_BATCH, False, *STORING, UNREAD)
        self._write_probe = WriteProbe(
            *(self._names, self._storage, self._publisher, self._reader, self._subscriber),
            sharded=sharded,
        )
        self._probe = PubSubProbe(
            *(self._publish_probe, self._write_probe.signal, self._subscriber, self._on_result),
            every_seconds=redis.canary_seconds,
            timeout_seconds=self._timeout,
        )
        self._readers = self._make_readers(max(1, redis.max_connections - 2))
        self._prolonging = Prolonging(self._is_subscribed, self.history)
        self.presence = self._make_presence(broker)
        self.cursors = RedisCursors(self._publisher, names, broker, self.reaches, self._reader)
        self.feed = RedisFeed(
            *(self._storage.touched, self._names, self._reader),
            *(self.flushed, lambda: self._available),
        )
        self.orders = RedisOrders(self._names, self._reader, lambda: self._available)

    def _make_pipeline(self, batch_size: int, reads: bool, *scripts: Script) -> Pipeline:
        return Pipeline(
            self._connect,
            scripts,
            timeout_seconds=self._timeout,
            limit=self._limit,
            batch_size=batch_size,
            on_trouble=self._on_reader_trouble if reads else self._on_trouble,
            on_refusal=self._on_refused_read if reads else self._on_refusal,
            clustered=self._sharded,
            throttle=self._throttle,
            numbers=self._numbers,
        )

    def _make_readers(self, count: int) -> list[Pipeline]:
        scripts = (HISTORY, BEGIN_EPOCH, RELEASE, PUT, READ)
        return [self._make_pipeline(READ_BATCH, True, *scripts) for _ in range(count)]

    def _make_presence(self, broker: BrokerSettings) -> RedisPresence:
        return RedisPresence(
            # This pipeline connects only if a namespace has presence. A refusal of its commands
            # does not stop publications.
            self._make_pipeline(PUBLISH_BATCH, True, WRITE, PAGE),
            *(self._names, broker, self._subscriber.publish),
            available=lambda: self._available,
        )

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
        """Seconds of deafness since the start in total."""
        return self._probe.deaf_seconds

    async def health(self, *, ping: bool = True) -> BrokerHealth:
        """Return the state of this server."""
        latency = ahead = None
        if ping and self._available:
            latency, ahead = await ask_time(self._reader())
        silent = ping and latency is None and self.status == "ok"
        return BrokerHealth(
            "unavailable" if silent else self.status,
            self.deaf_seconds,
            latency,
            "" if self._refusal is None else self._refusal.describe(self._names.prefix),
            ahead,
        )

    def reaches(self, topic: str) -> bool:
        """Return whether Redis is believed to be reachable."""
        return self._available

    def accepts(self, topic: str) -> bool:
        """Return whether Redis stores publications now."""
        return self._available and self._refusal is None

    def set_hash_tag(self, home: str) -> None:
        """Use `home` as the hash tag of the probe's keys and channel."""
        self.home = home
        self._write_probe.set_hash_tag(home)

    # Life ----------------------------------------------------------------------------------

    async def start(self, listener: Listener) -> None:
        """Begin to deliver to `listener`.

        Waits for the first attempt to connect, at most `timeout_seconds`. Afterwards the broker
        waits for an unavailable server in the background.
        """
        self._listener = GuardedListener(listener)
        for pipeline in self._pipelines:
            pipeline.start()
        tried = asyncio.Event()
        self._tasks = [
            asyncio.create_task(self._supervise(tried), name="redis supervisor"),
            asyncio.create_task(self._prolonging.run(), name="redis positions"),
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
        return [self._publisher, *self._readers, self.presence.pipeline]

    async def _supervise(self, tried: asyncio.Event) -> None:
        """Keep the subscriber connection, which decides whether Redis is available."""
        loop = asyncio.get_running_loop()
        shortest, longest = BACKOFF_SECONDS
        delay = shortest
        while True:
            began = loop.time()
            try:
                error = await self._keep_connected(tried)
                self._on_disconnected(error)
                tried.set()
            finally:
                await self._subscriber.close()
            if loop.time() - began > max(longest, delay):
                delay = shortest
            await asyncio.sleep(_RANDOM.uniform(0, delay))
            lasting = self._refusal is not None and self._refusal.status == "misconfigured"
            delay = min(delay * 2, MISCONFIGURED_SECONDS if lasting else longest)

    async def _keep_connected(self, tried: asyncio.Event) -> Exception:
        """Connect, stay available until the connection is lost, and return the error."""
        try:
            await self._subscriber.open(self._listener)
            # The address may resolve to another server than before.
            self._renew_pipelines()
            await self._probe.check()
            await warn_of_eviction(self._connect, self._timeout / 2, self._throttle)
            self._on_connected()
            tried.set()
            await self._probe.run()
        except Exception as error:
            if not isinstance(error, (*CONNECTION_ERRORS, Unavailable)):
                log.exception("the connection to Redis failed by a fault of our own")
            return error

    def _publish_probe(self) -> "Future[None]":
        probe = self._write_probe
        work = probe.publish() if self.accepts("") else probe.publish_and_read()
        return asyncio.create_task(work, name="redis probe")

    async def _on_result(self, refusal: Refusal | None) -> None:
        """Note the outcome of a probe."""
        if refusal in (UNNAMED, TOO_OLD):
            refusal = await self._explain(refusal)
        known, self._refusal = self._refusal, refusal
        if refusal is not None:
            if known != refusal or not self._available:
                self._log_refusal(refusal)
            return
        if known is REPLICA:
            self._renew_pipelines()
        if known is UNNAMED:
            self._log_refusal(known)
        # A full Redis accepts some publications: the log's last line must be the lasting state.
        if self._logged and self._throttle.due("again"):
            log.info("Redis takes publications again")
            self._recovered, self._logged = True, False

    def _on_refusal(self, refusal: Refusal, reply: Exception) -> None:
        """Note a refusal of a publication."""
        known = self._refusal
        if refusal is REPLICA and known is None and self._available:
            # The address or the sentinels may lead to another master by now.
            self._on_disconnected(reply)
            self._subscriber.abort()
            return
        if refusal is REPLICA:
            self._publisher.renew()
        if self._available and known is None:
            self._refusal = refusal
            self._probe.expedite()
            if refusal is not UNNAMED:  # the probe finds the command's name
                self._log_refusal(refusal)

    def _on_refused_read(self, refusal: Refusal, reply: Exception) -> None:
        if self._available and self._throttle.due(f"read {refusal.reason}"):
            reason = refusal.describe(self._names.prefix)
            log.error("Redis refuses to read, or presence: %s (%s)", reason, reply)

    async def _explain(self, refusal: Refusal) -> Refusal:
        known = self._refusal
        again = self._throttle.due("explain")
        if known not in (None, UNNAMED, TOO_OLD) and known.status == refusal.status and not again:
            return known
        with suppress(TimeoutError):
            async with asyncio.timeout(self._timeout):
                command = self._subscriber.publish
                return await explain(self._connect, self._write_probe.keys, command, refusal)
        return refusal

    def _log_refusal(self, refusal: Refusal) -> None:
        recovered, self._recovered, self._logged = self._recovered, False, True
        if self._throttle.due(refusal.reason) or recovered:
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
        if not isinstance(error, Unavailable):  # `Unavailable` follows an error noted before
            refusal = self._refusal = self._refusal_in(error)
            # An operator's lasting mistake is logged once a minute, rather than by every shard.
            due = self._throttle.due(refusal.reason if refusal else type(error).__name__)
            if due or not (self._lost or refusal):
                report(error, refusal, self._names.prefix)
        if not self._lost:
            self._lost = True
            self._listener.lost()

    def _refusal_in(self, error: Exception) -> Refusal | None:
        """Return the refusal in an error; None if only a slot of a shard moves."""
        refusal = refusal_of(error)
        return None if self._sharded and refusal is CLUSTER else refusal

    def _on_trouble(self, error: Exception) -> None:
        """Decide whether the failure of a pipeline means that Redis is unavailable."""
        closed = type(error) is ConnectionError or isinstance(error, OSError)
        if closed and not isinstance(error, TimeoutError):
            # One connection may be lost at any time; the subscriber's PING tests Redis.
            self._mention(error)
            self._subscriber.ping()
        else:
            self._on_disconnected(error)
            self._subscriber.abort()

    def _on_reader_trouble(self, error: Exception) -> None:
        """Decide whether the failure of a reading connection means that Redis is unavailable."""
        if isinstance(error, TimeoutError | asyncio.TimeoutError):
            # The reads may have been too large; then only the reads fail.
            if self._throttle.due("slow read"):
                log.warning("Redis took longer than %g s to read", self._timeout)
            self._subscriber.ping()
        else:
            self._on_trouble(error)

    def _mention(self, error: Exception) -> None:
        if self._throttle.due(type(error).__name__):
            report(error, self._refusal_in(error), self._names.prefix)

    # Events --------------------------------------------------------------------------------

    def publish(self, draft: Draft) -> "Future[PublishResult]":
        """Store `draft` and send it to every worker, in one script."""
        if (error := self._refuses_to_store()) is not None:
            return failed(error)
        return self._storage.publish(self._publisher, self._names.keys(draft.topic), draft)

    def change(self, change: Change) -> "Future[ChangeResult]":
        """Change a message and send the event to every worker, in one script."""
        if (error := self._refuses_to_store()) is not None:
            return failed(error)
        return self._storage.change(self._publisher, self._names.keys(change.topic), change)

    def _refuses_to_store(self) -> Unavailable | None:
        if not self._available:
            return unavailable()
        if self._refusal is not None and self._refusal.status == "misconfigured":
            # A script that an ACL stops in the middle would store the event.
            return StoreRefuses(self._refusal, sent=False)
        return None

    def signal(self, topic: str, payload: bytes, kind: Kind = Kind.SIGNAL) -> "Future[None]":
        """Send `payload` to every worker."""
        if not self._available:
            return failed(unavailable())
        command = pack(
            self._subscriber.publish, self._names.channel(topic), signal_message(payload, kind)
        )
        return self._publisher.send(command, lambda _: None)

    def flushed(self) -> "Future[bool]":
        """Resolve once every earlier publication is answered."""
        return self._publisher.send(pack("PING"), bool)

    def subscribe(self, topic: str) -> "Future[None]":
        """Receive the topic's events from all workers.

        While Redis is unavailable the future fails, but the broker remembers the topic.
        """
        future = self._subscriber.subscribe(topic)
        # The subscriber may be connecting for as long as Redis is unavailable.
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
        folded: bool = False,
    ) -> HistoryPage:
        """Read stored events or messages and the topic's position, in one script."""
        if not self._available:
            raise unavailable()
        lasting = self._is_subscribed(topic)
        page = await self._storage.history(
            *(self._reader(), topic, self._names.keys(topic)),
            after=after,
            before=before,
            limit=limit,
            newest=newest,
            max_bytes=max_bytes,
            lasting=lasting,
            folded=folded,
        )
        if lasting and page.seq == 0:
            self._prolonging.add(topic)
        return page

    def _is_subscribed(self, topic: str) -> bool:
        return self._subscriber.remembers(self._names.channel(topic))

    async def begin_epoch(self, topic: str, lost: str) -> Position:
        """Begin another epoch at the topic's position, unless another worker has begun one."""
        if not self._available:
            raise unavailable()
        return await self._storage.begin_epoch(self._reader(), self._names.keys(topic), lost)

    async def purge(self, topic: str) -> Position:
        """Delete all stored events of the topic, and begin another epoch at its position."""
        if not self._available:
            raise unavailable()
        return await self._storage.purge(self._reader(), self._names.keys(topic))

    def _reader(self) -> Pipeline:
        # The first idle reader, so that little traffic opens only one connection.
        for reader in self._readers:
            if not len(reader):
                return reader
        return min(self._readers, key=len)
