"""Random histories: the memory broker against a trivial model, Redis against the memory broker."""

import asyncio
import itertools
from typing import Any, NamedTuple

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chat_server.broker.memory import UNUSED_SECONDS, MemoryBroker
from chat_server.broker.redis.broker import RedisBroker
from chat_server.events import HistoryPage, Retention
from chat_server.realtime.ports import Broker
from chat_server.settings import BrokerSettings

from ..rig.clock import ManualClock
from ..rig.redis_server import RedisServer, patient
from .helpers import Recorder, draft

POSITION_SECONDS = 100.0
IDEMPOTENCY_SECONDS = 5.0


class Publish(NamedTuple):
    topic: str
    key: str | None
    size: int
    seconds: float


class Read(NamedTuple):
    topic: str
    after: int
    before: int | None
    limit: int
    newest: bool


class Pass(NamedTuple):
    seconds: float


topics = st.sampled_from(["room:a", "room:b"])
publishes = st.builds(
    Publish,
    topics,
    st.sampled_from([None, "k", "l"]),
    st.sampled_from([0, 2, 5]),
    st.sampled_from([3.0, 20.0]),
)
reads = st.builds(
    Read,
    topics,
    st.integers(0, 12),
    st.none() | st.integers(0, 14),
    st.integers(0, 6),
    st.booleans(),
)
passes = st.builds(Pass, st.sampled_from([1.0, 4.0, 30.0, 200.0]))


class Entry(NamedTuple):
    seq: int
    text: str


class Model:
    """The contract, spelt out with lists and no thought of cost."""

    def __init__(self) -> None:
        self.now = 0.0
        self.epoch: dict[str, int] = {}
        self.until: dict[str, float] = {}
        self.seq: dict[str, int] = {}
        self.events: dict[str, list[Entry]] = {}
        self.events_until: dict[str, float] = {}
        self.keys: dict[tuple[str, str], tuple[float, int, int]] = {}
        self._epochs = itertools.count()

    def _position(self, topic: str) -> None:
        held = topic == "room:a" and self.seq.get(topic) == 0  # by a subscription
        if self.until.get(topic, -1.0) <= self.now and not held:
            self.epoch[topic] = next(self._epochs)
            self.until[topic] = self.now + min(POSITION_SECONDS, UNUSED_SECONDS)
            self.seq[topic], self.events[topic] = 0, []
        if self.events_until.get(topic, -1.0) <= self.now:
            self.events[topic] = []

    def publish(self, command: Publish, text: str) -> tuple[int, int, bool]:
        topic, key = command.topic, command.key
        if key is not None:
            until, epoch, seq = self.keys.get((topic, key), (-1.0, 0, 0))
            if until > self.now:
                return epoch, seq, True
        self._position(topic)
        self.seq[topic] += 1
        self.until[topic] = self.now + POSITION_SECONDS
        entry = Entry(self.seq[topic], text)
        kept = [*self.events[topic], entry][-command.size :] if command.size else []
        self.events[topic] = kept
        self.events_until[topic] = self.now + command.seconds
        if key is not None:
            self.keys[topic, key] = (self.now + IDEMPOTENCY_SECONDS, self.epoch[topic], entry.seq)
        return self.epoch[topic], entry.seq, False

    def read(self, command: Read) -> tuple[int, int, list[int], bool]:
        topic = command.topic
        self._position(topic)
        before = command.before if command.before is not None else 2**53
        found = [entry.seq for entry in self.events[topic] if command.after < entry.seq < before]
        limit = command.limit
        part = (found[-limit:] if command.newest else found[:limit]) if limit else []
        more = limit > 0 and len(found) > limit
        return self.epoch[topic], self.seq[topic], part, more


class Names:
    """Numbers epochs in the order in which they are first seen."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def __call__(self, epoch: str) -> int:
        return self._numbers.setdefault(epoch, len(self._numbers))


async def run(broker: Broker, command: Any, text: str, names: Names) -> Any:
    """Do one command and return what can be compared between brokers."""
    if isinstance(command, Publish):
        place = await broker.publish(
            draft(
                text,
                topic=command.topic,
                key=command.key,
                retention=Retention(command.size, command.seconds),
            )
        )
        return names(place.epoch), place.seq, place.duplicate
    page: HistoryPage = await broker.history(
        command.topic,
        after=command.after,
        before=command.before,
        limit=command.limit,
        newest=command.newest,
    )
    events = [event.seq for event in page.events]
    return names(page.epoch), page.seq, events, page.more


@given(st.lists(publishes | publishes | reads | passes, max_size=40))
def test_memory_does_what_the_model_does(commands: list[Any]) -> None:
    async def check() -> None:
        clock, model, names = ManualClock(), Model(), Names()
        settings = BrokerSettings(
            position_seconds=POSITION_SECONDS, idempotency_seconds=IDEMPOTENCY_SECONDS
        )
        broker, recorder = MemoryBroker(settings, clock), Recorder()
        await broker.start(recorder)
        await broker.subscribe("room:a")
        heard = 0
        for number, command in enumerate(commands):
            text = str(number)
            if isinstance(command, Pass):
                clock.advance(command.seconds)
                model.now += command.seconds
            elif isinstance(command, Publish):
                expected = model.publish(command, text)
                heard += command.topic == "room:a" and not expected[2]
                assert await run(broker, command, text, names) == expected
            else:
                assert await run(broker, command, text, names) == model.read(command)
        await asyncio.sleep(0)
        assert len(recorder.events) == heard
        await broker.stop()

    asyncio.run(check())


# The server outlives the examples on purpose: each has a prefix of its own.
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(publishes | reads, max_size=30))
def test_redis_does_what_memory_does(redis_server: RedisServer, commands: list[Any]) -> None:
    async def check() -> None:
        settings = BrokerSettings()
        memory: Broker = MemoryBroker(settings, ManualClock())
        prefix = f"model-{next(_examples)}"
        redis: Broker = RedisBroker(patient(redis_server.url, prefix=prefix), settings)
        for broker in (memory, redis):
            await broker.start(Recorder())
        names = Names(), Names()
        try:
            for number, command in enumerate(commands):
                # Time stands still in one of them, so nothing may expire in the other.
                if isinstance(command, Publish):
                    command = command._replace(seconds=3_600.0)
                results = [
                    await run(broker, command, str(number), name)
                    for broker, name in zip((memory, redis), names, strict=True)
                ]
                assert results[0] == results[1]
        finally:
            await redis.stop()

    asyncio.run(check())


_examples = itertools.count()
