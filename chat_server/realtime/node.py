"""One worker's part of the server: joins its connections, its topics and the broker."""

import asyncio

import msgspec

from ..clock import Clock
from ..events import Draft, Event, HistoryPage, Kind, PublishResult, Retention
from ..protocol.codecs import Codec
from ..protocol.errors import BadRequest, TooLarge
from ..protocol.messages import Limits, User
from ..settings import Settings
from .drain import Drain
from .encoding import encode_push
from .hub import Hub
from .limits import ReadRates, UserRates
from .ports import Broker, Outbox, Publisher
from .registry import Registry
from .timers import SlottedTimers

REPLAYS_PER_SECOND = 2
"""How often a user gets `limits.max_replay` events, once he has had so many of every topic."""

YIELD_BYTES = 16_384
"""Messages of a history that are encoded before others get their turn."""


class Node:
    """The state of one worker.

    Args:
        settings: the server's.
        broker: shared with other workers, or not.
        clock: for times that clients see.
        name: what others call this worker.
        outbox: keeps publications while the broker does not accept them; None for no such thing.
    """

    def __init__(
        self,
        settings: Settings,
        broker: Broker,
        clock: Clock,
        name: str,
        outbox: Outbox | None = None,
    ) -> None:
        self.settings = settings
        self.broker = broker
        self.outbox = outbox
        self._publisher: Publisher = outbox or broker
        self.clock = clock
        self.name = name
        self.hub = Hub(broker, settings.limits.max_replay)
        limits = settings.limits
        self.registry = Registry(
            limits.max_connections_per_user, limits.max_connections_per_address
        )
        self.drain = Drain(self.registry, settings.server.drain_seconds)
        self.messages = UserRates(limits.messages_per_second, limits.message_burst)
        self.reads = ReadRates(limits.read_bytes_per_second, limits.read_burst_bytes)
        self.replays = UserRates(
            REPLAYS_PER_SECOND * limits.max_replay, limits.max_topics * limits.max_replay
        )
        self.timers = SlottedTimers()
        self.started_at = clock.monotonic()
        self.limits = Limits(
            max_message_bytes=limits.max_message_bytes,
            max_topics=limits.max_topics,
            max_pending_commands=limits.max_pending_commands,
            messages_per_second=limits.messages_per_second,
            message_burst=limits.message_burst,
            idempotency_seconds=settings.broker.idempotency_seconds,
        )

    async def start(self) -> None:
        """Begin to receive events."""
        if self.outbox is not None:
            self.outbox.start()
        await self.broker.start(self.hub)

    async def stop(self) -> None:
        """Close every connection within `drain_seconds`, then let go of the broker."""
        await self.drain.run()
        self.timers.stop()
        await self.hub.stop()
        if self.outbox is not None:
            self.outbox.stop()
        await self.broker.stop()

    # Topics --------------------------------------------------------------------------------

    def _check_size(self, topic: str, data: bytes) -> None:
        # MessagePack of the size allowed can become six times as much JSON.
        most = self.settings.limits.max_message_bytes
        if len(data) > most:
            raise TooLarge(f"data: may have {most} bytes of JSON, not {len(data)}", topic=topic)

    def publish(
        self, topic: str, data: bytes, sender: User | None, key: str | None = None
    ) -> "asyncio.Future[PublishResult]":
        """Store a message and send it to every subscriber on every worker.

        Args:
            topic: a checked topic name.
            data: JSON text that a codec has checked.
            sender: shown to subscribers.
            key: makes a repetition by the same sender a duplicate.

        Returns:
            A future of its place in the topic's order.

        Raises:
            TooLarge: `data` has more than `limits.max_message_bytes`.
            Unavailable: the broker cannot be reached (also by the future).
        """
        self._check_size(topic, data)
        user = sender.user if sender else ""
        # With the length no other user's key can be made to look the same.
        scoped = None if key is None else f"{len(user)}:{user}:{key}"
        return self._publisher.publish(
            Draft(
                topic=topic,
                kind=Kind.MESSAGE,
                head=b'{"type":"message","topic":"%s","seq":' % topic.encode(),
                tail=b',"from":%s,"data":%s}' % (msgspec.json.encode(sender), data),
                retention=self.retention(topic),
                key=scoped,
            )
        )

    def signal(self, topic: str, data: bytes, sender: User | None) -> "asyncio.Future[None]":
        """Tell a topic's present subscribers something that is not stored.

        Raises:
            TooLarge: `data` has more than `limits.max_message_bytes`.
            Unavailable: the broker cannot be reached (also by the future).
        """
        self._check_size(topic, data)
        payload = b'{"type":"signal","topic":"%s","from":%s,"data":%s,"at":%d}' % (
            topic.encode(),
            msgspec.json.encode(sender),
            data,
            int(self.clock.time() * 1000),
        )
        return self.broker.signal(topic, payload)

    async def history(
        self, topic: str, codec: Codec, *, before: int | None, after: int | None, limit: int
    ) -> tuple[HistoryPage, list[msgspec.Raw]]:
        """Read stored messages, ascending: the newest, those before or those after a seq.

        They are as many as fill `limits.slow_buffer_bytes`, or else one.

        Returns:
            What was read, and the messages in it that `codec` can carry, encoded by it.

        Raises:
            BadRequest: both `before` and `after` are given.
            Unavailable: the broker cannot be reached.
        """
        if before is not None and after is not None:
            raise BadRequest("before, after: only one of them may be given")
        page = await self.broker.history(
            topic,
            after=after or 0,
            before=before,
            limit=limit,
            newest=after is None,
            max_bytes=self.settings.limits.slow_buffer_bytes,
        )
        messages = [event for event in page.events if event.kind is Kind.MESSAGE]
        kept, all_kept = await self._fitting(
            messages if after is not None else messages[::-1], codec
        )
        if not all_kept:
            page = msgspec.structs.replace(page, more=True)
        return page, [msgspec.Raw(each) for each in (kept if after is not None else kept[::-1])]

    async def _fitting(self, messages: list[Event], codec: Codec) -> tuple[list[bytes], bool]:
        """Return the first of these that an answer may hold, encoded, and whether that is all."""
        kept: list[bytes] = []
        size = held = 0
        for message in messages:
            encoded = encode_push(codec, message)
            if encoded is None:
                continue
            size += len(encoded)
            if kept and size > self.settings.limits.slow_buffer_bytes:
                return kept, False
            kept.append(encoded)
            held += len(message.payload)
            if held >= YIELD_BYTES:
                held = 0
                await asyncio.sleep(0)
        return kept, True

    def retention(self, topic: str) -> Retention:
        """Return how much of a topic's history is kept."""
        namespace = self.settings.namespace(topic)
        return Retention(namespace.history_size, namespace.history_seconds, namespace.history_bytes)
