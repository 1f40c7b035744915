"""A process that holds many connections, which listen, publish, or stall.

Each message carries its due time. A publisher or server that falls behind therefore shows in the
latency.
"""

import asyncio
import resource
import signal
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing.connection import Connection

import uvloop
from msgspec import Struct
from msgspec.structs import replace

from tests.rig.sockets import connected_socket

from .dialects import DIALECTS, Position, data_of
from .exchange import Exchange
from .histogram import Histogram
from .wire import LoadError, Socket

CONNECTS_AT_ONCE = 50
"""Concurrent handshakes, fewer than a listening socket's backlog."""

REPORT_SECONDS = 0.25
ANSWER_SECONDS = 15.0
"""Seconds after the last message in which its answer may come."""

GOODBYE_SECONDS = 3.0
"""Seconds in which a resumed stalled reader may detect its disconnection."""

SPARE_FILES = 100
"""Open files that a process needs besides its connections: the chat server reserves 64."""

STALLED_BUFFER_BYTES = 4096
STALLED_SEGMENT_BYTES = 1400
"""Bytes: the kernel's receive buffer of a stalled reader, and segments as on a network."""

BURST = 50
"""Messages sent before the next look at the answers."""


class Member(Struct, frozen=True):
    """One connection; a connection with `listens=False` only publishes.

    Args:
        since: the position to resume from; the connection is ready after the `missed` later events.
        leaves: sends a close frame as soon as the connection is ready.
    """

    token: str
    topic: str
    listens: bool = True
    talks: bool = False
    stalls: bool = False
    since: Position | None = None
    missed: int = 0
    leaves: bool = False


class CrowdPlan(Struct, frozen=True, kw_only=True):
    """The work of one process.

    Args:
        host, port, dialect: of the server.
        members: the connections.
        source: the source address of the connections, because ports per address are limited; any if
            empty.
        connects_per_second: the rate of connection attempts; None opens the next connection when
            one is ready.
        rate: messages per second of all publishing members, in turns; 0 sends the next message as
            soon as one of a connection's `window` messages is answered.
        window: unanswered messages of one connection at rate 0.
        payload_bytes: bytes of the JSON text of each message's `data`.
    """

    host: str
    port: int
    dialect: str
    members: list[Member]
    source: str = ""
    connects_per_second: float | None = None
    rate: float = 0.0
    window: int = 1
    payload_bytes: int = 100

    def sends(self, seconds: float) -> bool:
        """Return True if at least one message is due in `seconds`."""
        talks = any(member.talks for member in self.members)
        return talks and (not self.rate or round(self.rate * seconds) > 0)


class Progress(Struct, frozen=True):
    """The progress of a process."""

    connected: int
    deliveries: int
    bytes_in: int


class Talk(Struct, frozen=True):
    """Orders a process to publish from `start_ns` of the monotonic clock on."""

    start_ns: int
    seconds: float


class Talked(Struct, frozen=True):
    """The outcomes of the messages; errors by their code."""

    sent: int
    acknowledged: int
    errors: dict[str, int]


class Return(Struct, frozen=True):
    """Orders a process to reconnect all members, after the loss of all connections and `missed`
    events.
    """

    missed: int


class Returned(Struct, frozen=True):
    """The time at which the last member had all missed events, in ns of the monotonic clock."""

    at_ns: int


class Finish(Struct, frozen=True):
    """Orders a process to end with a `Result`."""


class Result(Struct, frozen=True):
    """All counts of a process; `lost` has connections by reason, without stalled ones."""

    deliveries: int
    duplicates: int
    skipped: int
    bytes_in: int
    last_ns: int
    lost: dict[str, int]
    stalled_cut: int
    cpu_seconds: float
    connecting: list[int]
    delivery: list[int]
    acknowledgement: list[int]


