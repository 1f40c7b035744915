"""The heart of the product under any sequence of trouble: nobody skips a seq without being told.

Clients of one worker publish, subscribe, resume, read slowly and leave, while the broker loses,
repeats and delays events, answers reads late or not at all, forgets history and whole topics. An
`Observer` follows every subscription as a client would; in the end, when the trouble is over, all
must stand where the store stands.
"""

import logging
from itertools import count
from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from chat_server.events import Position
from chat_server.protocol.codecs import JSON, MSGPACK
from chat_server.protocol.errors import Unavailable
from chat_server.realtime import hub as hub_module
from chat_server.realtime import topic as topic_module
from chat_server.sessions.connection import Connection

from ..rig.fake_transport import FakeEncoder, FakeTransport
from .observer import Observer
from .virtual import VirtualLoop
from .world import World, claims

TOPICS = ("room:a", "room:b")
CLIENTS = 4
WHICH = st.integers(0, CLIENTS - 1)
TOPIC = st.sampled_from(TOPICS)
ENCODERS = (FakeEncoder(JSON), FakeEncoder(MSGPACK))

NO_LIMITS = {
    "messages_per_second": 1e6,
    "message_burst": 10**6,
    "slow_timeout_seconds": 1e6,
    "max_replay": 20,
}


class Client(FakeTransport):
    """A connection, and what its user knows of each topic."""

    can_ping = False

    def __init__(self, number: int, world: World) -> None:
        super().__init__(ENCODERS[number % len(ENCODERS)])
        self.world = world
        self.observers: dict[str, Observer] = {}
        self.asked: dict[int, tuple[str, str]] = {}
        self.told_full = False
        self._ids = count(1)
        self._read = 0

    def _report_full(self) -> None:
        super()._report_full()
        self.told_full = not self.writable

    def drain(self, room: int | None = None) -> None:
        self.told_full = False
        super().drain(room)

    def fill(self) -> None:
        self.told_full = True
        super().fill()

    def write(self, packet: bytes) -> None:
        if self.told_full:
            kind = self.decode(packet)["type"]
            assert kind not in ("message", "gap", "signal"), "pushed to while it is full"
        super().write(packet)

    def decode(self, packet: bytes) -> Any:
        decode = msgspec.msgpack.decode if self.encoder.codec.binary else msgspec.json.decode
        return decode(packet)

    def ask(self, kind: str, topic: str, **fields: Any) -> None:
        id = next(self._ids)
        self.asked[id] = (kind, topic)
        self.say(type=kind, topic=topic, id=id, **fields)

    def look(self) -> None:
        """Read what has been written since the last look."""
        packets, self._read = self.written[self._read :], len(self.written)
        for packet in packets:
            self.take(packet)

    def take(self, packet: bytes) -> None:
        message = self.decode(packet)
        kind = message["type"]
        if kind in ("ok", "error"):
            asked, topic = self.asked.pop(message["id"])
            if kind == "ok" and asked == "subscribe":
                self.enter(topic, message)
            elif asked == "unsubscribe" and kind == "ok":
                del self.observers[topic]
            assert message.get("code") in (
                *(None, "unavailable"),
                *("already_subscribed", "not_subscribed"),
            )
        elif kind in ("message", "gap", "signal"):
            # Who is not subscribed has no observer, and must not be pushed to.
            if "at" in message:
                message["at"] = int(message["at"])  # a double in MessagePack
            self.observers[message["topic"]].take(message, msgspec.json.encode(message))
        else:
            assert kind == "welcome", message

    def enter(self, topic: str, ok: dict[str, Any]) -> None:
        assert topic not in self.observers
        assert ok["recovered"] or ok["replayed"] == 0
        start = Position(ok["epoch"], ok["seq"] - ok["replayed"])
        self.observers[topic] = Observer(start, self.world.broker.payloads)


class DeliveryMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualLoop()
        # A few events, so that subscribers fill up in the middle of what is written to them.
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(topic_module, "FLUSH_BYTES", 200)
        logging.disable(logging.WARNING)  # it is all about trouble
        self.world = self.loop.do(lambda: World(**NO_LIMITS))
        self.broker = self.world.broker
        self.broker.manual = True
        self.loop.run_until_complete(self.world.start())
        self.clients = [self.connect(number) for number in range(CLIENTS)]
        self.known: dict[str, list[Position]] = {topic: [Position("x", 1)] for topic in TOPICS}

    def connect(self, number: int) -> Client:
        client = Client(number, self.world)
        self.loop.do(lambda: self.world.connect(claims(), transport=client))
        return client

    # The loop ------------------------------------------------------------------------------------

    @rule(turns=st.integers(1, 4))
    def run(self, turns: int) -> None:
        self.loop.turn(turns)

    @rule()
    def pass_time(self) -> None:
        self.loop.advance(hub_module.RETRY_SECONDS)
        self.loop.turn()

    # Clients -------------------------------------------------------------------------------------

    @rule(which=WHICH, topic=TOPIC)
    def subscribe(self, which: int, topic: str) -> None:
        self.loop.do(lambda: self.clients[which].ask("subscribe", topic))

    @rule(which=WHICH, topic=TOPIC, last=st.integers(1, 5))
    def subscribe_last(self, which: int, topic: str, last: int) -> None:
        self.loop.do(lambda: self.clients[which].ask("subscribe", topic, last=last))

    @rule(which=WHICH, topic=TOPIC, data=st.data())
    def resume_one(self, which: int, topic: str, data: st.DataObject) -> None:
        self.resume(which, topic, data)

    def resume(self, which: int, topic: str, data: st.DataObject) -> None:
        since = data.draw(st.sampled_from(self.known[topic]))
        fields = {"epoch": since.epoch, "seq": since.seq}
        self.loop.do(lambda: self.clients[which].ask("subscribe", topic, since=fields))

    @rule(topic=TOPIC, data=st.data())
    def resume_all(self, topic: str, data: st.DataObject) -> None:
        """All come back at once, from wherever they were: they share what is read."""
        for which in range(CLIENTS):
            self.resume(which, topic, data)

    @rule(which=WHICH, topic=TOPIC)
    def unsubscribe(self, which: int, topic: str) -> None:
        self.loop.do(lambda: self.clients[which].ask("unsubscribe", topic))

    @rule(which=WHICH, topic=TOPIC)
    def publish(self, which: int, topic: str) -> None:
        self.loop.do(lambda: self.clients[which].ask("publish", topic, data=[which]))

    @rule(which=WHICH, topic=TOPIC)
    def signal(self, which: int, topic: str) -> None:
        self.loop.do(lambda: self.clients[which].ask("signal", topic, data=which))

    @rule(which=WHICH)
    def fill(self, which: int) -> None:
        if self.clients[which].writable:
            self.loop.do(self.clients[which].fill)

    @rule(which=WHICH, room=st.none() | st.integers(1, 4))
    def drain(self, which: int, room: int | None) -> None:
        if not self.clients[which].writable:
            self.loop.do(lambda: self.clients[which].drain(room))

    @rule(which=WHICH, abort=st.booleans())
    def leave(self, which: int, abort: bool) -> None:
        client = self.clients[which]
        client.look()
        connection = client.receiver
        if abort and isinstance(connection, Connection):
            self.loop.do(connection.abort)
            self.loop.turn()
        self.loop.do(client.lose)
        self.clients[which] = self.connect(which)

    # The broker ----------------------------------------------------------------------------------

    @rule(topic=TOPIC, events=st.integers(1, 25), keep=st.none() | st.integers(0, 3))
    def store(self, topic: str, events: int, keep: int | None) -> None:
        """Other workers publish."""
        for _ in range(events):
            self.loop.do(lambda: self.broker.store(topic, keep=keep))
        if not self.broker.available:
            self.broker.outbox.clear()

    @rule(events=st.integers(1, 30))
    def deliver(self, events: int) -> None:
        later = self.broker.outbox[events:]
        del self.broker.outbox[events:]
        self.loop.do(self.broker.deliver)
        self.broker.outbox.extend(later)

    @rule(place=st.integers(0, 50))
    def lose_event(self, place: int) -> None:
        if place < len(self.broker.outbox):
            del self.broker.outbox[place]

    @rule(place=st.integers(0, 50), again=st.integers(0, 50))
    def repeat_event(self, place: int, again: int) -> None:
        if place < len(self.broker.outbox):
            self.broker.outbox.insert(place + again, self.broker.outbox[place])

    @rule()
    def hold_reads(self) -> None:
        self.broker.reads.shut = True

    @rule(fail=st.booleans())
    def release_reads(self, fail: bool) -> None:
        self.broker.reads.release(Unavailable("busy") if fail else None)

    @rule()
    def allow_reads(self) -> None:
        self.broker.reads.open()

    @rule()
    def go_away(self) -> None:
        if self.broker.available:
            self.loop.do(self.broker.go_away)

    @rule()
    def come_back(self) -> None:
        if not self.broker.available:
            self.loop.do(self.broker.come_back)

    @rule(topic=TOPIC, lost=st.integers(1, 4))
    def fail_over(self, topic: str, lost: int) -> None:
        if not self.broker.available:
            self.broker.fail_over(topic, lost)

    @rule(topic=TOPIC, keep=st.integers(0, 5))
    def expire(self, topic: str, keep: int) -> None:
        self.broker.forget(topic, keep)

    @rule(topic=TOPIC)
    def wipe(self, topic: str) -> None:
        self.broker.wipe(topic)

    # What always holds ---------------------------------------------------------------------

    @invariant()
    def every_client_sees_what_it_was_promised(self) -> None:
        for client in self.clients:
            client.look()
            for topic, observer in client.observers.items():
                if observer.position not in self.known[topic]:
                    self.known[topic].append(observer.position)

    @invariant()
    def there_are_no_faults(self) -> None:
        assert self.loop.faults == []

    @invariant()
    def a_topic_is_subscribed_as_long_as_somebody_is_in_it(self) -> None:
        assert self.broker.subscribed <= set(self.world.node.hub._topics)

    # The end -----------------------------------------------------------------------------

    def teardown(self) -> None:
        try:
            self.settle()
            self.compare()
            for topic in TOPICS:
                self.loop.do(lambda topic=topic: self.broker.store(topic))  # type: ignore[misc]
            self.loop.turn(10)
            self.compare()
            self.loop.run_until_complete(self.world.stop())
        finally:
            logging.disable(logging.NOTSET)
            self.patch.undo()
            self.loop.close()

    def settle(self) -> None:
        """End the trouble: every loss is followed by the news that the broker is back."""
        self.loop.do(self.broker.deliver)
        self.broker.manual = False
        self.broker.reads.open()
        self.loop.turn(2)
        if self.broker.available:
            self.loop.do(self.broker.go_away)
        self.loop.do(self.broker.come_back)
        for client in self.clients:
            if not client.writable or client.room is not None:
                client.room = None
                self.loop.do(client.drain)
        for _ in range(10):
            self.loop.advance(hub_module.RETRY_SECONDS)
            self.loop.turn(30)

    def compare(self) -> None:
        """Check that all have arrived where the store is."""
        for client in self.clients:
            client.look()
            assert client.asked == {}, "not answered"
            for topic, observer in client.observers.items():
                stored = self.broker.topic(topic)
                assert observer.position == Position(stored.epoch, stored.seq)
        assert self.loop.faults == []


TestDelivery = DeliveryMachine.TestCase
TestDelivery.settings = settings(max_examples=100, stateful_step_count=60)
