"""One connection's state machine: accepts commands by state, and answers them in order.

A session does no I/O and reads no clock. Input arrives by `receive`, `succeed`, `fail` and `tick`.
The session calls its `Effects` synchronously for every action.

Commands run one after another, so that each sees the effects of the one before. Commands that do
not depend on each other, such as publications, may overlap, as the table in `command_table` says.
Answers leave in the order of the commands either way.
"""

import math
from collections.abc import Callable

from msgspec import Struct

from .close_codes import CloseCode
from .codecs import Codec
from .command_table import ALONE, State
from .commands import Command, TopicCommand
from .effects import Effects, Pending, RateLimit
from .errors import (
    AlreadySubscribed,
    BadRequest,
    ChatError,
    Malformed,
    NotSubscribed,
    RateLimited,
    TooManyTopics,
    Unauthorized,
    Unrecoverable,
)
from .messages import Error, Goodbye, Ok, Welcome
from .topics import check_topic

STRIKES = 10
"""Number of unparseable messages within `STRIKE_WINDOW_SECONDS` that closes the connection."""

STRIKE_WINDOW_SECONDS = 60.0
"""Seconds for which a strike counts."""

MAX_REJECTED = 1000
"""Rate-limited commands after which a client is assumed to ignore `retry_in_ms`.

A large command counts several times, as for the rate.
"""

BYTES_PER_COUNT = 4096
"""Bytes of a message per additional count against the rate: to parse 64 KiB may take 30 ms."""

MAX_EXTENSION_SECONDS = 120.0
"""Maximum seconds by which the wait for a new token is prolonged.

The wait is prolonged while the server does not read the client's messages, or lets commands wait.
By default publications survive an outage of half that time.
"""

FORGIVEN = 10
"""Rejections cancelled by each accepted command.

At 100 × the rate one command in 100 is accepted, so the count still grows; at 5 × it does not.
"""


class SessionLimits(Struct, frozen=True, kw_only=True):
    """The limits and times of a session."""

    auth_timeout_seconds: float
    heartbeat_seconds: float | None
    pong_timeout_seconds: float
    refresh_grace_seconds: float
    max_topics: int
    max_pending_commands: int


