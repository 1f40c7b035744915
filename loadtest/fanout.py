"""Fan-out: one topic, many subscribers, messages at a fixed rate."""

import math
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection

from msgspec import Struct

from . import publisher, subscribers
from .histogram import Histogram
from .processes import Workers, messages
from .publisher import Published, PublisherPlan, Started
from .report import Latency, Report
from .server import cpu_seconds
from .subscribers import Expect, Progress, Received, SubscribersPlan

CONNECT_SECONDS = 120.0
DRAIN_SECONDS = 10.0
"""How long after the last answer the last delivery may come."""

PUBLISHES_PER_CONNECTION = 25.0
"""Messages a second on one publishing connection, half of what the default limit allows."""


class FanoutPlan(Struct, frozen=True, kw_only=True):
    """What to do.

    Args:
        url: the server's WebSocket endpoint.
        server_pid: the server's process, to tell what a delivery costs it.
        mint: makes a token for a user.
        processes: over how many the subscribers are spread.
        rate: messages a second.
        seconds: for how long.
        payload_bytes: how long the JSON text of each message's `data` is.
    """

    url: str
    server_pid: int | None
    mint: Callable[[str], str]
    topic: str
    subscribers: int
    processes: int
    rate: float
    seconds: float
    payload_bytes: int


def run(plan: FanoutPlan, tell: Callable[[str], None]) -> Report:
    """Run the scenario, telling how far it is about once a second.

    Raises:
        LoadError: it cannot be carried out.
    """
    begin = time.monotonic()
    with Workers() as workers:
        pipes = [workers.start(subscribers.main, part) for part in _parts(plan)]
        fleet = _Fleet(pipes, tell)
        fleet.await_connected(plan.subscribers)
        connect_seconds = time.monotonic() - begin

        cpu_before = cpu_seconds(plan.server_pid)
        pipe = workers.start(publisher.main, _publisher_plan(plan))
        started, published = fleet.await_published(pipe, plan.seconds)
        received = fleet.await_received(published.acknowledged)
        cpu = cpu_seconds(plan.server_pid) - cpu_before
    return _report(plan, connect_seconds, started, published, received, cpu)


class _Fleet:
    """All subscriber processes, and how far they are."""

    def __init__(self, pipes: list[Connection], tell: Callable[[str], None]) -> None:
        self._pipes = pipes
        self._tell = tell
        self._progress = dict.fromkeys(pipes, Progress(connected=0, deliveries=0))
        self._told_at = time.monotonic()
        self._told_deliveries = 0

    def await_connected(self, wanted: int) -> None:
        for pipe, message in messages(self._pipes, seconds=CONNECT_SECONDS):
            self._note(pipe, message)
            if sum(progress.connected for progress in self._progress.values()) == wanted:
                return

    def await_published(self, source: Connection, seconds: float) -> tuple[Started, Published]:
        started = None
        longest = CONNECT_SECONDS + 2 * seconds + publisher.ANSWER_SECONDS
        for pipe, message in messages([*self._pipes, source], seconds=longest):
            self._note(pipe, message)
            if isinstance(message, Started):
                started = message
            elif isinstance(message, Published) and started is not None:
                return started, message
        raise AssertionError("messages() ends by an error only")

    def await_received(self, expected: int) -> list[Received]:
        for pipe in self._pipes:
            pipe.send(Expect(expected, time.monotonic() + DRAIN_SECONDS))
        received = []
        waiting = set(self._pipes)
        for pipe, message in messages(waiting, seconds=2 * DRAIN_SECONDS):
            self._note(pipe, message)
            if isinstance(message, Received):
                received.append(message)
                waiting.discard(pipe)
            if not waiting:
                break
        return received

    def _note(self, pipe: Connection, message: object) -> None:
        if not isinstance(message, Progress):
            return
        self._progress[pipe] = message
        seconds = time.monotonic() - self._told_at
        if seconds < 1.0:
            return
        connected = sum(progress.connected for progress in self._progress.values())
        deliveries = sum(progress.deliveries for progress in self._progress.values())
        rate = (deliveries - self._told_deliveries) / seconds
        self._tell(f"{connected:,} connected, {deliveries:,} deliveries, {rate:,.0f}/s")
        self._told_at += seconds
        self._told_deliveries = deliveries


def _parts(plan: FanoutPlan) -> Iterator[SubscribersPlan]:
    processes = min(plan.processes, plan.subscribers)
    for process in range(processes):
        users = range(process, plan.subscribers, processes)
        tokens = [plan.mint(f"subscriber-{user}") for user in users]
        yield SubscribersPlan(plan.url, plan.topic, tokens)


def _publisher_plan(plan: FanoutPlan) -> PublisherPlan:
    connections = math.ceil(plan.rate / PUBLISHES_PER_CONNECTION)
    return PublisherPlan(
        url=plan.url,
        topic=plan.topic,
        tokens=[plan.mint(f"publisher-{number}") for number in range(connections)],
        rate=plan.rate,
        seconds=plan.seconds,
        payload_bytes=plan.payload_bytes,
    )


def _report(
    plan: FanoutPlan,
    connect_seconds: float,
    started: Started,
    published: Published,
    received: list[Received],
    cpu: float,
) -> Report:
    latency = Histogram()
    for part in received:
        latency.merge(Histogram(part.latency_counts))
    deliveries = sum(part.deliveries for part in received)
    last_ns = max(part.last_ns for part in received)
    elapsed = max((last_ns - started.start_ns) / 1e9, plan.seconds)
    return Report(
        subscribers=plan.subscribers,
        rate=plan.rate,
        seconds=plan.seconds,
        payload_bytes=plan.payload_bytes,
        connect_seconds=connect_seconds,
        published=published.sent,
        acknowledged=published.acknowledged,
        errors=published.errors,
        deliveries=deliveries,
        lost=max(0, published.acknowledged * plan.subscribers - deliveries),
        skipped=sum(part.skipped for part in received),
        duplicates=sum(part.duplicates for part in received),
        lost_connections=[reason for part in received for reason in part.lost_connections],
        deliveries_per_second=deliveries / elapsed,
        latency_ms=Latency(
            p50=latency.quantile(0.5) / 1000,
            p99=latency.quantile(0.99) / 1000,
            max=latency.quantile(1.0) / 1000,
        ),
        server_cpu_us_per_delivery=None
        if math.isnan(cpu) or not deliveries
        else cpu * 1e6 / deliveries,
        busiest_generator=max(part.cpu_seconds for part in received) / elapsed,
    )
