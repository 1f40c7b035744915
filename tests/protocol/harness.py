"""A session whose effects are recorded and whose time is told by the test."""

from collections.abc import Callable
from typing import Any

import msgspec

from chat_server.protocol.codecs import JSON, Codec
from chat_server.protocol.command_table import State
from chat_server.protocol.effects import Pending, RateLimit
from chat_server.protocol.errors import ChatError
from chat_server.protocol.messages import Limits, Ok, TopicOk, Welcome
from chat_server.protocol.session import Session, SessionLimits

from ..rig.fakes import RecordingEffects

START = 1_000.0

LIMITS = SessionLimits(
    auth_timeout_seconds=10.0,
    heartbeat_seconds=25.0,
    pong_timeout_seconds=10.0,
    refresh_grace_seconds=20.0,
    max_topics=3,
    max_pending_commands=8,
)

WELCOME = Welcome(
    session="s",
    user="alice",
    server="here",
    heartbeat_seconds=25.0,
    limits=Limits(65536, 3, 8, 50.0, 100, 300.0),
)


class Unlimited:
    """Takes every command."""

    def acquire(self, now: float, cost: float = 1.0) -> float:
        return 0.0

    def note_refusal(self, topic: str) -> None:
        pass


class Harness:
    """A session with its effects.

    Args:
        state: where it stands at the start.
        topics: what it is subscribed to.
    """

    def __init__(
        self,
        state: State = State.OPEN,
        *,
        codec: Codec = JSON,
        limits: SessionLimits = LIMITS,
        rate_limit: RateLimit | None = None,
        topics: tuple[str, ...] = (),
    ) -> None:
        self.now = START
        self.codec = codec
        self.effects = RecordingEffects(codec)
        self.session = Session(self.effects, limits, codec, rate_limit or Unlimited(), START)
        self.session.topics.update(topics)
        if state is State.CLOSED:
            self.session.abort()
        elif state is not State.AUTHENTICATING:
            self.session.open(WELCOME, 0.0 if state is State.EXPIRED else None, START)
            self.session.tick(START)
        assert self.session.state is state
        self.effects.calls.clear()
        self.effects.sent.clear()

    @property
    def sent(self) -> list[dict[str, Any]]:
        return self.effects.sent

    @property
    def codes(self) -> list[str]:
        """The codes of the errors sent."""
        return [message["code"] for message in self.sent if message["type"] == "error"]

    @property
    def executed(self) -> list[int | None]:
        """The ids of the commands executed."""
        return [pending.id for pending, _ in self.effects.executed]

    @property
    def answered(self) -> list[int | None]:
        """The ids of what was answered."""
        return [m.get("id") for m in self.sent if m["type"] in ("ok", "error", "pong")]

    def say(self, **command: Any) -> None:
        encode = msgspec.msgpack.encode if self.codec.binary else msgspec.json.encode
        self.raw(encode(command), binary=self.codec.binary)

    def raw(self, payload: bytes, *, binary: bool = False) -> None:
        self.session.receive(payload, binary=binary, now=self.now)

    def publish(self, *ids: int) -> None:
        for id in ids:
            self.say(type="publish", topic="a", data=id, id=id)

    def history(self, *ids: int) -> None:
        """Send commands that run alone."""
        for id in ids:
            self.say(type="history", topic="a", id=id)

    def pending(self, id: int | None) -> Pending:
        """Return the latest executed command with this id."""
        return next(p for p, _ in reversed(self.effects.executed) if p.id == id)

    def succeed(self, *ids: int | None, after: Callable[[], None] | None = None) -> None:
        for id in ids:
            self.session.succeed(self.pending(id), ok(), after=after)

    def fail(self, id: int | None, error: ChatError) -> None:
        self.session.fail(self.pending(id), error)

    def pass_time(self, seconds: float) -> float:
        """Let time pass, telling the session at the end, and return how long it wants to wait."""
        self.now += seconds
        return self.session.tick(self.now) - self.now


def ok() -> Ok:
    return TopicOk(topic="a")