class _Tally:
    """The common counts of all members of the process."""

    def __init__(self) -> None:
        self.connected = 0
        self.cpu_at_start = 0.0
        self.sent = 0
        self.acknowledged = 0
        self.errors: Counter[str] = Counter()
        self.deliveries = 0
        self.duplicates = 0
        self.skipped = 0
        self.bytes_in = 0
        self.last_ns = 0
        self.lost: Counter[str] = Counter()
        self.stalled_cut = 0
        self.connecting = Histogram()
        self.delivery = Histogram()
        self.acknowledgement = Histogram()
        self.due_of: Callable[[int], int] = lambda number: 0
        self.on_answer: Callable[[_Client], None] = lambda client: None

    def result(self) -> Result:
        return Result(
            deliveries=self.deliveries,
            duplicates=self.duplicates,
            skipped=self.skipped,
            bytes_in=self.bytes_in,
            last_ns=self.last_ns,
            lost=dict(self.lost),
            stalled_cut=self.stalled_cut,
            cpu_seconds=time.process_time() - self.cpu_at_start,
            connecting=self.connecting.counts,
            delivery=self.delivery.counts,
            acknowledgement=self.acknowledgement.counts,
        )


class _Client:
    """One member's connection and its place in the topic's order."""

    def __init__(self, plan: CrowdPlan, member: Member, tally: _Tally) -> None:
        self.member = member
        self._plan = plan
        self._dialect = DIALECTS[plan.dialect]
        self._tally = tally
        topic = member.topic if member.listens or self._dialect.http else None
        self._steps = list(self._dialect.steps(topic, member.token, member.since))
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._epoch = ""
        self._seq: int | None = None
        self._missing = member.missed
        self._latest = 0
        headers, path = self._dialect.headers(member.token), self._dialect.path(member.topic)
        kind = Exchange if self._dialect.http else Socket
        self.socket = kind(plan.host, plan.port, path, headers, self)

    @property
    def position(self) -> Position:
        """The member's position in its topic's order."""
        return Position(self._epoch, self._seq or 0)

    async def connect(self) -> None:
        """Connect, and wait until the connection is ready.

        Raises:
            LoadError: the server cannot be reached or refuses.
        """
        host, port = self._plan.host, self._plan.port
        loop = asyncio.get_running_loop()
        try:
            if self.member.stalls:
                small = await connected_socket(
                    host,
                    port,
                    receive_buffer=STALLED_BUFFER_BYTES,
                    segment=STALLED_SEGMENT_BYTES,
                )
                await loop.create_connection(lambda: self.socket, sock=small)
            elif self._plan.source:
                own = await connected_socket(host, port, source=self._plan.source)
                await loop.create_connection(lambda: self.socket, sock=own)
            else:
                await loop.create_connection(lambda: self.socket, host, port)
        except OSError as error:
            raise LoadError(f"cannot reach {host}:{port}: {error}") from None
        await self._ready
        if self.member.stalls:
            self.socket.stall()
        if self.member.leaves:
            self.socket.leave()

    def publish(self, number: int, due_ns: int) -> None:
        """Send the message with this number within the process, counted from 1."""
        self._latest = number
        data = data_of(due_ns, self._plan.payload_bytes)
        self.socket.write(self._dialect.publish(self.member.topic, number, data))

    def on_open(self) -> None:
        """See `wire.Handler`."""
        self._advance(b"")

    def on_frames(self, data: bytes) -> None:
        """See `wire.Handler`."""
        if self._ready.done():
            self._count(data, time.monotonic_ns())
        elif not self._steps:
            self._catch_up(data)
        elif not self._advance(data) and self._dialect.errors(data):
            self.on_lost(self._dialect.refusal(data))

    def _advance(self, data: bytes) -> bool:
        """Take the next step if the data has the expected answer."""
        if not self._steps or self._steps[0][0] not in data:
            return False
        _, answer = self._steps.pop(0)
        if answer:
            self.socket.write(answer)
        if not self._steps:
            self._begin(data)
        return True

    def _begin(self, data: bytes) -> None:
        """Start at the position in the last answer, or resume from the earlier position."""
        start = self._dialect.position(data)
        if start and self._dialect.orders:
            self._epoch = start.epoch
            self._seq = int([start.seq, *self._dialect.seqs(data)][-1])
        if self.member.since is None:
            self._ready.set_result(None)
        elif b'"recovered":true' in data:
            self._seq = self.member.since.seq
            self._catch_up(data)
        else:
            self.on_lost("what was missed cannot be recovered")

    def _catch_up(self, data: bytes) -> None:
        seqs = [int(seq) for seq in self._dialect.seqs(data)]
        self._check_order(seqs, len(seqs))
        self._missing -= len(seqs)
        if self._missing <= 0:
            self._ready.set_result(None)

    def on_lost(self, reason: str) -> None:
        """See `wire.Handler`."""
        if not self._ready.done():
            self._ready.set_exception(LoadError(reason))
        elif self.member.stalls:
            self._tally.stalled_cut += 1
        else:
            self._tally.lost[reason] += 1

    def _count(self, data: bytes, now: int) -> None:
        tally = self._tally
        tally.bytes_in += len(data)
        if self.member.talks and self._dialect.acknowledges:
            for number in self._dialect.acknowledged(data):
                tally.acknowledged += 1
                # An answer without a number belongs to the last sent message.
                due = tally.due_of(int(number) or self._latest)
                tally.acknowledgement.add((now - due) / 1000)
                tally.on_answer(self)
            for code in self._dialect.errors(data):
                tally.errors[code.decode()] += 1
        if self.member.stalls or not (stamps := self._dialect.stamps(data)):
            return
        tally.deliveries += len(stamps)
        tally.last_ns = now
        add = tally.delivery.add
        for due in stamps:
            add((now - int(due)) / 1000)
        if self._seq is not None:
            self._check_order([int(seq) for seq in self._dialect.seqs(data)], len(stamps))

    def _check_order(self, seqs: list[int], messages: int) -> None:
        assert self._seq is not None
        expected = range(self._seq + 1, self._seq + 1 + messages)
        if seqs == list(expected):
            self._seq += messages
            return
        for seq in seqs:
            if seq <= self._seq:
                self._tally.duplicates += 1
            else:
                self._tally.skipped += seq - self._seq - 1
                self._seq = seq


