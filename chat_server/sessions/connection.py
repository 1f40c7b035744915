"""One client's connection: between a transport, a session and the service."""

import asyncio
import logging
import math
import random
import secrets
from collections.abc import Callable, Collection, Coroutine, Mapping
from contextvars import copy_context
from functools import partial
from types import MappingProxyType
from typing import Any

import msgspec

from ..auth.claims import Claims
from ..auth.tokens import refusal_kind
from ..events import Event, HistoryPage
from ..hooks.subjects import Client
from ..logs import CONNECTION
from ..protocol.close_codes import CloseCode
from ..protocol.commands import Command, Publish, TopicCommand
from ..protocol.effects import Pending
from ..protocol.errors import Blocked, ChatError, Internal, RateLimited, Unauthorized, Unavailable
from ..protocol.messages import Error, Ok, ServerMessage
from ..protocol.session import Session, SessionLimits
from ..realtime.drain import RESTARTS
from ..realtime.limits import connection_rate
from ..realtime.ports import Transport
from ..realtime.recovery import Recovery
from ..realtime.refusals import count_refusal
from ..service.answers import Answer, Joined
from ..service.service import Service
from . import connection_log
from .authentication import AuthenticatingClient

logger = logging.getLogger(__name__)

HEARTBEAT_JITTER = 0.1
"""Maximum deviation of a heartbeat, as a part of its period, so that pings spread out."""

SAMPLED = 16
"""Publications per measured duration: a measurement costs as much as all other counters."""

LOST = 1006
"""The close code of RFC 6455 section 7.1.5 for a connection that ended without a Close."""

FAULT = "something went wrong; it has been logged"
"""The client's message about a fault of the server."""