class Session:
    """The state of one connection.

    Args:
        effects: carries out the session's decisions.
        limits: the limits and times of the session.
        codec: the connection's encoding, and the table of commands.
        rate_limit: the connection's own rate limit.
        now: seconds on the clock of every later `now`.

    Attributes:
        state: the stage of the session's life.
        topics: the topics of subscriptions, with pending ones.
    """

    def __init__(
        self,
        effects: Effects,
        limits: SessionLimits,
        codec: Codec,
        rate_limit: RateLimit,
        now: float,
    ) -> None:
        self.state = State.AUTHENTICATING
        self.topics: set[str] = set()
        self._effects = effects
        self._limits = limits
        self._codec = codec
        self._rate_limit = rate_limit
        # Lists, because both are short and an idle connection must cost little memory.
        self._waiting: list[Pending] = []
        self._running: list[Pending] = []
        # True while `_advance` runs: an effect that completes a command calls it again.
        self._advancing = False
        # True while the transport does not read because too many commands are pending.
        self._paused = False
        # True once the client sends no more messages.
        self._remote_closed = False
        # Code, reason and reconnect_in_ms of a close that waits for the commands under way.
        self._pending_close: tuple[CloseCode, str, int] | None = None
        self._strikes: list[float] = []
        self._rejected = 0
        # A client that reconnects subscribes to all of its topics at once.
        self._free_subscriptions = limits.max_topics
        # The time when the present state ends by itself.
        self._state_deadline = now + limits.auth_timeout_seconds
        self._heard_at = now
        self._pinged_at: float | None = None
        # True if commands have waited unread since the token expired; one of them may be `auth`.
        self._unread = False
        self._extend_until = math.inf

    @property
    def closed(self) -> bool:
        """Whether the session has ended."""
        return self.state is State.CLOSED

    # Input ---------------------------------------------------------------------------------

    def open(self, welcome: Welcome, expires_in: float | None, now: float) -> None:
        """Accept a verified token: the first token opens the session, later tokens prolong it.

        Args:
            welcome: sent if this is the first token.
            expires_in: seconds until the token expires, or None for a token without expiry.
            now: seconds.
        """
        if self.closed:
            return
        if self.state is State.AUTHENTICATING:
            self._effects.send(welcome)
        self.state = State.OPEN
        self._state_deadline = math.inf if expires_in is None else now + expires_in

    def hold(self) -> Pending:
        """Make every command wait until the returned one has ended, by `succeed` or `fail`."""
        pending = Pending(None, None, ALONE)
        self._running.append(pending)
        return pending

    def receive(self, payload: bytes, *, binary: bool, now: float) -> None:
        """Process one WebSocket message."""
        if self.state is State.CLOSED or self._remote_closed:
            return
        self._heard_at, self._pinged_at = now, None
        if binary is not self._codec.binary:
            kind = "binary" if self._codec.binary else "text"
            self.close(
                CloseCode.WRONG_FRAME_KIND, f"{self._codec.subprotocol} uses {kind} messages"
            )
            return
        pending = self._read(payload, now)
        pending.began = now
        if not self.closed:
            if (pushes := pending.row.pushes) is None:
                self._waiting.append(pending)
                self._advance()
            else:
                # The pong overtakes waiting answers: late answers are why a client sends `ping`.
                id = pending.id
                self._effects.send(pushes() if id is None else pushes(id=id))

    def touch(self, now: float) -> None:
        """Record a sign of life from the client."""
        self._heard_at = now
        self._pinged_at = None

    def count_control_frame(self, now: float) -> None:
        """Count a control frame, which is also a sign of life, against the rate limit."""
        self.touch(now)
        if not self.closed:
            wait = self._rate_limit.acquire(now)
            if wait:
                self._rate_limit.note_refusal("")
            self._count_rejected(wait, 1)

    def succeed(self, pending: Pending, ok: Ok, *, after: Callable[[], None] | None = None) -> None:
        """Answer a command that has succeeded.

        Args:
            pending: the command.
            ok: sent if the command has an id.
            after: called right after the answer, before any other message can be sent.
        """
        pending.done = True
        pending.after = after
        if pending.id is not None:
            pending.reply = ok
        if not self._advancing:
            self._advance()

    def fail(self, pending: Pending, error: ChatError) -> None:
        """End a command with an error."""
        if pending.row.joins and isinstance(pending.command, TopicCommand):
            self.topics.discard(pending.command.topic)
        _fail_now(pending, error)
        self._advance()

    def tick(self, now: float, *, reading: bool = True) -> float:
        """Do the due work and return the time of the next work, on the same clock.

        Args:
            now: seconds.
            reading: False while the transport does not read; silence then proves nothing.
        """
        unread = self._paused or not reading or bool(self._waiting)
        self._unread = self._unread or unread
        if not self.closed and now >= self._state_deadline:
            self._expire(now, unread)
        if self._paused or self._pending_close is not None or not reading:
            # The server does not read this client, so silence proves nothing.
            self.touch(now)
        due = min(self._state_deadline, self._heartbeat(now))
        return math.inf if self.closed else due

    def close(self, code: CloseCode, reason: str, *, reconnect_in_ms: int = 0) -> None:
        """Send a goodbye and close, unless the session is closed already."""
        if self.closed:
            return
        effects = self._effects
        effects.send(Goodbye(code=int(code), reason=reason, reconnect_in_ms=reconnect_in_ms))
        self.abort()
        effects.disconnect(code, reason)

    def close_gracefully(self, code: CloseCode, reason: str, reconnect_in_ms: int) -> None:
        """Close once every message that was read from the client is answered."""
        if self.closed or self._pending_close is not None:
            return
        self._pending_close = (code, reason, reconnect_in_ms)
        self._effects.stop_reading()

    def on_remote_close(self) -> None:
        """Note that the client sends no more messages; earlier messages are still handled."""
        self._remote_closed = True
        self._advance()

    def abort(self) -> None:
        """End the session without a message: the connection is gone."""
        self.state = State.CLOSED
        self._waiting.clear()
        self._running.clear()
        self._release()

    def _release(self) -> None:
        """Break the reference cycle through the effects: see server/gc_policy.py."""
        self.__dict__.pop("_effects", None)

    def is_joining(self, topic: str) -> bool:
        """Return whether a command that subscribes to a topic is under way."""
        return any(
            pending.row.joins
            and isinstance(pending.command, TopicCommand)
            and pending.command.topic == topic
            for pending in self._running
        )

    def drop_topic(self, topic: str, error: ChatError) -> None:
        """End a subscription without permission; the client gets an error without an `id`."""
        if self.closed:
            return
        self.topics.discard(topic)
        error.topic = topic
        self._effects.send(_error_message(None, error))

    # Messages ------------------------------------------------------------------------------

    def _read(self, payload: bytes, now: float) -> Pending:
        """Decode one message; a message that cannot run already has its answer."""
        if self._free_subscriptions and b"subscribe" in payload and len(payload) < BYTES_PER_COUNT:
            command = self._free_subscription(payload)
            if command is not None:
                return Pending(command.id, command, self._codec.commands[command.__class__])
        cost = 1 + len(payload) // BYTES_PER_COUNT
        wait = self._rate_limit.acquire(now, cost)
        if wait or self._rejected:
            self._count_rejected(wait, cost)
        # To check the data of a command that is refused anyway is not worth the time.
        check_data = not wait and self.state is not State.AUTHENTICATING
        try:
            command = self._codec.decode(payload, check_data=check_data)
        except BadRequest as error:
            if isinstance(error, Malformed):
                self._strike(now)
            pending = Pending(error.id, None)
            _fail_now(pending, error)
        else:
            pending = Pending(command.id, command, self._codec.commands[command.__class__])
        if wait:
            topic = pending.command.topic if isinstance(pending.command, TopicCommand) else ""
            self._rate_limit.note_refusal(topic)
            pending = Pending(pending.id, None)
            retry_in_ms = math.ceil(wait * 1000)
            message = "too many commands in too short a time"
            _fail_now(pending, RateLimited(message, retry_in_ms=retry_in_ms))
        return pending

    def _free_subscription(self, payload: bytes) -> Command | None:
        """Return one of the connection's first `max_topics` subscriptions, exempt from the rate."""
        try:
            command = self._codec.decode(payload, check_data=False)
        except BadRequest:
            return None
        row = self._codec.commands[command.__class__]
        if not row.joins or row.has_data:
            return None
        self._free_subscriptions -= 1
        return command

    def _count_rejected(self, wait: float, cost: int) -> None:
        """Count a refused message, and close after too many; an accepted message forgives some."""
        # A refused large message was still read, and searched for its `id`, so it counts by its
        # cost.
        if wait:
            self._rejected += cost
            if self._rejected >= MAX_REJECTED:
                self.close(CloseCode.TOO_MANY, "retry_in_ms was ignored")
        elif self._rejected:
            self._rejected = max(self._rejected - FORGIVEN * cost, 0)

    def _strike(self, now: float) -> None:
        """Count a message that is no command, and close after too many."""
        self._strikes = [*self._strikes[1 - STRIKES :], now]
        if len(self._strikes) == STRIKES and now - self._strikes[0] <= STRIKE_WINDOW_SECONDS:
            self.close(CloseCode.PROTOCOL_VIOLATION, f"{STRIKES} messages could not be parsed")

    # The order of commands -----------------------------------------------------------------

    def _advance(self) -> None:
        """Answer commands that are done and start commands that may run, until neither is left."""
        if self._advancing:
            return  # the loop below sees every command that an effect completes synchronously
        self._advancing = True
        waiting, running = self._waiting, self._running
        try:
            while self.state is not State.CLOSED:
                if running and running[0].done:
                    self._answer(running.pop(0))
                elif waiting and (not running or self._may_join(waiting[0])):
                    pending = waiting.pop(0)
                    running.append(pending)
                    self._start(pending)
                else:
                    break
        finally:
            self._advancing = False
        if (
            self._paused
            or self._remote_closed
            or len(waiting) + len(running) >= self._limits.max_pending_commands
        ):
            self._control_flow()

    def _may_join(self, pending: Pending) -> bool:
        """Return whether a command may start beside the running commands."""
        row = pending.row
        # All commands that run beside others overlap, so one check of the last command suffices.
        return (row.overlaps or row.overtakes) and self._running[-1].row.overlaps

    def _start(self, pending: Pending) -> None:
        command = pending.command
        if command is None:
            return
        row = pending.row
        try:
            if self.state not in row.states:
                raise _unauthorized(self.state)
            if row.joins or row.leaves:
                self._change_topics(pending, command)
        except ChatError as error:
            _fail_now(pending, error)
        else:
            self._effects.execute(pending, command)

    def _answer(self, pending: Pending) -> None:
        reply = pending.reply
        if isinstance(reply, Ok):
            assert pending.id is not None  # noqa: S101 - without an id there is no ok
            self._effects.answer(pending.id, reply)
        elif reply is not None:
            self._effects.send(reply)
        if pending.after is not None:
            pending.after()

    def _control_flow(self) -> None:
        undone = len(self._waiting) + len(self._running)
        if self.state is State.CLOSED:
            return
        if self._remote_closed and not undone:
            self._finish()
        elif not self._paused and undone >= self._limits.max_pending_commands:
            self._paused = self._unread = True
            self._effects.pause()
        elif self._paused and undone <= self._limits.max_pending_commands // 2:
            self._paused = False
            self._effects.resume()

    def _finish(self) -> None:
        """Close with the reason of `close_gracefully`, or normally if the client has closed."""
        if self._pending_close is not None:
            code, reason, reconnect_in_ms = self._pending_close
            self.close(code, reason, reconnect_in_ms=reconnect_in_ms)
            return
        effects = self._effects
        self.abort()
        effects.disconnect(CloseCode.NORMAL, "")

    # Topics --------------------------------------------------------------------------------

    def _change_topics(self, pending: Pending, command: Command) -> None:
        """Add a command's topic to the subscriptions, or remove the topic."""
        assert isinstance(command, TopicCommand)  # noqa: S101 - these rows have one
        topic = check_topic(command.topic)
        if pending.row.leaves:
            if topic not in self.topics:
                raise NotSubscribed("topic: is not subscribed", topic=topic)
            self.topics.discard(topic)
            return
        if topic in self.topics:
            raise AlreadySubscribed("topic: is already subscribed", topic=topic)
        if len(self.topics) >= self._limits.max_topics:
            raise TooManyTopics(
                f"topic: at most {self._limits.max_topics} may be subscribed", topic=topic
            )
        self.topics.add(topic)

    # Deadlines -----------------------------------------------------------------------------

    def _expire(self, now: float, unread: bool) -> None:
        if self.state is State.OPEN:
            grace = self._limits.refresh_grace_seconds
            self.state = State.EXPIRED
            self._state_deadline = now + grace
            self._unread, self._extend_until = unread, now + grace + MAX_EXTENSION_SECONDS
            notice = Unauthorized(f"the token has expired; send auth within {grace:g} s")
            self._effects.send(_error_message(None, notice))
        elif self.state is State.EXPIRED and self._unread and now < self._extend_until:
            self._unread = unread
            self._state_deadline = now + max(self._limits.refresh_grace_seconds, 1.0)
        elif self.state is State.EXPIRED:
            self.close(CloseCode.UNAUTHORIZED, "the token has expired")
        else:
            self.close(CloseCode.TIMEOUT, "no auth came in time")

    def _heartbeat(self, now: float) -> float:
        if self.closed or self._limits.heartbeat_seconds is None:
            return math.inf
        if self._pinged_at is not None:
            due = self._pinged_at + self._limits.pong_timeout_seconds
            if now >= due:
                self.close(CloseCode.TIMEOUT, "no pong came in time")
            return due
        due = self._heard_at + self._limits.heartbeat_seconds
        if now < due:
            return due
        self._pinged_at = now
        self._effects.ping()
        return now + self._limits.pong_timeout_seconds


def _fail_now(pending: Pending, error: ChatError) -> None:
    """Mark a command as failed, before it runs or afterwards."""
    pending.done = True
    pending.reply = _error_message(pending.id, error)


def _unauthorized(state: State) -> Unauthorized:
    if state is State.AUTHENTICATING:
        return Unauthorized("send auth with a token first")
    return Unauthorized("the token has expired; send auth with a new one")


def _error_message(id: int | None, error: ChatError) -> Error:
    message = Error(
        id=id,
        code=error.code,
        message=error.message,
        topic=error.topic,
        retry_in_ms=error.retry_in_ms,
    )
    if isinstance(error, Unrecoverable):
        message.reason, message.epoch, message.seq = error.reason, error.epoch, error.seq
    return message