def raise_file_limit() -> int:
    """Raise the limit of open files of this process and its children to the system's maximum."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def main(pipe: Connection, plan: CrowdPlan) -> None:
    """Run one process: connect all members, report progress, and execute orders until `Finish`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise_file_limit()
    uvloop.run(_main(pipe, plan))


async def _main(pipe: Connection, plan: CrowdPlan) -> None:
    tally = _Tally()
    clients = [_Client(plan, member, tally) for member in plan.members]
    orders: asyncio.Queue[object] = asyncio.Queue()  # bounded by the parent: one at a time
    asyncio.get_running_loop().add_reader(pipe.fileno(), _take_order, pipe, orders)
    reporter = asyncio.create_task(_report(pipe, tally))
    try:
        await _connect(clients, plan, tally)
        tally.cpu_at_start = time.process_time()
        while not isinstance(order := await orders.get(), Finish):
            if isinstance(order, Return):
                clients = await _return(clients, plan, order, tally)
                pipe.send(Returned(time.monotonic_ns()))
            elif isinstance(order, Talk):
                pipe.send(await _talk(clients, plan, order, tally))
        if any(member.stalls for member in plan.members):
            await _wake(clients, tally)
        pipe.send(tally.result())
    except LoadError as error:
        pipe.send(error)
    finally:
        reporter.cancel()
        for client in clients:
            client.socket.close()


def _take_order(pipe: Connection, orders: asyncio.Queue[object]) -> None:
    try:
        orders.put_nowait(pipe.recv())
    except (EOFError, ConnectionError):  # the load test was stopped
        asyncio.get_running_loop().remove_reader(pipe.fileno())
        orders.put_nowait(Finish())


