"""The cost of webhook deliveries, compared with a bare httpx POST of the same bodies.

Both use the same endpoint in a separate process, one request after the other. The webhook also
reads the log, builds messages, signs them, and writes its cursors to SQLite.
"""

import asyncio
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any, Final

import httpcore
import httpx
import uvloop
from msgspec import Struct

from chat_server.broker.memory import MemoryBroker
from chat_server.clock import SystemClock
from chat_server.consumers.follower import Follower
from chat_server.consumers.ports import Consumer
from chat_server.database import schema
from chat_server.database.database import Database
from chat_server.events import Retention, held
from chat_server.service.drafts import message_draft
from chat_server.settings import BrokerSettings, DatabaseSettings, Webhook
from chat_server.webhooks.endpoint import Endpoint
from chat_server.webhooks.lane import Lane
from chat_server.webhooks.sending import HEADERS, Answer, Sender
from chat_server.webhooks.store import WebhookStore

from .accounting import Machine, machine, pinned
from .layout import describe, markdown
from .processes import Workers
from .server import load_cores, server_cores
from .stage import Tell
from .wire import LoadError

MOST_TIMES: Final = 1.3
"""Factor: the cost of a delivery relative to a bare POST, at most."""

SECRET: Final = "whsec_" + "A" * 43

TAKE_SECONDS: Final = 300.0


class WebhooksPlan(Struct, frozen=True, kw_only=True):
    """The size of the measurement.

    Args:
        rounds: number of alternating rounds.
        topics: topics with waiting events.
        events: events in each topic.
        batch: events in one message.
        data_bytes: bytes of the JSON text of each event's data.
    """

    rounds: int = 5
    topics: int = 40
    events: int = 500
    batch: int = 100
    data_bytes: int = 100


class Round(Struct, frozen=True):
    """One round, in microseconds for each message: wall time, and CPU time."""

    messages: int
    body_bytes: int
    webhook_us: float
    webhook_cpu_us: float
    bare_us: float
    bare_cpu_us: float


class Webhooks(Struct, frozen=True):
    """The result of a run."""

    machine: Machine
    plan: WebhooksPlan
    rounds: list[Round]

    @property
    def times(self) -> float:
        """The time of a delivery, as a multiple of a bare POST's time."""
        return median(each.webhook_us / each.bare_us for each in self.rounds)

    @property
    def cpu_times(self) -> float:
        """The CPU time of a delivery, as a multiple of a bare POST's CPU time."""
        return median(each.webhook_cpu_us / each.bare_cpu_us for each in self.rounds)


def webhooks(plan: WebhooksPlan, tell: Tell) -> Webhooks:
    """Run all measurements, and report the progress.

    Raises:
        LoadError: the endpoint did not accept a message.
    """
    rounds = []
    with Workers(load_cores()) as workers:
        pipe = workers.start(serve_endpoint, None)
        url = f"http://127.0.0.1:{pipe.recv()}/"
        for number in range(plan.rounds):
            tell(f"round {number + 1} of {plan.rounds}")
            with (
                tempfile.TemporaryDirectory() as folder,
                pinned(server_cores()),
                asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
            ):
                rounds.append(runner.run(_round(plan, url, Path(folder))))
        pipe.close()
    return Webhooks(machine(["httpx", "httpcore", "uvloop", "aiosqlite"]), plan, rounds)


class _Recording(Sender):
    """Records the bodies of its requests."""

    bodies: list[bytes]

    async def send(self, body: bytes, headers: Mapping[str, str], *, now: float) -> Answer:
        self.bodies.append(body)
        return await super().send(body, headers, now=now)


async def _round(plan: WebhooksPlan, url: str, folder: Path) -> Round:
    settings = DatabaseSettings(url=f"sqlite+aiosqlite:///{folder / 'chat.db'}")
    await asyncio.to_thread(lambda: asyncio.run(schema.upgrade(settings)))
    database = Database(settings)
    await database.start()
    broker = MemoryBroker(BrokerSettings(), SystemClock())
    await broker.start(_Deaf())
    webhook = Webhook(
        url=url, secrets=(SECRET,), topics=("**",), batch_size=plan.batch, allow_private=True
    )
    sender = _Recording(webhook, httpcore.default_ssl_context())
    sender.bodies = []
    store = WebhookStore(database)
    endpoint = Endpoint(
        "load", webhook, store, sender, SystemClock(), keep_seconds=3_600.0, counts=Counter()
    )
    try:
        topics = [f"room:{number}" for number in range(plan.topics)]
        await _fill(plan, broker, topics)
        lane = Lane(endpoint, 0, 1, lambda topic: True)
        ours = await _timed(_deliver(broker, lane, topics))
        bodies = sender.bodies
        if sum(body.count(b'"type":"message"') for body in bodies) != plan.topics * plan.events:
            raise LoadError("not every event was delivered once")
        bare = await _timed(_post(url, bodies))
    finally:
        await endpoint.close()
        await broker.stop()
        await database.stop()
    count = len(bodies)
    size = sum(map(len, bodies)) // count
    return Round(count, size, *(1e6 * each / count for each in (*ours, *bare)))


