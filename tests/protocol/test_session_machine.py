"""A session under any sequence of events, against a model of what its client may rely on.

The model knows the commands a client sent and what was done with them, not how the session works:
every one with an id is answered exactly once and in order, unless the connection closed.
"""

from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from chat_server.protocol.close_codes import CloseCode
from chat_server.protocol.command_table import State
from chat_server.protocol.commands import Auth, Command, Publish, Signal, Subscribe
from chat_server.protocol.effects import Pending
from chat_server.protocol.errors import Internal
from chat_server.protocol.session import MAX_EXTENSION_SECONDS, Session

from ..rig.fakes import RecordingEffects
from .harness import LIMITS, START, WELCOME, ok

TOPICS = st.sampled_from(["a", "b", "c", "d", "not ok"])
OVERLAPPING = Publish | Signal


class EveryTenth:
    """A rate limit that refuses some commands."""

    def __init__(self) -> None:
        self.count = 0

    def acquire(self, now: float, cost: float = 1.0) -> float:
        self.count += 1
        return 0.5 if self.count % 10 == 0 else 0.0

    def note_refusal(self, topic: str) -> None:
        pass


class SessionMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = START
        self.effects = RecordingEffects()
        self.effects.carry_out = self.execute
        self.session = Session(self.effects, LIMITS, self.effects.codec, EveryTenth(), START)
        self.expected: list[int] = []
        self.undone: list[tuple[Pending, Command]] = []
        self.synchronous = False
        self.pings = 0
        self.afters: list[int | None] = []
        self.expired_at = 0.0

    # What a client, the node and time do ---------------------------------------------------

    @rule(
        kind=st.sampled_from(["publish", "signal", "history", "ping", "auth", "nope"]),
        with_id=st.booleans(),
        topic=TOPICS,
    )
    def say(self, kind: str, with_id: bool, topic: str) -> None:
        if kind == "ping":
            self.ping(with_id)
        else:
            self.send({"type": kind, "topic": topic, "data": 1, "token": "t"}, with_id)

    @rule(topic=TOPICS, leave=st.booleans())
    def subscribe_or_leave(self, topic: str, leave: bool) -> None:
        self.send({"type": "unsubscribe" if leave else "subscribe", "topic": topic}, True)

    @rule(payload=st.sampled_from([b"", b"[]", b'{"type":', b"\xff"]))
    def babble(self, payload: bytes) -> None:
        self.session.receive(payload, binary=False, now=self.now)

    @rule(data=st.sampled_from([b'"\\ud83d"', b"NaN", b'{"__proto__":1}', b"1e999"]))
    def send_what_cannot_be_taken(self, data: bytes) -> None:
        strikes = list(self.session._strikes)
        id = len(self.expected) + 1
        if not self.session.closed:
            self.expected.append(id)
        frame = b'{"type":"publish","topic":"a","id":%d,"data":%s}' % (id, data)
        self.session.receive(frame, binary=False, now=self.now)
        assert self.session._strikes == strikes

    @rule(synchronous=st.booleans())
    def change_pace(self, synchronous: bool) -> None:
        self.synchronous = synchronous

    @precondition(lambda self: self.undone)
    @rule(data=st.data(), good=st.booleans())
    def finish(self, data: st.DataObject, good: bool) -> None:
        place = data.draw(st.integers(0, len(self.undone) - 1))
        self.complete(*self.undone.pop(place), good=good)

    @rule(seconds=st.sampled_from([0.0, 0.1, 5.0, 11.0, 40.0]), reading=st.booleans())
    def pass_time(self, seconds: float, reading: bool) -> None:
        self.now += seconds
        expired = self.session.state is State.EXPIRED
        unseen = not reading or "auth" in self.waiting_kinds
        due = self.session.tick(self.now, reading=reading)
        assert due >= self.now
        assert self.session.tick(self.now, reading=reading) == due, "a second look finds nothing"
        if expired and unseen and self.now < self.expired_at + MAX_EXTENSION_SECONDS:
            assert not self.session.closed, "a token may have come that nobody looked at"
        if not expired and self.session.state is State.EXPIRED:
            self.expired_at = self.now

    @property
    def waiting_kinds(self) -> set[str]:
        return {type(p.command).__name__.lower() for p in self.session._waiting}

    @rule()
    def show_life(self) -> None:
        self.session.touch(self.now)

    @rule(lifetime=st.sampled_from([None, 1.0, 30.0, -2.0]))
    def open(self, lifetime: float | None) -> None:
        self.session.open(WELCOME, lifetime, self.now)
        self.expired_at = self.now

    @rule(lose=st.booleans())
    @precondition(lambda self: self.now > START + 60)
    def end(self, lose: bool) -> None:
        if lose:
            self.session.abort()
        else:
            self.session.close(CloseCode.RESTART, "over")

    # How -----------------------------------------------------------------------------------

    def send(self, command: dict[str, Any], with_id: bool) -> None:
        if with_id:
            command["id"] = len(self.expected) + 1
        if not self.session.closed and with_id:
            self.expected.append(command["id"])
        self.session.receive(msgspec.json.encode(command), binary=False, now=self.now)

    def ping(self, with_id: bool) -> None:
        """A ping is answered before anything else happens, or refused in its turn."""
        self.pings += 1
        id = {"id": 10_000 + self.pings} if with_id else {}
        closed, before = self.session.closed, len(self.effects.sent)
        ping = msgspec.json.encode({"type": "ping", **id})
        self.session.receive(ping, binary=False, now=self.now)
        sent = self.effects.sent[before:]
        if sent == [{"type": "pong", **id}]:
            assert not closed
        elif with_id and not closed:
            assert all(message["type"] != "pong" for message in sent)
            self.expected.append(id["id"])

    def execute(self, pending: Pending, command: Command) -> None:
        assert self.session.state is not State.CLOSED
        assert self.session.state is State.OPEN or not isinstance(command, Publish | Subscribe)
        if not isinstance(command, OVERLAPPING | Auth):
            assert self.undone == [], "runs alone"
        assert all(isinstance(other, OVERLAPPING) for _, other in self.undone), "runs beside others"
        if self.synchronous:
            self.complete(pending, command, good=True)
        else:
            self.undone.append((pending, command))

    def complete(self, pending: Pending, command: Command, *, good: bool) -> None:
        if good and isinstance(command, Auth):
            self.session.open(WELCOME, 60.0, self.now)
        if good:
            self.session.succeed(pending, ok(), after=lambda: self.note_after(pending.id))
        else:
            self.session.fail(pending, Internal("no"))

    def note_after(self, id: int | None) -> None:
        assert id is None or self.answered[-1] == id
        self.afters.append(id)

    @property
    def answered(self) -> list[int]:
        return [
            message["id"]
            for message in self.effects.sent
            if message["type"] in ("ok", "error") and "id" in message
        ]

    # What always holds ---------------------------------------------------------------------

    @invariant()
    def answers_come_once_and_in_order(self) -> None:
        assert self.answered == self.expected[: len(self.answered)]

    @invariant()
    def nothing_done_is_kept_waiting(self) -> None:
        if not self.undone and not self.session.closed:
            assert self.answered == self.expected

    @invariant()
    def the_flow_follows_what_is_undone(self) -> None:
        flow = [name for name in self.effects.names if name in ("pause", "resume")]
        assert flow[::2] == ["pause"] * len(flow[::2])
        assert flow[1::2] == ["resume"] * len(flow[1::2])
        if not self.undone and not self.session.closed:
            assert flow[-1:] != ["pause"]

    @invariant()
    def the_end_is_the_end(self) -> None:
        names = self.effects.names
        if "disconnect" in names:
            assert names.index("disconnect") == len(names) - 1
            assert self.effects.sent[-1]["type"] == "goodbye"
        types = [message["type"] for message in self.effects.sent]
        assert types.count("goodbye") == names.count("disconnect")
        assert types.count("welcome") <= 1

    @invariant()
    def topics_stay_within_their_limit(self) -> None:
        assert len(self.session.topics) <= LIMITS.max_topics
        assert "not ok" not in self.session.topics


TestSession = SessionMachine.TestCase
TestSession.settings = settings(max_examples=100, stateful_step_count=50)