async def _connect(clients: list[_Client], plan: CrowdPlan, tally: _Tally) -> None:
    places = asyncio.Semaphore(CONNECTS_AT_ONCE)
    begin = time.monotonic()

    async def connect(number: int, client: _Client) -> None:
        due = begin
        if plan.connects_per_second is not None:
            due += number / plan.connects_per_second
            await asyncio.sleep(due - time.monotonic())
        async with places:
            if plan.connects_per_second is None:
                due = time.monotonic()
            await client.connect()
        tally.connecting.add((time.monotonic() - due) * 1e6)
        tally.connected += 1

    # The first failure ends the process, and thereby all other connections.
    await asyncio.gather(*(connect(number, client) for number, client in enumerate(clients)))


async def _return(
    lost: list[_Client], plan: CrowdPlan, order: Return, tally: _Tally
) -> list[_Client]:
    """Reconnect all members at their positions; losses of the earlier connections are expected."""
    tally.lost.clear()
    tally.connecting = Histogram()
    members = [
        replace(client.member, since=client.position, missed=order.missed) for client in lost
    ]
    clients = [_Client(plan, member, tally) for member in members]
    await _connect(clients, plan, tally)
    return clients


async def _talk(clients: list[_Client], plan: CrowdPlan, talk: Talk, tally: _Tally) -> Talked:
    """Publish, then wait for the answers."""
    talkers = [client for client in clients if client.member.talks]
    acknowledges = DIALECTS[plan.dialect].acknowledges
    if plan.rate or not (talkers and acknowledges):
        total = await _keep_time(talkers, plan, talk, tally)
    else:
        total = await _keep_busy(talkers, plan, talk, tally)
    if not acknowledges:
        return Talked(total, total, {})
    await _until(lambda: tally.acknowledged + tally.errors.total() >= total, ANSWER_SECONDS)
    return Talked(total, tally.acknowledged, dict(tally.errors))


async def _keep_time(talkers: list[_Client], plan: CrowdPlan, talk: Talk, tally: _Tally) -> int:
    """Publish each message at its due time, regardless of the server; return their number."""
    tally.due_of = lambda number: talk.start_ns + round((number - 1) * 1e9 / plan.rate)
    total = round(plan.rate * talk.seconds) if talkers else 0
    for number in range(1, total + 1):
        due_ns = tally.due_of(number)
        wait = (due_ns - time.monotonic_ns()) / 1e9
        # Sleep even when late, otherwise nobody reads the answers.
        if wait > 0 or number % BURST == 0:
            await asyncio.sleep(max(0.0, wait))
        talkers[number % len(talkers)].publish(number, due_ns)
    return total


async def _keep_busy(talkers: list[_Client], plan: CrowdPlan, talk: Talk, tally: _Tally) -> int:
    """Publish as fast as the server answers; return the number. A message is due when sent."""
    dues: list[int] = []
    end_ns = talk.start_ns + round(talk.seconds * 1e9)

    def publish(client: _Client) -> None:
        due_ns = time.monotonic_ns()
        if due_ns < end_ns:
            dues.append(due_ns)
            client.publish(len(dues), due_ns)

    tally.due_of = lambda number: dues[number - 1]
    tally.on_answer = publish
    await asyncio.sleep(max(0.0, (talk.start_ns - time.monotonic_ns()) / 1e9))
    for client in talkers:
        for _ in range(plan.window):
            publish(client)
    # A timer of uvloop may fire some milliseconds early; messages sent after that would be
    # uncounted.
    while (left_ns := end_ns - time.monotonic_ns()) > 0:  # noqa: ASYNC110
        await asyncio.sleep(left_ns / 1e9)
    return len(dues)


async def _wake(clients: list[_Client], tally: _Tally) -> None:
    """Let stalled members read again, and count the members that the server has disconnected."""
    stalled = [client for client in clients if client.member.stalls]
    for client in stalled:
        client.socket.resume()
    await _until(lambda: tally.stalled_cut == len(stalled), GOODBYE_SECONDS)


async def _until(done: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    # Polled, because signalling each message would cost more than counting it.
    while not done() and time.monotonic() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def _report(pipe: Connection, tally: _Tally) -> None:
    while True:
        pipe.send(Progress(tally.connected, tally.deliveries, tally.bytes_in))
        await asyncio.sleep(REPORT_SECONDS)
