"""One worker's part of the server: connects its connections, its topics and the broker."""

import logging

import msgspec
from msgspec.structs import replace

from ..auth.denials import Denials
from ..clock import Clock
from ..events import Event
from ..logs import LogThrottle
from ..metrics.numbers import Numbers
from ..protocol.errors import ChatError
from ..protocol.messages import Limits, ReadPush
from ..protocol.session import SessionLimits
from ..settings import Settings, SettingsError
from .arrivals import Arrivals
from .drain import Drain
from .hub import Hub
from .limits import ReadRates, UserRates
from .ports import Broker, LogReader, Outbox, Presence, Publisher, Transport
from .presence import TopicPresence
from .refusals import ClosedByLimits
from .registry import PushClient, Registry
from .searching import Search
from .timers import SlottedTimers
from .trail import Trail

REPLAYS_PER_SECOND = 2
"""Replay budget after the initial burst, in units of `limits.max_replay` events per second."""

logger = logging.getLogger(__name__)

_decode_read = msgspec.json.Decoder(ReadPush).decode


class Node:
    """The state of one worker.

    Args:
        settings: the whole configuration.
        broker: stores and carries events; a Redis broker is shared with other workers.
        clock: the clock of times that clients see.
        name: this worker's name for other workers.
        outbox: keeps publications while the broker does not accept any; None for no outbox.
        log: reads stored events for clients; the broker by default.
        search: finds messages; None without an archive.
        numbers: the worker's counters; new ones if None.
        denials: the users and addresses that operators keep out; nobody if None.

    Raises:
        SettingsError: a namespace has presence, and the broker does not support presence.

    Attributes:
        publisher: takes publications: the outbox, or the broker if there is no outbox.
        log: reads stored events for clients.
        search: finds messages; None without an archive.
        hub: the topics with subscribers.
        registry: the connections, and their numbers by user and address.
        drain: sends the connections away when the worker stops.
        denials: the users and addresses that operators keep out.
        presence: the users in the topics; None if no namespace has presence.
        message_rates: messages and requests, by user.
        read_rates: bytes of stored events, by user.
        replay_rates: replayed events, by user.
        closed_by_limits: logs the connections that a limit closes.
        timers: the one timer of all connections.
        started_at: seconds of the monotonic clock.
        numbers: the counters of this worker.
        session_limits: the limits and times of every session.
    """

    def __init__(
        self,
        settings: Settings,
        broker: Broker,
        clock: Clock,
        name: str,
        outbox: Outbox | None = None,
        log: LogReader | None = None,
        search: Search | None = None,
        numbers: Numbers | None = None,
        denials: Denials | None = None,
    ) -> None:
        self.settings = settings
        self.denials = Denials(clock) if denials is None else denials
        self.broker = broker
        self.outbox = outbox
        self.publisher: Publisher = outbox or broker
        self.clock = clock
        self.name = name
        self.log: LogReader = log or broker
        self.search = search
        self.numbers = numbers or Numbers()
        self.trail = Trail(clock, settings.explain.notes)
        self.hub = Hub(
            *(broker, settings.limits.max_replay, self._tell_user, log),
            clock=clock,
            numbers=self.numbers,
            latest_only=lambda topic: settings.namespace(topic).slow_subscribers == "latest",
            trail=self.trail,
        )
        limits = settings.limits
        self.registry = Registry(
            limits.max_connections_per_user, limits.max_connections_per_address
        )
        self.arrivals = Arrivals(limits, clock)
        self.drain = Drain(self.registry, settings.server.drain_seconds)
        self.presence = self._make_presence() if settings.has_presence else None
        self.message_rates = UserRates(
            *(limits.messages_per_second, limits.message_burst),
            *("messages", "limits.messages_per_second"),
        )
        self.read_rates = ReadRates(limits.read_bytes_per_second, limits.read_burst_bytes, clock)
        self.replay_rates = UserRates(
            *(REPLAYS_PER_SECOND * limits.max_replay, limits.max_topics * limits.max_replay),
            "replays",
        )
        self.closed_by_limits = ClosedByLimits()
        self.timers = SlottedTimers()
        self._refused_tokens = LogThrottle()  # by address
        self.started_at = clock.monotonic()
        self.session_limits = _session_limits(settings)
        self.limits = _limits(settings)

    def _make_presence(self) -> TopicPresence:
        if not isinstance(self.broker, Presence):
            raise SettingsError("namespaces: presence needs a broker that keeps it")
        return TopicPresence(self.broker.presence, self.hub, self.settings, self.name, self.drain)

    def presence_in(self, topic: str) -> TopicPresence | None:
        """Return the presence of all topics, or None if the topic's namespace has no presence."""
        presence = self.presence
        return presence if presence is not None and presence.covers(topic) else None

    def _tell_user(self, event: Event) -> None:
        """Send a user's read mark to the user's other connections.

        Args:
            event: an event whose payload is the session to skip, a space, and the push.
        """
        session, _, payload = event.payload.partition(b" ")
        push = replace(event, payload=payload)
        for client in list(self.registry.of_user(_decode_read(payload).user)):
            if client.id != session.decode() and isinstance(client, PushClient):
                client.push(push)

    def log_refused_token(self, address: str, error: ChatError) -> None:
        """Log that a token is refused, once a minute for each address.

        Args:
            address: the client's address.
            error: the reason of the refusal, with its fields for the log.
        """
        if self._refused_tokens.due(address):
            extra = {"address": address, **error.log_fields}
            logger.info("a token from %s is not accepted: %s", address, error.message, extra=extra)

    def leave(self, transport: Transport, topic: str) -> None:
        """Take a subscriber out of a topic."""
        self.hub.leave(transport, topic)
        if self.presence is not None:
            self.presence.leave(topic, transport)

    async def start(self) -> None:
        """Begin to receive events."""
        if self.outbox is not None:
            self.outbox.start()
        if self.presence is not None:
            self.presence.start()
        await self.broker.start(self.presence or self.hub)

    async def stop(self) -> None:
        """Close every connection within `drain_seconds`, then stop the broker."""
        await self.drain.run()
        if self.presence is not None:
            await self.presence.stop()
        self.timers.stop()
        await self.hub.stop()
        if self.outbox is not None:
            self.outbox.stop()
        await self.broker.stop()


def _session_limits(settings: Settings) -> SessionLimits:
    gateway, limits = settings.gateway, settings.limits
    return SessionLimits(
        auth_timeout_seconds=gateway.auth_timeout_seconds,
        heartbeat_seconds=gateway.heartbeat_seconds,
        pong_timeout_seconds=gateway.pong_timeout_seconds,
        refresh_grace_seconds=gateway.refresh_grace_seconds,
        max_topics=limits.max_topics,
        max_pending_commands=limits.max_pending_commands,
    )


def _limits(settings: Settings) -> Limits:
    limits = settings.limits
    return Limits(
        max_message_bytes=limits.max_message_bytes,
        max_topics=limits.max_topics,
        max_pending_commands=limits.max_pending_commands,
        messages_per_second=limits.messages_per_second,
        message_burst=limits.message_burst,
        idempotency_seconds=settings.broker.idempotency_seconds,
    )
