"""A process that holds many subscribers of one topic and counts what reaches them."""

import asyncio
import signal
import time
from multiprocessing.connection import Connection

import uvloop
from msgspec import Struct

from .histogram import Histogram
from .wire import Inbound, LoadError, Socket

CONNECTS_AT_ONCE = 50
"""Handshakes under way at a time, fewer than a listening socket's backlog."""

REPORT_SECONDS = 0.5


class SubscribersPlan(Struct, frozen=True):
    """What one process does; a token for each subscriber."""

    url: str
    topic: str
    tokens: list[str]


class Progress(Struct, frozen=True):
    """How far a process has come."""

    connected: int
    deliveries: int


class Expect(Struct, frozen=True):
    """Tells a process how many messages were published, and until when to wait for them."""

    messages: int
    deadline: float


class Received(Struct, frozen=True):
    """What reached all subscribers of one process, and the CPU time that it took."""

    deliveries: int
    duplicates: int
    skipped: int
    lost_connections: list[str]
    last_ns: int
    cpu_seconds: float
    latency_counts: list[int]


class _Tally:
    """What all subscribers of the process count together."""

    def __init__(self) -> None:
        self.connected = 0
        self.cpu_at_start = 0.0
        self.deliveries = 0
        self.duplicates = 0
        self.skipped = 0
        self.lost: list[str] = []
        self.last_ns = 0
        self.latency = Histogram()

    def result(self) -> Received:
        return Received(
            deliveries=self.deliveries,
            duplicates=self.duplicates,
            skipped=self.skipped,
            lost_connections=self.lost,
            last_ns=self.last_ns,
            cpu_seconds=time.process_time() - self.cpu_at_start,
            latency_counts=self.latency.counts,
        )


class _Subscriber:
    """One connection and its place in the topic's order."""

    def __init__(self, plan: SubscribersPlan, token: str, tally: _Tally) -> None:
        self._topic = plan.topic
        self._tally = tally
        self._seq = 0
        self._subscribed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.received = 0
        self.socket = Socket(plan.url, token, self)

    async def start(self) -> None:
        """Connect and subscribe."""
        await self.socket.connect()
        self.socket.send(b'{"type":"subscribe","id":1,"topic":"%s"}' % self._topic.encode())
        await self._subscribed

    def on_message(self, message: Inbound, now: int) -> None:
        if message.type == "message" and message.data is not None:
            self._on_delivery(message.seq, message.data.due, now)
        elif message.type == "ok":
            self._seq = message.seq
            self._subscribed.set_result(None)
        elif message.type == "error" and not self._subscribed.done():
            error = LoadError(f"cannot subscribe: {message.code}: {message.message}")
            self._subscribed.set_exception(error)

    def on_lost(self, reason: str) -> None:
        if self._subscribed.done():
            self._tally.lost.append(reason)
        else:
            self._subscribed.set_exception(LoadError(reason))

    def _on_delivery(self, seq: int, due: int, now: int) -> None:
        tally = self._tally
        if seq <= self._seq:
            tally.duplicates += 1
            return
        tally.skipped += seq - self._seq - 1
        self._seq = seq
        self.received += 1
        tally.deliveries += 1
        tally.last_ns = now
        tally.latency.add((now - due) / 1000)


def main(pipe: Connection, plan: SubscribersPlan) -> None:
    """Run one process: connect all, report progress, end after `Expect` with a `Received`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    uvloop.run(_main(pipe, plan))


async def _main(pipe: Connection, plan: SubscribersPlan) -> None:
    tally = _Tally()
    subscribers = [_Subscriber(plan, token, tally) for token in plan.tokens]
    reporter = asyncio.create_task(_report(pipe, tally))
    try:
        await _start(subscribers, tally)
        tally.cpu_at_start = time.process_time()
        await _receive(subscribers, await _expectation(pipe))
    except LoadError as error:
        pipe.send(error)
    else:
        pipe.send(tally.result())
    finally:
        reporter.cancel()
        for subscriber in subscribers:
            subscriber.socket.close()


async def _start(subscribers: list[_Subscriber], tally: _Tally) -> None:
    places = asyncio.Semaphore(CONNECTS_AT_ONCE)

    async def start(subscriber: _Subscriber) -> None:
        async with places:
            await subscriber.start()
        tally.connected += 1

    # The first failure ends the process, and with it all the others.
    await asyncio.gather(*map(start, subscribers))


async def _expectation(pipe: Connection) -> Expect:
    """Wait for the parent to say how many messages there were; sockets are served meanwhile."""
    loop = asyncio.get_running_loop()
    told: asyncio.Future[Expect] = loop.create_future()

    def read() -> None:
        loop.remove_reader(pipe.fileno())
        try:
            told.set_result(pipe.recv())
        except EOFError:
            told.set_exception(LoadError("the load test was stopped"))

    loop.add_reader(pipe.fileno(), read)
    return await told


async def _receive(subscribers: list[_Subscriber], expect: Expect) -> None:
    """Wait until every subscriber has everything, or until the deadline."""
    while time.monotonic() < expect.deadline:
        if all(subscriber.received >= expect.messages for subscriber in subscribers):
            return
        await asyncio.sleep(0.02)


async def _report(pipe: Connection, tally: _Tally) -> None:
    while True:
        pipe.send(Progress(tally.connected, tally.deliveries))
        await asyncio.sleep(REPORT_SECONDS)
