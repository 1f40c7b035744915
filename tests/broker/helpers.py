"""What the broker tests share: a listener that remembers, drafts, and stores to run against."""

import asyncio
import itertools
import json
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import msgspec

from chat_server.broker.memory import MemoryBroker
from chat_server.broker.redis.broker import RedisBroker
from chat_server.broker.redis.cluster import ClusterBroker
from chat_server.broker.redis.connection import RedisConnection
from chat_server.events import Draft, Event, Kind, Retention
from chat_server.realtime.ports import Broker
from chat_server.settings import BrokerSettings, RedisSettings

from ..rig.clock import ManualClock
from ..rig.waiting import SECONDS

TOPIC = "room:lobby"
FOREVER = Retention(1_000, 3_600.0)


class Recorder:
    """A listener that keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.batches = 0
        self.losses = 0
        self.returns = 0
        self.lost: list[list[str] | None] = []
        self.restored: list[list[str] | None] = []

    def on_events(self, events: Sequence[Event]) -> None:
        assert events
        self.events += events
        self.batches += 1

    def on_lost(self, topics: Iterable[str] | None = None) -> None:
        self.losses += 1
        self.lost.append(None if topics is None else sorted(topics))

    def on_restored(self, topics: Iterable[str] | None = None) -> None:
        self.returns += 1
        self.restored.append(None if topics is None else sorted(topics))

    def seqs(self, topic: str = TOPIC) -> list[int]:
        return [event.seq for event in self.events if event.topic == topic]

    async def wait_for(self, count: int) -> list[Event]:
        await until(lambda: len(self.events) >= count)
        return self.events


Run = Callable[[Broker], Awaitable[tuple[Any, Recorder]]]
"""Starts a broker, and returns it and what it tells."""


class Store:
    """Somewhere to keep events, and the brokers that a test runs over it."""

    def __init__(
        self, name: str, connect: Callable[[], RedisConnection] | None = None, url: str = ""
    ) -> None:
        self.name = name
        self.clock = ManualClock()
        self._connect = connect
        self._url = url
        self._prefix = f"test-{next(_numbers)}"
        self._brokers: list[Broker] = []

    def make(self, *, timeout: float = 15.0, connections: int = 8, **settings: Any) -> Broker:
        """Return a broker that has not been started; it is stopped after the test."""
        broker = BrokerSettings(**settings)
        made: Broker
        if self.name == "memory":
            made = MemoryBroker(broker, self.clock)
        else:
            redis = RedisSettings(
                url=self._url,
                prefix=self._prefix,
                timeout_seconds=timeout,
                max_connections=connections,
            )
            if self.name == "cluster":
                made = ClusterBroker(redis, broker)
            else:
                made = RedisBroker(redis, broker, connect=self._connect)
        self._brokers.append(made)
        return made

    async def start(self, **settings: Any) -> tuple[Broker, Recorder]:
        """Return a broker and what it tells."""
        broker, recorder = self.make(**settings), Recorder()
        await broker.start(recorder)
        return broker, recorder

    async def elapse(self, seconds: float) -> None:
        """Let time pass in the store, where it is real if the store is."""
        if self.name == "memory":
            self.clock.advance(seconds)
        else:
            await asyncio.sleep(seconds)

    async def stop(self) -> None:
        """Stop every broker, also those stopped before."""
        for broker in self._brokers:
            await broker.stop()


def draft(
    text: str = "hello",
    *,
    topic: str = TOPIC,
    key: str | None = None,
    kind: Kind = Kind.MESSAGE,
    retention: Retention = FOREVER,
) -> Draft:
    """Return a draft whose payload is a small JSON object."""
    head = b'{"type":"message","topic":%s,"seq":' % msgspec.json.encode(topic)
    tail = b',"from":null,"data":%s}' % msgspec.json.encode(text)
    return Draft(topic=topic, kind=kind, head=head, tail=tail, retention=retention, key=key)


def text_of(event: Event) -> str:
    """Return what `draft` was given."""
    text: str = json.loads(event.payload)["data"]
    return text


async def until(condition: Callable[[], bool], seconds: float = SECONDS) -> None:
    """Wait for `condition` to become true.

    Raises:
        AssertionError: it did not.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        await asyncio.sleep(0.002)


async def until_status(broker: Broker, word: str, seconds: float = SECONDS) -> None:
    """Wait for `/health` to say this word of a broker."""
    deadline = time.monotonic() + seconds
    while (status := (await broker.health(ping=False)).status) != word:
        assert time.monotonic() < deadline, f"it is {status}"
        await asyncio.sleep(0.002)


_numbers = itertools.count()
