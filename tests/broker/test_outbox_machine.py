"""The spool under any sequence of trouble: what is acknowledged is stored once, and in order."""

import logging
from asyncio import Future
from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from chat_server.broker.outbox import ENTRY_BYTES, TICK_SECONDS, Outbox
from chat_server.events import PublishResult
from chat_server.protocol.errors import Rejected, Unavailable
from chat_server.settings import BrokerSettings, Namespace, Settings

from ..realtime.virtual import VirtualLoop
from .helpers import Recorder, draft
from .scripted import ScriptedBroker

TOPICS = ("room:a", "tiny:a")
LIMITS = {"room": 8, "tiny": 2}
SECONDS = 20.0
MAX_BYTES = 12 * ENTRY_BYTES
SETTINGS = Settings(
    broker=BrokerSettings(max_pending=4, spool_bytes=MAX_BYTES, spool_seconds=SECONDS),
    namespaces={name: Namespace(spool_messages=limit) for name, limit in LIMITS.items()},
)


@dataclass
class Call:
    """A publication as its publisher sees it."""

    topic: str
    tail: bytes
    keyed: bool
    future: "Future[PublishResult]"
    called_at: float
    ended_at: float | None = None


class SpoolMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        logging.disable(logging.WARNING)
        self.loop = VirtualLoop()
        self.store = ScriptedBroker(limit=6)
        self.spool = self.loop.do(lambda: Outbox(self.store, SETTINGS))
        self.loop.do(self.spool.start)
        self.loop.run_until_complete(self.store.start(Recorder()))
        self.calls: list[Call] = []
        self.overtaken: set[bytes] = set()

    @rule(
        topic=st.sampled_from(TOPICS),
        key=st.sampled_from([None, None, None, "3:ada:k"]),
        size=st.sampled_from([0, 0, 0, 2 * ENTRY_BYTES]),
        count=st.integers(1, 4),
    )
    def publish(self, topic: str, key: str | None, size: int, count: int) -> None:
        for _ in range(count):
            self.publish_one(topic, key, size)

    def publish_one(self, topic: str, key: str | None, size: int) -> None:
        made = draft(f"{len(self.calls)}:{'x' * size}", topic=topic, key=key)
        future = self.loop.do(lambda: self.spool.publish(made))
        call = Call(topic, made.tail, key is not None, future, self.loop.time())
        future.add_done_callback(lambda _: setattr(call, "ended_at", self.loop.time()))
        self.calls.append(call)

    @rule(which=st.integers(0, 1_000))
    def give_up(self, which: int) -> None:
        if self.calls:
            self.loop.do(self.calls[which % len(self.calls)].future.cancel)

    @rule(turns=st.integers(1, 3))
    def run(self, turns: int) -> None:
        self.loop.turn(turns)

    @rule(seconds=st.sampled_from([TICK_SECONDS, TICK_SECONDS, 1.0, SECONDS / 2]))
    def pass_time(self, seconds: float) -> None:
        self.loop.advance(seconds)
        self.loop.turn()

    @rule(count=st.integers(1, 6))
    def answer(self, count: int) -> None:
        self.loop.do(lambda: self.store.answer(count))

    @rule()
    def refuse(self) -> None:
        if self.store.inbox:
            self.loop.do(self.store.refuse)

    @rule(stored=st.integers(0, 3))
    def stumble(self, stored: int) -> None:
        if self.store.inbox:
            self.overtaken.add(self.loop.do(lambda: self.store.stumble(stored)).tail)

    @rule(stored=st.integers(0, 6))
    def cut(self, stored: int) -> None:
        self.loop.do(lambda: self.store.cut(stored))

    @rule(stored=st.integers(0, 6))
    def lose(self, stored: int) -> None:
        if self.store.available:
            self.loop.do(lambda: self.store.lose(stored))

    @rule()
    def restore(self) -> None:
        if not self.store.available:
            self.loop.do(self.store.come_back)

    @rule(which=st.integers(0, 9), count=st.integers(1, 4))
    def arrive(self, which: int, count: int) -> None:
        if self.store.late:
            self.store.arrive(which, count)

    @invariant()
    def bounds(self) -> None:
        assert 0 <= self.spool.spooled <= sum(LIMITS.values())
        assert self.spool.spooled * ENTRY_BYTES <= MAX_BYTES
        assert self.loop.faults == []

    @invariant()
    def nothing_is_stored_twice(self) -> None:
        for topic in TOPICS:
            texts = self.store.texts(topic)
            assert len(texts) == len(set(texts))

    def teardown(self) -> None:
        try:
            self.settle()
            self.check()
        finally:
            self.loop.do(self.spool.stop)
            self.loop.run_until_complete(self.store.stop())
            logging.disable(logging.NOTSET)
            self.loop.close()

    def settle(self) -> None:
        """End the trouble and wait until all is answered."""
        self.loop.turn(2)
        self.restore()
        for _ in range(200):
            if self.spool.spooled == 0 and not self.store.inbox:
                break
            self.loop.do(self.store.answer)
            self.loop.advance(TICK_SECONDS / 100)
            self.loop.turn()
            if not self.store.inbox:
                self.loop.advance(TICK_SECONDS)
                self.loop.turn()
        while self.store.late:
            self.store.arrive(0, 1_000)
            self.store.late.pop(0)
        self.loop.turn(2)
        assert self.loop.faults == []

    def check(self) -> None:
        assert (self.spool.spooled, self.store.inbox) == (0, [])
        self.nothing_is_stored_twice()
        newest: dict[str, int] = {}
        for call in self.calls:
            assert call.future.done()
            if call.future.cancelled():
                continue
            error = call.future.exception()
            if error is not None:
                assert isinstance(error, Unavailable)
                self.check_failure(call, error)
                continue
            place = call.future.result()
            if place.duplicate:
                assert call.keyed, "a key of our own is a matter of our own"
                continue
            stored = self.store.texts(call.topic)
            assert stored[place.seq - 1] == call.tail, "acknowledged where it is not"
            assert place.seq > newest.get(call.topic, 0), "out of order"
            newest[call.topic] = place.seq

    def check_failure(self, call: Call, error: Unavailable) -> None:
        """Fail unless there was a reason to give up a publication."""
        if "the spool is full" in error.message or isinstance(error, Rejected):
            return
        assert call.ended_at is not None
        waited = call.ended_at - call.called_at
        assert waited >= SECONDS or call.tail in self.overtaken, f"given up after {waited}"


SpoolMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=50)
TestSpool = SpoolMachine.TestCase