class Connection(AuthenticatingClient):
    """One client's connection.

    Messages come from the transport (`on_message`) and go to the session. The session hands back a
    command that may run (`execute`), which goes to the service. The answer returns to the session
    (`_finish`, `Session.succeed`), which sends the answer when its turn has come (`answer`).

    A client that reads too slowly: the transport notices (`on_full`), the hub makes the client lag
    (`Hub.lag`), a timer closes the connection (`_too_slow`). Once the client has read
    (`on_drained`), `Hub.replay` sends the missed events. A client that resumes: `subscribe` finds
    its place (`service.subscribing`, `realtime.recovery`), `enter` begins there, and `Hub.replay`
    sends the events. docs/design/delivery.md describes both.

    Args:
        service: runs the client's commands.
        transport: the client's transport; this object is its receiver.
        address: the client's address, for limits.
        agent: the client's User-Agent.

    Attributes:
        id: the session id of the `welcome` message.
        agent: the client's User-Agent.
        opened_at: seconds since 1970.
        peer: the client's address, even if not counted.
        received: number of messages from the client.
    """

    # Code and reason of the close.
    _end: tuple[int, str] = (LOST, "")

    # Subscriptions that must end as soon as they begin. Nearly all connections have none.
    _unwelcome: Mapping[str, ChatError] = MappingProxyType({})

    def __init__(
        self, service: Service, transport: Transport, address: str, agent: str = ""
    ) -> None:
        super().__init__(service, transport)
        self.id = secrets.token_hex(8)
        self.agent = agent
        self.opened_at = int(service.node.clock.time())
        # Empty if the address is not counted.
        self._address = address
        self.peer = address
        self.received = 0
        self._began = service.node.clock.monotonic()
        # Tasks of commands under way, cancelled with the connection. None saves an idle connection
        # the 216 bytes of a set.
        self._tasks: set[asyncio.Task[Any]] | None = None
        # The slot of `on_timer` in `node.timers`, for the session's next deadline.
        self._slot: int | None = None
        # Runs while the client reads too slowly, and closes the connection at its end.
        self._slow_timer: asyncio.TimerHandle | None = None
        # Resolved once the client has caught up, if a command waits for this.
        self._drained: asyncio.Future[None] | None = None
        self._replaying: asyncio.Task[None] | None = None
        self._gone = False
        node = service.node
        limits = node.settings.limits
        self._rate = connection_rate(
            *(node.message_rates, limits, address), node.numbers.rate_limited
        )
        self._session = Session(self, self._session_limits(), self.codec, self._rate, self._began)

    def _session_limits(self) -> SessionLimits:
        limits = self._node.session_limits
        heartbeat = None
        if limits.heartbeat_seconds is not None and self.transport.can_ping:
            jitter = 1 + HEARTBEAT_JITTER * random.uniform(-1, 1)  # noqa: S311 - spreads load
            heartbeat = limits.heartbeat_seconds * jitter
        return msgspec.structs.replace(limits, heartbeat_seconds=heartbeat)

    def start(self, claims: Claims | None, refusal: ChatError | None = None) -> None:
        """Begin: with a verified token, with the token's refusal, or waiting for `auth`."""
        registry, drain = self._node.registry, self._node.drain
        full = len(registry) >= self._node.settings.limits.max_connections
        registry.add(self)
        self._node.numbers.connections[self.sort] += 1
        self._node.numbers.opened[self.sort] += 1
        connection_log.began(self, self._node.settings.log)
        if full:
            self._address = ""
            self._exceeded = ("connections", claims.sub if claims is not None else "")
            self._node.numbers.rate_limited["connections"] += 1
            self._session.close(
                CloseCode.OVERLOADED, "the server has reached its limit of connections"
            )
            return
        try:
            if isinstance(refusal, RateLimited):
                raise refusal
            self._node.arrivals.connect(self._address)
            registry.add_address(self, self._address)
        except RateLimited as error:
            self._address = ""
            self._turn_away(error, claims.sub if claims is not None else "")
            return
        if refusal is not None:
            self._node.arrivals.knock("", refusal.user)
            self._count_refused(refusal)
            self._refuse(refusal)
        elif claims is not None:
            self._begin(claims)
        if drain.begun:
            # After `welcome` the client sees a lost connection rather than a refusal.
            self.close(CloseCode.RESTART, RESTARTS, drain.reconnect_in_ms())
        self.on_timer()

    def _begin(self, claims: Claims) -> None:
        """Accept the token of the handshake; commands wait while a hook is asked."""
        try:
            reply = self.admit(claims)
        except ChatError as error:  # an operator was faster
            self._count_refused(error)
            self._refuse(error)
            return
        if not isinstance(reply, Ok):
            ended = partial(self._finish, self._session.hold(), None)
            self._spawn(reply).add_done_callback(ended)

    @property
    def address(self) -> str:
        """The client's network address; empty if the address is not counted."""
        return self._address

    @property
    def sort(self) -> tuple[str, str]:
        """The transport and the encoding, as in metrics."""
        return ("direct" if self.transport.can_ping else "asgi"), self.codec.subprotocol

    @property
    def age(self) -> float:
        """Seconds since the connection was opened."""
        return self._node.clock.monotonic() - self._began

    @property
    def topics(self) -> Collection[str]:
        """See `registry.PushClient`."""
        return self._session.topics

    def close(self, code: CloseCode, reason: str, reconnect_in_ms: int) -> None:
        """Send a goodbye and close once all commands are answered; see `registry.Client`."""
        self._session.close_gracefully(code, reason, reconnect_in_ms)

    def expel(self, code: CloseCode, reason: str) -> bool:
        """Send a goodbye and close at once; return False if the session was closed already."""
        if self._session.closed:
            return False
        self._session.close(code, reason)
        return True

    def drop(self, topic: str, error: ChatError) -> bool:
        """End a subscription, and send the reason; return False if there was no subscription."""
        if topic not in self._session.topics:
            return False
        if self._session.is_joining(topic):
            self._unwelcome = {**self._unwelcome, topic: error}
        else:
            self._node.leave(self.transport, topic)
            self._session.drop_topic(topic, error)
        return True

    def tell(self, packet: bytes) -> bool:
        """Write a packet outside any subscription, if the client is authenticated and reads."""
        if self.claims is None or self._session.closed or not self.transport.writable:
            return False
        self.transport.write(packet)
        return True

    def push(self, event: Event) -> None:
        """Send an event for this user alone; see `registry.PushClient`."""
        if event.topic in self._session.topics and self.transport.writable:
            packet = self.transport.encoder.encode(event)
            if packet is not None:
                self.transport.write(packet)

    def abort(self) -> None:
        """Drop the connection at once; see `registry.Client`."""
        self._session.abort()
        self.transport.abort()

    # Receiver: calls of the transport ------------------------------------------------------

    @property
    def is_subscribed(self) -> bool:
        """See `ports.Receiver`."""
        return bool(self._session.topics)

    def on_message(self, payload: bytes, *, binary: bool) -> None:
        """See `ports.Receiver`."""
        self.received += 1
        numbers = self._node.numbers
        numbers.messages_received += 1
        numbers.received_bytes += len(payload)
        self._session.receive(payload, binary=binary, now=self._node.clock.monotonic())

    def on_sign_of_life(self) -> None:
        """See `ports.Receiver`."""
        self._session.count_control_frame(self._node.clock.monotonic())

    def on_full(self) -> None:
        """See `ports.Receiver`."""
        if self._gone or self._slow_timer is not None:
            return
        self._node.numbers.slow_readers += 1
        self._node.hub.lag(self.transport, self._session.topics)
        settings = self._node.settings
        timeout = settings.limits.slow_timeout_seconds
        if any(
            settings.namespace(topic).slow_subscribers == "disconnect"
            for topic in self._session.topics
        ):
            # The close waits for the timer: the transport may be in the middle of a fan-out.
            timeout = 0.0
        self._slow_timer = asyncio.get_running_loop().call_later(timeout, self._too_slow)

    def on_drained(self) -> None:
        """See `ports.Receiver`."""
        if self._slow_timer is not None:
            self._slow_timer.cancel()
            self._slow_timer = None
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._session.touch(self._node.clock.monotonic())
        self._replay()

    def on_remote_close(self) -> None:
        """See `ports.Receiver`."""
        self._session.on_remote_close()

    def on_closed(self) -> None:
        """See `ports.Receiver`."""
        self._session.abort()
        if not self._gone:
            self._node.numbers.closed[LOST] += 1
        self._node.numbers.connections[self.sort] -= 1
        self._leave()
        self._node.registry.remove(self, user=self.user, address=self._address)
        connection_log.ended(self, self._node.settings.log, *self._end)

    def _too_slow(self) -> None:
        self._session.close(CloseCode.TOO_SLOW, "the client reads too slowly")

    def _leave(self) -> None:
        """Leave every topic and end all commands under way, except publications, which go on."""
        if self._gone:
            return
        self._gone = True
        if self._slot is not None:
            self._node.timers.cancel(self.on_timer, self._slot)
        if self._slow_timer is not None:
            self._slow_timer.cancel()
        for topic in self._session.topics:
            self._node.leave(self.transport, topic)
        for task in self._tasks or ():
            task.cancel()
        gate = self._service.gate
        if gate is not None and self.claims is not None:
            gate.disconnected(Client(self.claims.user, self.id, self._address))

    # Effects: calls of the session ---------------------------------------------------------

    def send(self, message: ServerMessage) -> None:
        """See `effects.Effects`."""
        packet = self.transport.encoder.encode_message(message)
        self.transport.write(packet)
        numbers = self._node.numbers
        numbers.messages_sent += 1
        numbers.sent_bytes += len(packet)
        if isinstance(message, Error):
            numbers.errors[message.code] += 1

    def answer(self, id: int, ok: Ok) -> None:
        """See `effects.Effects`."""
        packet = self.transport.encoder.encode_ok(id, ok)
        self.transport.write(packet)
        numbers = self._node.numbers
        numbers.messages_sent += 1
        numbers.sent_bytes += len(packet)

    def ping(self) -> None:
        """See `effects.Effects`."""
        self.transport.ping()

    def pause(self) -> None:
        """See `effects.Effects`."""
        self.transport.pause()

    def resume(self) -> None:
        """See `effects.Effects`."""
        self.transport.resume()

    def stop_reading(self) -> None:
        """See `effects.Effects`."""
        self.transport.stop_reading()

    def disconnect(self, code: CloseCode, reason: str) -> None:
        """See `effects.Effects`."""
        self._node.numbers.closed[int(code)] += 1
        self._end = (int(code), reason)
        if code is CloseCode.TOO_MANY or self._exceeded:
            self._log_too_many(code, reason)
        self._leave()
        self.transport.close(int(code), reason)

    def execute(self, pending: Pending, command: Command) -> None:
        """See `effects.Effects`."""
        try:
            reply = self._service.execute(self, command)
        except Exception as error:
            self._fail(pending, error)
            return
        if isinstance(reply, Answer):
            future, make_ok = reply.future, reply.make_ok
            if not future.done():
                future.add_done_callback(partial(self._finish, pending, make_ok))
            else:
                self._finish(pending, make_ok, future)
        elif isinstance(reply, Ok | Joined):
            self._succeed(pending, reply)
        else:
            self._spawn(reply).add_done_callback(partial(self._finish, pending, None))

    def _finish(
        self,
        pending: Pending,
        make_ok: Callable[[Any], Ok] | None,
        future: "asyncio.Future[Any]",
    ) -> None:
        """End a command with its outcome."""
        if future.cancelled():
            topic = _topic_of(pending)
            self._fail(pending, Unavailable("the server stopped before it was stored", topic=topic))
        elif (error := future.exception()) is not None:
            self._fail(pending, error)
        elif make_ok is None:
            self._succeed(pending, future.result())
        else:
            try:
                ok = make_ok(future.result())
            except Exception as fault:
                self._fail(pending, fault)
            else:
                self._succeed(pending, ok)

    def _succeed(self, pending: Pending, reply: Ok | Joined) -> None:
        kind, numbers = pending.command.__class__, self._node.numbers
        numbers.commands[kind, "ok"] = count = numbers.commands[kind, "ok"] + 1
        if kind is Publish and count % SAMPLED == 1:
            now = self._node.clock.monotonic()
            numbers.publish_seconds.observe(now - pending.began)
        if isinstance(reply, Joined):
            # Called right after the `ok`: no event comes before the `ok`, and none is missed.
            after = partial(self.enter, reply.ok.topic, reply.recovery)
            self._session.succeed(pending, reply.ok, after=after)
        else:
            self._session.succeed(pending, reply)

    def _fail(self, pending: Pending, error: BaseException) -> None:
        if not isinstance(error, ChatError):
            logger.error("a command failed", exc_info=error, extra={"connection": self.id})
            error = Internal(FAULT, topic=_topic_of(pending))
        self._node.numbers.commands[pending.command.__class__, error.code] += 1
        self._count_refused(error)
        if self._unwelcome:
            self._take_unwelcome(_topic_of(pending))
        kept_out = self.claims is None and isinstance(error, Unauthorized | Blocked)
        if kept_out and not self._session.closed:
            # Only `auth` runs without a token. A failed `auth` ends a connection without another
            # token.
            self._refuse(error)
            return
        self._session.fail(pending, error)

    def _count_refused(self, error: ChatError) -> None:
        count_refusal(self._node.numbers, error)
        if isinstance(error, Unauthorized):
            self._node.numbers.tokens_refused[refusal_kind(error)] += 1

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        # Every task has a context of its own; this context names the connection in the log.
        context = copy_context()
        context.run(CONNECTION.set, self.id)
        task = asyncio.get_running_loop().create_task(work, context=context)
        if self._tasks is None:
            self._tasks = set()
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def on_timer(self) -> None:
        """Let the session do its due work, and schedule the next call."""
        if self._slot is not None:
            self._node.timers.cancel(self.on_timer, self._slot)
            self._slot = None
        now = self._node.clock.monotonic()
        # While the client reads too slowly, the transport does not read from the client either.
        wait = self._session.tick(now, reading=self._slow_timer is None) - now
        if wait != math.inf:
            self._slot = self._node.timers.schedule(self.on_timer, wait)

    # Subscriber: calls of the service ------------------------------------------------------

    async def ready(self) -> None:
        """Wait until the client has read most of the write buffer."""
        while self._slow_timer is not None:
            self._drained = asyncio.get_running_loop().create_future()
            await self._drained

    def enter(self, topic: str, recovery: Recovery) -> None:
        """See `actor.Subscriber`."""
        if self._node.presence is not None:
            self._node.presence.enter(topic, self.transport)
        self._node.trail.subscribed(topic, self.transport, recovery.start, self.id, self.user)
        if self._node.hub.enter(self.transport, topic, recovery):
            self._replay()
        if self._unwelcome and (error := self._take_unwelcome(topic)) is not None:
            self.drop(topic, error)

    def _take_unwelcome(self, topic: str | None) -> ChatError | None:
        error = self._unwelcome.get(topic or "")
        if error is not None:
            self._unwelcome = {k: v for k, v in self._unwelcome.items() if k != topic}
        return error

    def _replay(self) -> None:
        """Start a task that replays the topics in which this connection lags."""
        if not self._gone and (self._replaying is None or self._replaying.done()):
            self._replaying = self._spawn(self._replay_topics())

    async def _replay_topics(self) -> None:
        try:
            topics = self._session.topics
            await self._node.hub.replay(self.transport, topics, self._read_page)
        except Exception:
            logger.exception("a replay failed")
            self._session.close(CloseCode.INTERNAL, FAULT)

    async def _read_page(self, topic: str, after: int) -> HistoryPage:
        """Read a page of a replay, in this user's turn and at this user's cost."""
        async with self._node.read_rates.turn(self.user) as reading:
            page = await self._node.hub.reads.read(topic, after)
            reading.charge(page.size)
        return page


def _topic_of(pending: Pending) -> str | None:
    return pending.command.topic if isinstance(pending.command, TopicCommand) else None
