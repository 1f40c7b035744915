"""One connection's state machine: which commands are taken when, in what order they are answered.

It does no I/O and reads no clock. What comes in is passed to `receive`, `succeed`, `fail` and
`tick`; what must happen is asked of the `Effects` it was given, synchronously.

Commands run one after another, so that each sees what the one before it did; publications and
signals, which do not depend on each other's outcome, may overlap. Answers leave in the order of the
commands either way.
"""

import math
from collections.abc import Callable
from enum import Enum, auto

from msgspec import Struct

from .close_codes import CloseCode
from .codecs import Codec
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
)
from .messages import (
    Auth,
    ClientMessage,
    Error,
    Goodbye,
    History,
    Ok,
    Ping,
    Pong,
    Subscribe,
    Unsubscribe,
    Welcome,
)
from .topics import check_topic

STRIKES = 10
STRIKE_WINDOW_SECONDS = 60.0
MAX_REJECTED = 1000
"""Rate-limited commands after which the client is taken to ignore `retry_in_ms`; large ones count
as they do for the rate."""

BYTES_PER_COUNT = 4096
"""A message counts once more for each so many bytes: looking at 64 KiB may take 30 ms."""

HELD_SECONDS = 120.0
"""By how much the time for a new token is prolonged at most, while the server does not read what
the client sent or does not get to it. By default publications outlast half as long an outage."""

FORGIVEN = 10
"""How many of them one that keeps the rate makes up for: at 100 times the rate, one in 100 does."""


class State(Enum):
    """Where a connection stands; the order is that of its life."""

    AUTHENTICATING = auto()
    OPEN = auto()
    EXPIRED = auto()
    CLOSED = auto()


class Rules(Struct, frozen=True, kw_only=True):
    """The limits and times a session holds its client to."""

    auth_timeout_seconds: float
    heartbeat_seconds: float | None
    pong_timeout_seconds: float
    refresh_grace_seconds: float
    max_topics: int
    max_pending_commands: int


