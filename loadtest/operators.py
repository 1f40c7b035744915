"""The cost of notes and numbers for a delivery: a worker's hub that writes to real sockets.

Hubs with and without notes and numbers take turns in one process, batch by batch and over the same
sockets, so other work of the machine affects all hubs equally. A difference of one per cent would
not show between processes.
"""

import asyncio
import socket
import statistics
from collections.abc import Callable
from contextlib import ExitStack
from itertools import count
from time import thread_time_ns
from typing import Final

import msgspec
import uvloop
from msgspec import Struct

from chat_server.broker.memory import MemoryBroker
from chat_server.clock import Clock, SystemClock
from chat_server.events import Event, Kind, Position
from chat_server.protocol.codecs import JSON
from chat_server.realtime.hub import Hub
from chat_server.realtime.trail import Trail
from chat_server.settings import BrokerSettings, Settings
from chat_server.transports.direct import DirectTransport
from chat_server.transports.encoders import DIRECT_ENCODERS

from .accounting import Machine, cores, machine, pinned
from .layout import describe, markdown
from .stage import Tell
from .uncounted import uncounted_hub

FULL, UNNOTED, UNCOUNTED = "as it is", "without notes", "without numbers"
MOST: Final = 1.02
"""Factor by which notes and numbers may raise the cost of a delivery, in a room of `ROOM`."""

ROOM: Final = 1_000
TOPIC: Final = "room:loadtest"
WARM: Final = 20
"""Warm-up batches that do not count."""


class OperatorsPlan(Struct, frozen=True, kw_only=True):
    """The size of the measurement.

    Args:
        rounds: batches of each hub in the largest room.
        payload_bytes: bytes of each message's text.
    """

    rounds: int = 300
    payload_bytes: int = 100


class Room(Struct, frozen=True):
    """The cost of a delivery in a room.

    Args:
        members: members of the room.
        rounds: number of measured batches.
        micros: CPU time of a delivery in µs, by hub; medians.
        times: the cost of the full hub as a multiple of each other hub's cost; medians too.
    """

    members: int
    rounds: int
    micros: dict[str, float]
    times: dict[str, float]


class Operators(Struct, frozen=True):
    """The result of a run."""

    machine: Machine
    plan: OperatorsPlan
    rooms: list[Room]


def operators(plan: OperatorsPlan, tell: Tell) -> Operators:
    """Measure rooms of several sizes, and report the progress."""
    found = []
    with pinned(cores()[:1]):
        for members in (ROOM, 100, 10, 1):
            tell(f"a room of {members:,}")
            # As much work in each room, with a bound for the smallest room.
            rounds = plan.rounds * min(ROOM // members, 20)
            found.append(uvloop.run(_measure(members, rounds, plan.payload_bytes)))
    return Operators(machine(), plan, found)


async def _measure(members: int, rounds: int, payload_bytes: int) -> Room:
    clock = SystemClock()
    broker = MemoryBroker(BrokerSettings(), clock)
    hubs = {
        FULL: Hub(broker, 1, clock=clock, trail=_full_trail(clock)),
        UNNOTED: Hub(broker, 1, clock=clock),
        UNCOUNTED: uncounted_hub()(broker, 1, clock=clock, trail=_full_trail(clock)),
    }
    await broker.start(hubs[FULL])
    with ExitStack() as stack:
        drain = await _fill(hubs, members, stack)
        costs = _take_turns(hubs, rounds, payload_bytes, drain)
    for hub in hubs.values():
        await hub.stop()
    await broker.stop()
    micros = {name: statistics.median(each) / members / 1_000 for name, each in costs.items()}
    times = {
        name: statistics.median(
            mine / theirs for mine, theirs in zip(costs[FULL], costs[name], strict=True)
        )
        for name in (UNNOTED, UNCOUNTED)
    }
    return Room(members, rounds, micros, times)


def _full_trail(clock: Clock) -> Trail:
    """Return a full trail, in which each new note replaces an old one."""
    size = Settings().explain.notes
    trail = Trail(clock, size)
    for seq in range(size):
        trail.heard(TOPIC, Position("old", seq), Position("old", seq + 1))
    return trail


async def _fill(hubs: dict[str, Hub], members: int, stack: ExitStack) -> Callable[[], None]:
    """Add subscribers to the room of every hub; return a function that reads all sent bytes."""
    loop = asyncio.get_running_loop()
    listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=members))
    clients = []
    for _ in range(members):
        client = stack.enter_context(socket.create_connection(listener.getsockname()))
        accepted, _ = listener.accept()
        accepted.setblocking(False)
        made, _ = await loop.connect_accepted_socket(asyncio.Protocol, accepted)
        stack.callback(made.abort)
        transport = DirectTransport(
            made,
            DIRECT_ENCODERS[JSON.subprotocol],
            max_message_bytes=65_536,
            slow_buffer_bytes=1_048_576,
            close_timeout_seconds=1.0,
        )
        for hub in hubs.values():
            hub.enter(transport, TOPIC, await hub.join(transport, TOPIC, None, None))
        clients.append(client)

    def drain() -> None:
        for client in clients:
            client.recv(65_536)

    return drain


def _take_turns(
    hubs: dict[str, Hub], rounds: int, payload_bytes: int, drain: Callable[[], None]
) -> dict[str, list[int]]:
    """Return the nanoseconds of each hub's batches; each hub is first in equally many rounds."""
    costs: dict[str, list[int]] = {name: [] for name in hubs}
    names = list(hubs)
    epoch = hubs[FULL].topics[TOPIC].position.epoch
    for seq in count(1):
        if seq > WARM + rounds:
            return costs
        event = _event(epoch, seq, "x" * payload_bytes)
        for name in names[seq % 3 :] + names[: seq % 3]:
            on_events = hubs[name].on_events
            began = thread_time_ns()
            on_events([event])
            took = thread_time_ns() - began
            drain()
            if seq > WARM:
                costs[name].append(took)
    raise AssertionError


def _event(epoch: str, seq: int, text: str) -> Event:
    at = int(SystemClock().time() * 1_000)
    push = {"type": "message", "topic": TOPIC, "seq": seq, "epoch": epoch, "at": at}
    payload = msgspec.json.encode({**push, "from": {"user": "ann"}, "data": {"text": text}})
    return Event(TOPIC, epoch, seq, Kind.MESSAGE, payload)


def operators_lines(found: Operators) -> list[list[str]]:
    """Return the rows of a table, the header first."""
    rows = [["room of", "a delivery", UNNOTED, UNCOUNTED, "at most", ""]]
    for room in found.rooms:
        cells = [
            f"{room.micros[name]:.2f} µs: {room.times[name]:.3f} ×" for name in (UNNOTED, UNCOUNTED)
        ]
        bound, verdict = "", ""
        if room.members == ROOM:
            bound = f"{MOST:g} ×"
            verdict = "met" if max(room.times.values()) <= MOST else "NOT MET"
        rows.append([f"{room.members:,}", f"{room.micros[FULL]:.2f} µs", *cells, bound, verdict])
    return rows


def operators_text(found: Operators) -> str:
    """Return the page's text about a run."""
    about = (
        f"CPU time of a worker's hub for a message of {found.plan.payload_bytes} bytes "
        f"to TCP sockets of the same machine, medians of {found.plan.rounds:,} rounds and more. "
        f"{describe(found.machine)}"
    )
    return f"{about}\n\n{markdown(operators_lines(found))}"