async def _timed(work: Any) -> tuple[float, float]:
    """Return the wall time and this process's CPU time of some work, in seconds."""
    began, cpu = time.perf_counter(), time.process_time()
    await work
    return time.perf_counter() - began, time.process_time() - cpu


async def _fill(plan: WebhooksPlan, broker: MemoryBroker, topics: list[str]) -> None:
    retention = held(Retention(plan.events, 3_600.0))
    data = b'"%b"' % (b"x" * max(plan.data_bytes - 2, 0))
    for _ in range(plan.events):
        for topic in topics:
            await broker.publish(message_draft(topic, b'{"user":"alice"}', data, retention, None))


async def _deliver(broker: MemoryBroker, lane: Consumer, topics: list[str]) -> None:
    follower = Follower(broker, lane, lambda topic, cursor: None)
    follower.add(topics)
    running = asyncio.create_task(follower.run())
    try:
        async with asyncio.timeout(TAKE_SECONDS):
            await follower.wait_until_idle()
    except TimeoutError:
        raise LoadError("the endpoint does not take what is sent") from None
    finally:
        running.cancel()
        await asyncio.wait([running])


async def _post(url: str, bodies: list[bytes]) -> None:
    async with httpx.AsyncClient() as client:
        for body in bodies:
            answer = await client.post(url, content=body, headers=HEADERS)
            if answer.status_code != 204:
                raise LoadError(f"the endpoint answers {answer.status_code}")


class _Deaf:
    """Listens to a broker without subscribers."""

    def on_events(self, events: object) -> None:
        pass

    def on_lost(self, topics: object = None) -> None:
        pass

    def on_restored(self, topics: object = None) -> None:
        pass


# The endpoint ----------------------------------------------------------------------------------


def serve_endpoint(pipe: Connection, _plan: object) -> None:
    """Accept every request, in a separate process, until the pipe is closed."""
    with suppress(KeyboardInterrupt):
        asyncio.run(_serve(pipe))


async def _serve(pipe: Connection) -> None:
    server = await asyncio.get_running_loop().create_server(_Taking, "127.0.0.1", 0)
    pipe.send(server.sockets[0].getsockname()[1])
    with suppress(EOFError):
        await asyncio.to_thread(pipe.recv)
    server.close()


class _Taking(asyncio.Protocol):
    """Reads requests by their `Content-Length`, and answers each with 204."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = bytes(self._buffer[:end]).lower()
            length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
            if len(self._buffer) < end + 4 + length:
                return
            del self._buffer[: end + 4 + length]
            assert isinstance(self._transport, asyncio.WriteTransport)
            self._transport.write(b"HTTP/1.1 204 No Content\r\n\r\n")


def webhooks_lines(found: Webhooks) -> list[list[str]]:
    """Return the rows of a table, the header first."""
    of = found.rounds
    verdict = "met" if found.times <= MOST_TIMES else "NOT MET"
    rows = [["a message", "webhook", "bare POST", "times", "at most", ""]]
    for name, mine, bare, times, *limit in (
        (
            "time",
            median(each.webhook_us for each in of),
            median(each.bare_us for each in of),
            found.times,
            f"{MOST_TIMES:g}",
            verdict,
        ),
        (
            "CPU",
            median(each.webhook_cpu_us for each in of),
            median(each.bare_cpu_us for each in of),
            found.cpu_times,
            "",
            "",
        ),
    ):
        rows.append([name, f"{mine:,.0f} µs", f"{bare:,.0f} µs", f"{times:.2f}", *limit])
    return rows


def webhooks_text(found: Webhooks) -> str:
    """Return the page's text about a run."""
    plan = found.plan
    about = (
        f"{plan.topics * plan.events:,} events of {plan.data_bytes} bytes in {plan.topics} topics "
        f"go to one endpoint, {plan.batch} in a message, and the same bodies by httpx alone. "
        f"Medians of {plan.rounds} rounds, the ratios of one round each. {describe(found.machine)}"
    )
    return f"{about}\n\n{markdown(webhooks_lines(found))}"