class Session:
    """The state of one connection.

    Args:
        effects: carries out what the session decides.
        rules: limits and times.
        codec: the connection's encoding.
        rate_limit: the connection's own.
        now: seconds on the clock that every later `now` is read from.
    """

    def __init__(
        self, effects: Effects, rules: Rules, codec: Codec, rate_limit: RateLimit, now: float
    ) -> None:
        self.state = State.AUTHENTICATING
        self.topics: set[str] = set()
        self._effects = effects
        self._rules = rules
        self._codec = codec
        self._rate_limit = rate_limit
        # Lists, because both are short and an idle connection is to cost little memory.
        self._waiting: list[Pending] = []
        self._running: list[Pending] = []
        self._advancing = False
        self._paused = False
        self._hanging_up = False
        self._farewell: tuple[CloseCode, str, int] | None = None
        self._strikes: list[float] = []
        self._rejected = 0
        # A client that comes back subscribes to all of its topics at once.
        self._free_subscriptions = rules.max_topics
        self._state_deadline = now + rules.auth_timeout_seconds
        self._heard_at = now
        self._pinged_at: float | None = None
        # Whether a token may have come, since the last one expired, that was not looked at yet.
        self._held = False
        self._held_until = math.inf

    @property
    def closed(self) -> bool:
        """Whether nothing more can come of this session."""
        return self.state is State.CLOSED

    # What comes in -------------------------------------------------------------------------

    def open(self, welcome: Welcome, expires_in: float | None, now: float) -> None:
        """Take a verified token: the first opens the session, later ones prolong it.

        Args:
            welcome: sent if this is the first.
            expires_in: seconds until the token expires, or None if it never does.
            now: seconds.
        """
        if self.closed:
            return
        if self.state is State.AUTHENTICATING:
            self._effects.send(welcome)
        self.state = State.OPEN
        self._state_deadline = math.inf if expires_in is None else now + expires_in

    def receive(self, payload: bytes, *, binary: bool, now: float) -> None:
        """Take one WebSocket message."""
        if self.closed or self._hanging_up:
            return
        self.heard(now)
        if binary is not self._codec.binary:
            kind = "binary" if self._codec.binary else "text"
            self.close(
                CloseCode.WRONG_FRAME_KIND, f"{self._codec.subprotocol} uses {kind} messages"
            )
            return
        pending = self._read(payload, now)
        if not self.closed:
            self._waiting.append(pending)
            self._advance()

    def heard(self, now: float) -> None:
        """Note a sign of life from the client."""
        self._heard_at = now
        self._pinged_at = None

    def heard_frame(self, now: float) -> None:
        """Take a frame that is no message, a ping say: there may be no more than messages."""
        self.heard(now)
        if not self.closed:
            self._take_rate(now)

    def succeed(self, pending: Pending, ok: Ok, *, after: Callable[[], None] | None = None) -> None:
        """End a command well; `after` runs right behind its answer, before anything else."""
        pending.done = True
        pending.after = after
        if pending.id is not None:
            ok.id = pending.id
            pending.reply = ok
        self._advance()

    def fail(self, pending: Pending, error: ChatError) -> None:
        """End a command with an error."""
        if isinstance(pending.command, Subscribe):
            self.topics.discard(pending.command.topic)
        self._settle(pending, error)
        self._advance()

    def tick(self, now: float, *, reading: bool = True) -> float:
        """Do what is due and return when something will be next, on the same clock.

        Args:
            now: seconds.
            reading: whether what the client sends is read, as far as the session does not know.
        """
        held = self._paused or not reading or bool(self._waiting)
        self._held = self._held or held
        if not self.closed and now >= self._state_deadline:
            self._expire(now, held)
        if self._paused or self._farewell is not None or not reading:
            # A client that is not read cannot be found silent.
            self.heard(now)
        due = min(self._state_deadline, self._heartbeat(now))
        return math.inf if self.closed else due

    def close(self, code: CloseCode, reason: str, *, reconnect_in_ms: int = 0) -> None:
        """Say goodbye and close, unless that has happened."""
        if self.closed:
            return
        effects = self._effects
        effects.send(Goodbye(code=int(code), reason=reason, reconnect_in_ms=reconnect_in_ms))
        self.lost()
        effects.disconnect(code, reason)

    def dismiss(self, code: CloseCode, reason: str, reconnect_in_ms: int) -> None:
        """Close once everything that was read from the client is answered."""
        if self.closed or self._farewell is not None:
            return
        self._farewell = (code, reason, reconnect_in_ms)
        self._effects.stop_reading()

    def hang_up(self) -> None:
        """Note that nothing more comes from the client; what came is still carried out."""
        self._hanging_up = True
        self._advance()

    def lost(self) -> None:
        """Note that the connection is gone."""
        self.state = State.CLOSED
        self._waiting.clear()
        self._running.clear()
        # Nothing is asked of it any more, and it refers back to us: that circle would need the
        # garbage collector.
        self.__dict__.pop("_effects", None)

    def drop_topic(self, topic: str, error: ChatError) -> None:
        """End a subscription that may not go on, and tell the client with an error of no `id`."""
        if self.closed:
            return
        self.topics.discard(topic)
        error.topic = topic
        self._effects.send(_error_message(None, error))

    # What it means -------------------------------------------------------------------------

    def _read(self, payload: bytes, now: float) -> Pending:
        """Decode one message; what cannot be carried out comes with its answer."""
        wait = 0.0
        if not self._is_free(payload):
            wait = self._take_rate(now, 1 + len(payload) // BYTES_PER_COUNT)
        # The data of what is not carried out is not worth the time that looking at it takes.
        carried_out = not wait and self.state is not State.AUTHENTICATING
        try:
            command = self._codec.decode(payload, check_data=carried_out)
            pending = Pending(command.id, command)
        except BadRequest as error:
            if isinstance(error, Malformed):
                self._strike(now)
            pending = Pending(error.id, None)
            self._settle(pending, error)
        if wait:
            pending = Pending(pending.id, None)
            retry_in_ms = math.ceil(wait * 1000)
            message = "too many commands in too short a time"
            self._settle(pending, RateLimited(message, retry_in_ms=retry_in_ms))
        return pending

    def _is_free(self, payload: bytes) -> bool:
        """Return whether this is one of the first `max_topics` subscriptions of the connection."""
        small = len(payload) < BYTES_PER_COUNT
        if not (self._free_subscriptions and small and b"subscribe" in payload):
            return False
        try:
            free = isinstance(self._codec.decode(payload, check_data=False), Subscribe)
        except BadRequest:
            return False
        self._free_subscriptions -= free
        return free

    def _take_rate(self, now: float, cost: int = 1) -> float:
        """Return the seconds this message comes too early; close if that has no effect."""
        wait = self._rate_limit.take(now, cost)
        # A large message that is refused has been read, and looked at for its id, all the same.
        self._rejected = self._rejected + cost if wait else max(self._rejected - FORGIVEN * cost, 0)
        if self._rejected >= MAX_REJECTED:
            self.close(CloseCode.TOO_MANY, "retry_in_ms was ignored")
        return wait

    def _strike(self, now: float) -> None:
        """Count a message that is no command, and close if it was one too many."""
        self._strikes = [*self._strikes[1 - STRIKES :], now]
        if len(self._strikes) == STRIKES and now - self._strikes[0] <= STRIKE_WINDOW_SECONDS:
            self.close(CloseCode.PROTOCOL_VIOLATION, f"{STRIKES} messages could not be parsed")

    # The order of commands -----------------------------------------------------------------

    def _advance(self) -> None:
        """Answer what is done and start what may run, until neither is left."""
        if self._advancing:
            return  # the loop below sees whatever an effect completed synchronously
        self._advancing = True
        try:
            while not self.closed:
                if self._running and self._running[0].done:
                    self._answer(self._running.pop(0))
                elif self._waiting and self._may_start(self._waiting[0]):
                    self._running.append(self._waiting.pop(0))
                    self._start(self._running[-1])
                else:
                    break
        finally:
            self._advancing = False
        self._control_flow()

    def _may_start(self, pending: Pending) -> bool:
        # Whatever runs beside others overlaps, so the last one speaks for all.
        return not self._running or (pending.may_join and self._running[-1].overlaps)

    def _start(self, pending: Pending) -> None:
        command = pending.command
        if command is None or pending.done:
            return
        if isinstance(command, Ping):
            pending.done = True
            pending.reply = Pong(id=command.id) if command.id is not None else Pong()
            return
        try:
            self._admit(command)
        except ChatError as error:
            self._settle(pending, error)
        else:
            self._effects.execute(pending, command)

    def _answer(self, pending: Pending) -> None:
        if pending.reply is not None:
            self._effects.send(pending.reply)
        if pending.after is not None:
            pending.after()

    def _control_flow(self) -> None:
        undone = len(self._waiting) + len(self._running)
        if self.closed:
            return
        if self._hanging_up and not undone:
            self._part()
        elif not self._paused and undone >= self._rules.max_pending_commands:
            self._paused = self._held = True
            self._effects.pause()
        elif self._paused and undone <= self._rules.max_pending_commands // 2:
            self._paused = False
            self._effects.resume()

    def _part(self) -> None:
        """Close: because the client was dismissed, or else because it has closed."""
        if self._farewell is not None:
            code, reason, reconnect_in_ms = self._farewell
            self.close(code, reason, reconnect_in_ms=reconnect_in_ms)
            return
        effects = self._effects
        self.lost()
        effects.disconnect(CloseCode.NORMAL, "")

    def _settle(self, pending: Pending, error: ChatError) -> None:
        pending.done = True
        pending.reply = _error_message(pending.id, error)

    # What is allowed -----------------------------------------------------------------------

    def _admit(self, command: ClientMessage) -> None:
        if isinstance(command, Auth | Ping):
            return
        if self.state is State.AUTHENTICATING:
            raise Unauthorized("send auth with a token first")
        if not isinstance(command, Unsubscribe) and self.state is State.EXPIRED:
            raise Unauthorized("the token has expired; send auth with a new one")
        topic = check_topic(command.topic)
        if isinstance(command, Subscribe):
            self._admit_subscription(command)
        elif isinstance(command, Unsubscribe):
            if topic not in self.topics:
                raise NotSubscribed("topic: is not subscribed", topic=topic)
            self.topics.discard(topic)
        elif isinstance(command, History) and not (command.before is None or command.after is None):
            raise BadRequest("before, after: only one of them may be given", topic=topic)

    def _admit_subscription(self, command: Subscribe) -> None:
        topic = command.topic
        if topic in self.topics:
            raise AlreadySubscribed("topic: is already subscribed", topic=topic)
        if len(self.topics) >= self._rules.max_topics:
            raise TooManyTopics(
                f"topic: at most {self._rules.max_topics} may be subscribed", topic=topic
            )
        if command.since is not None and command.last is not None:
            raise BadRequest("since, last: only one of them may be given", topic=topic)
        self.topics.add(topic)

    # Deadlines -----------------------------------------------------------------------------

    def _expire(self, now: float, held: bool) -> None:
        if self.state is State.OPEN:
            grace = self._rules.refresh_grace_seconds
            self.state = State.EXPIRED
            self._state_deadline = now + grace
            self._held, self._held_until = held, now + grace + HELD_SECONDS
            notice = Unauthorized(f"the token has expired; send auth within {grace:g} s")
            self._effects.send(_error_message(None, notice))
        elif self.state is State.EXPIRED and self._held and now < self._held_until:
            self._held = held
            self._state_deadline = now + max(self._rules.refresh_grace_seconds, 1.0)
        elif self.state is State.EXPIRED:
            self.close(CloseCode.UNAUTHORIZED, "the token has expired")
        else:
            self.close(CloseCode.TIMEOUT, "no auth came in time")

    def _heartbeat(self, now: float) -> float:
        if self.closed or self._rules.heartbeat_seconds is None:
            return math.inf
        if self._pinged_at is not None:
            due = self._pinged_at + self._rules.pong_timeout_seconds
            if now >= due:
                self.close(CloseCode.TIMEOUT, "no pong came in time")
            return due
        due = self._heard_at + self._rules.heartbeat_seconds
        if now < due:
            return due
        self._pinged_at = now
        self._effects.ping()
        return now + self._rules.pong_timeout_seconds


def _error_message(id: int | None, error: ChatError) -> Error:
    return Error(
        id=id,
        code=error.code,
        message=error.message,
        topic=error.topic,
        retry_in_ms=error.retry_in_ms,
    )
