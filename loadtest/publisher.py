"""A process that publishes at a fixed rate, whatever the server does.

Each message bears the time at which it was due, so that a publisher or a server that falls behind
shows in the latency instead of hiding it.
"""

import asyncio
import signal
import time
from collections import Counter
from multiprocessing.connection import Connection

import uvloop
from msgspec import Struct

from .wire import Inbound, LoadError, Socket

ANSWER_SECONDS = 10.0
"""How long after the last message its answer may take."""


class PublisherPlan(Struct, frozen=True):
    """What to publish: `rate` messages a second in turn over as many connections as tokens."""

    url: str
    topic: str
    tokens: list[str]
    rate: float
    seconds: float
    payload_bytes: int


class Started(Struct, frozen=True):
    """Says when the first message was due, in ns of the monotonic clock."""

    start_ns: int


class Published(Struct, frozen=True):
    """What became of the messages; errors by their code."""

    sent: int
    acknowledged: int
    errors: dict[str, int]


class _Publisher:
    """All connections of the process and what was answered on them."""

    def __init__(self, plan: PublisherPlan) -> None:
        self._plan = plan
        self._sockets = [Socket(plan.url, token, self) for token in plan.tokens]
        self._padding = b"x" * max(
            0, plan.payload_bytes - len(b'{"due":1234567890123456,"pad":""}')
        )
        self._sent = 0
        self._acknowledged = 0
        self._errors: Counter[str] = Counter()
        self._lost: str | None = None

    async def connect(self) -> None:
        for socket in self._sockets:
            await socket.connect()

    def close(self) -> None:
        for socket in self._sockets:
            socket.close()

    async def publish(self, start_ns: int) -> Published:
        """Publish each message when it is due, then wait for the answers.

        Raises:
            LoadError: a connection was lost.
        """
        for number in range(round(self._plan.rate * self._plan.seconds)):
            due_ns = start_ns + round(number * 1e9 / self._plan.rate)
            # Also when late, or the answers would not be read.
            await asyncio.sleep(max(0.0, (due_ns - time.monotonic_ns()) / 1e9))
            self._check()
            self._send(number, due_ns)
        deadline = time.monotonic() + ANSWER_SECONDS
        while self._unanswered and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
            self._check()
        return Published(self._sent, self._acknowledged, dict(self._errors))

    def on_message(self, message: Inbound, now: int) -> None:
        if message.type == "ok":
            self._acknowledged += 1
        elif message.type == "error":
            self._errors[str(message.code)] += 1

    def on_lost(self, reason: str) -> None:
        self._lost = reason

    def _check(self) -> None:
        if self._lost is not None:
            raise LoadError(self._lost)

    @property
    def _unanswered(self) -> int:
        return self._sent - self._acknowledged - self._errors.total()

    def _send(self, number: int, due_ns: int) -> None:
        text = b'{"type":"publish","id":%d,"topic":"%s","data":{"due":%d,"pad":"%s"}}' % (
            number + 1,
            self._plan.topic.encode(),
            due_ns,
            self._padding,
        )
        self._sockets[number % len(self._sockets)].send(text)
        self._sent += 1


def main(pipe: Connection, plan: PublisherPlan) -> None:
    """Run the process: connect, say `Started`, publish, end with a `Published`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    uvloop.run(_main(pipe, plan))


async def _main(pipe: Connection, plan: PublisherPlan) -> None:
    publisher = _Publisher(plan)
    try:
        await publisher.connect()
        start_ns = time.monotonic_ns()
        pipe.send(Started(start_ns))
        pipe.send(await publisher.publish(start_ns))
    except LoadError as error:
        pipe.send(error)
    finally:
        publisher.close()
