"""One client's connection: carries out what its session decides, and feeds it what happens."""

import asyncio
import logging
import math
import random
import secrets
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, ClassVar

from ..auth.claims import Claims
from ..auth.tokens import Verifier
from ..events import PublishResult
from ..protocol.close_codes import CloseCode
from ..protocol.effects import Pending
from ..protocol.errors import ChatError, Internal, RateLimited, Unavailable
from ..protocol.messages import (
    Auth,
    ClientMessage,
    History,
    HistoryOk,
    Publish,
    PublishOk,
    ServerMessage,
    Signal,
    Subscribe,
    SubscribeOk,
    TopicOk,
    Unsubscribe,
)
from ..protocol.session import Rules, Session
from .authentication import Authenticated, Work
from .drain import RESTARTS
from .limits import ConnectionRate
from .node import Node
from .ports import Transport
from .recovery import Recovery

logger = logging.getLogger(__name__)

HEARTBEAT_JITTER = 0.1
"""Part of the heartbeat's period by which connections differ, so that pings spread out."""


class Connection(Authenticated):
    """Joins a transport, a session and the node.

    Args:
        node: the worker's.
        verifier: checks tokens that come by `auth`.
        transport: the client's; its receiver is this object.
        address: where the client comes from, for limits.
    """

    def __init__(self, node: Node, verifier: Verifier, transport: Transport, address: str) -> None:
        self.id = secrets.token_hex(8)
        super().__init__(node, verifier, transport)
        self._address = address
        self._codec = transport.encoder.codec
        self._tasks: set[asyncio.Task[None]] = set()
        self._slot: int | None = None
        self._slow_timer: asyncio.TimerHandle | None = None
        self._replaying: asyncio.Task[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._gone = False
        now = node.clock.monotonic()
        limits = node.settings.limits
        self._rate = ConnectionRate(node.messages, limits.messages_per_second, limits.message_burst)
        self._session = Session(
            self,
            self._rules(),
            self._codec,
            self._rate,
            now,
        )

    def _rules(self) -> Rules:
        gateway, limits = self._node.settings.gateway, self._node.settings.limits
        jitter = 1 + HEARTBEAT_JITTER * random.uniform(-1, 1)  # noqa: S311 - spreads load
        return Rules(
            auth_timeout_seconds=gateway.auth_timeout_seconds,
            heartbeat_seconds=gateway.heartbeat_seconds * jitter
            if self._transport.can_ping
            else None,
            pong_timeout_seconds=gateway.pong_timeout_seconds,
            refresh_grace_seconds=gateway.refresh_grace_seconds,
            max_topics=limits.max_topics,
            max_pending_commands=limits.max_pending_commands,
        )

    def start(self, claims: Claims | None, refusal: ChatError | None = None) -> None:
        """Begin: with a verified token, with a refusal of it, or waiting for `auth`."""
        registry = self._node.registry
        full = len(registry) >= self._node.settings.limits.max_connections
        registry.add(self)
        if full:
            self._address = ""
            self._session.close(
                CloseCode.OVERLOADED, "this server has as many connections as it may"
            )
            return
        try:
            registry.add_address(self, self._address)
        except RateLimited as error:
            self._address = ""
            self._session.close(CloseCode.TOO_MANY, error.message)
            return
        if refusal is not None:
            self._refuse(refusal)
        elif claims is not None:
            self._open(claims)
        drain = self._node.drain
        if drain.begun:
            # Even so it is welcomed: to a client that is a connection lost, not one refused.
            self.close(CloseCode.RESTART, RESTARTS, drain.reconnect_in_ms())
        self.on_timer()

    def close(self, code: CloseCode, reason: str, reconnect_in_ms: int) -> None:
        """Say goodbye and close once commands are answered; see `registry.Client`."""
        self._session.dismiss(code, reason, reconnect_in_ms)

    def abort(self) -> None:
        """Drop the connection at once; see `registry.Client`."""
        self._session.lost()
        self._transport.abort()

    # Receiver: what the transport tells ----------------------------------------------------

    def on_message(self, payload: bytes, *, binary: bool) -> None:
        """See `ports.Receiver`."""
        self._session.receive(payload, binary=binary, now=self._node.clock.monotonic())

    def on_sign_of_life(self) -> None:
        """See `ports.Receiver`."""
        self._session.heard_frame(self._node.clock.monotonic())

    def on_full(self) -> None:
        """See `ports.Receiver`."""
        if self._gone or self._slow_timer is not None:
            return
        self._node.hub.lag(self._transport, self._session.topics)
        timeout = self._node.settings.limits.slow_timeout_seconds
        self._slow_timer = asyncio.get_running_loop().call_later(timeout, self._too_slow)

    def on_drained(self) -> None:
        """See `ports.Receiver`."""
        if self._slow_timer is not None:
            self._slow_timer.cancel()
            self._slow_timer = None
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._session.heard(self._node.clock.monotonic())
        self._replay()

    def on_hang_up(self) -> None:
        """See `ports.Receiver`."""
        self._session.hang_up()

    def on_closed(self) -> None:
        """See `ports.Receiver`."""
        self._session.lost()
        self._let_go()
        self._node.registry.remove(self, user=self._user, address=self._address)

    def _too_slow(self) -> None:
        self._session.close(CloseCode.TOO_SLOW, "the client reads too slowly")

    def _let_go(self) -> None:
        """Leave every topic and end what was under way; publications go on without us."""
        if self._gone:
            return
        self._gone = True
        if self._slot is not None:
            self._node.timers.cancel(self.on_timer, self._slot)
        if self._slow_timer is not None:
            self._slow_timer.cancel()
        for topic in self._session.topics:
            self._node.hub.leave(self._transport, topic)
        for task in self._tasks:
            task.cancel()

    # Effects: what the session asks for ----------------------------------------------------

    def send(self, message: ServerMessage) -> None:
        """See `session.Effects`."""
        self._transport.write(self._transport.encoder.encode_reply(message))

    def ping(self) -> None:
        """See `session.Effects`."""
        self._transport.ping()

    def pause(self) -> None:
        """See `session.Effects`."""
        self._transport.pause()

    def resume(self) -> None:
        """See `session.Effects`."""
        self._transport.resume()

    def stop_reading(self) -> None:
        """See `session.Effects`."""
        self._transport.stop_reading()

    def disconnect(self, code: CloseCode, reason: str) -> None:
        """See `session.Effects`."""
        self._let_go()
        self._transport.close(int(code), reason)

    def execute(self, pending: Pending, command: ClientMessage) -> None:
        """See `session.Effects`."""
        try:
            self._handlers[type(command)](self, pending, command)
        except ChatError as error:
            self._session.fail(pending, error)
        except Exception:
            self._session.fail(pending, self._internal())

    def _internal(self) -> Internal:
        logger.exception("connection %s: a command failed", self.id)
        return Internal("something went wrong; it has been logged")

    def _run(self, pending: Pending, command: ClientMessage, work: Work) -> None:
        """Run the part of a command that has to wait; it ends with the connection."""
        self._spawn(self._guard(pending, command, work))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _guard(self, pending: Pending, command: ClientMessage, work: Work) -> None:
        # The task may be cancelled before it begins, so the work must not be a coroutine already.
        try:
            await work(pending, command)
        except ChatError as error:
            self._session.fail(pending, error)
        except Exception:
            self._session.fail(pending, self._internal())

    def on_timer(self) -> None:
        """Do what is due, and plan the next call."""
        if self._slot is not None:
            self._node.timers.cancel(self.on_timer, self._slot)
            self._slot = None
        now = self._node.clock.monotonic()
        # The transport of a client that reads too slowly does not read from it either.
        wait = self._session.tick(now, reading=self._slow_timer is None) - now
        if wait != math.inf:
            self._slot = self._node.timers.schedule(self.on_timer, wait)

    # Topics --------------------------------------------------------------------------------

    def _subscribe(self, pending: Pending, command: Subscribe) -> None:
        self._require("subscribe", command.topic)
        if command.last is not None:
            self._require("history", command.topic)
        if command.since is None and command.last is None:
            recovery = self._node.hub.join_now(self._transport, command.topic)
            if recovery is not None:
                self._subscribed(pending, command.topic, recovery)
                return
        self._run(pending, command, self._subscribe_later)

    async def _subscribe_later(self, pending: Pending, command: Subscribe) -> None:
        topic, since, last = command.topic, command.since, command.last
        resumes = since is not None or last is not None
        if resumes:
            await self._limit_replays(topic)
        not_before = 0.0
        if not self._may("history", topic):
            not_before = self._node.clock.time() - self._node.settings.limits.resume_seconds
        recovery = await self._node.hub.join(self._transport, topic, since, last, not_before)
        if resumes:
            self._node.replays.owe(self._user, self._node.clock.monotonic(), recovery.replayed)
            self._charge(recovery.page.size)
        self._subscribed(pending, topic, recovery)

    async def _limit_replays(self, topic: str) -> None:
        """Let every topic be resumed at once, but not again and again: each costs some 20 ms."""
        now = self._node.clock.monotonic()
        try:
            self._node.replays.take(self._user, now, what="too many events were replayed")
            await self._node.reads.begin(self._user, now)
        except RateLimited as error:
            error.topic = topic
            raise

    def _charge(self, size: int) -> None:
        """Count bytes that were read for this user."""
        self._node.reads.charge(self._user, self._node.clock.monotonic(), size)

    def _subscribed(self, pending: Pending, topic: str, recovery: Recovery) -> None:
        ok = SubscribeOk(
            topic=topic,
            epoch=recovery.position.epoch,
            seq=recovery.position.seq,
            recovered=recovery.recovered,
            replayed=recovery.replayed,
            reason=recovery.reason,
        )
        self._session.succeed(pending, ok, after=partial(self._enter, topic, recovery))

    def _enter(self, topic: str, recovery: Recovery) -> None:
        if self._node.hub.enter(self._transport, topic, recovery):
            self._replay()

    def _replay(self) -> None:
        """See to it that topics in which this connection lags are replayed."""
        if not self._gone and (self._replaying is None or self._replaying.done()):
            self._replaying = self._spawn(self._replay_topics())

    async def _replay_topics(self) -> None:
        try:
            topics = self._session.topics
            await self._node.hub.replay(self._transport, topics, self._charge)
        except Exception:
            logger.exception("connection %s: a replay failed", self.id)
            self._session.close(CloseCode.INTERNAL, "something went wrong; it has been logged")

    def _unsubscribe(self, pending: Pending, command: Unsubscribe) -> None:
        self._node.hub.leave(self._transport, command.topic)
        self._session.succeed(pending, TopicOk(topic=command.topic))

    def _publish(self, pending: Pending, command: Publish) -> None:
        self._require("publish", command.topic)
        future = self._node.publish(command.topic, bytes(command.data), self._sender, command.key)
        if future.done():
            self._published(pending, command.topic, future)
        else:
            future.add_done_callback(partial(self._published, pending, command.topic))

    def _published(
        self, pending: Pending, topic: str, future: "asyncio.Future[PublishResult]"
    ) -> None:
        if (error := _failure(future, topic)) is not None:
            self._session.fail(pending, error)
            return
        at = future.result()
        ok = PublishOk(topic=topic, seq=at.seq, epoch=at.epoch, at=at.at, duplicate=at.duplicate)
        self._session.succeed(pending, ok)

    def _signal(self, pending: Pending, command: Signal) -> None:
        self._require("publish", command.topic)
        future = self._node.signal(command.topic, bytes(command.data), self._sender)
        future.add_done_callback(partial(self._signalled, pending, command.topic))

    def _signalled(self, pending: Pending, topic: str, future: "asyncio.Future[None]") -> None:
        if (error := _failure(future, topic)) is not None:
            self._session.fail(pending, error)
        else:
            self._session.succeed(pending, TopicOk(topic=topic))

    def _history(self, pending: Pending, command: History) -> None:
        self._require("history", command.topic)
        self._run(pending, command, self._history_later)

    async def _history_later(self, pending: Pending, command: History) -> None:
        while self._slow_timer is not None:
            # Else the answers to all commands that wait would pile up, megabytes each.
            self._drained = asyncio.get_running_loop().create_future()
            await self._drained
        topic, before, after = command.topic, command.before, command.after
        now = self._node.clock.monotonic()
        await self._node.reads.begin(self._user, now)
        page, messages = await self._node.history(
            topic, self._codec, before=before, after=after, limit=command.limit
        )
        self._charge(page.size)
        ok = HistoryOk(topic=topic, epoch=page.epoch, messages=messages, more=page.more)
        self._session.succeed(pending, ok)

    _handlers: ClassVar[dict[type, Callable[["Connection", Pending, Any], None]]] = {
        Auth: Authenticated._auth,
        Subscribe: _subscribe,
        Unsubscribe: _unsubscribe,
        Publish: _publish,
        Signal: _signal,
        History: _history,
    }


def _failure(future: "asyncio.Future[Any]", topic: str) -> ChatError | None:
    if future.cancelled():
        return Unavailable("the server stopped before it was stored", topic=topic)
    error = future.exception()
    if error is None:
        return None
    if isinstance(error, ChatError):
        return error
    logger.error("a publication failed", exc_info=error)
    return Internal("something went wrong; it has been logged", topic=topic)
