"""Runs the measurements for all budgets of the design; `budgets` has the limits."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial

from msgspec import Struct

from .accounting import Machine, machine
from .crowd import SPARE_FILES, raise_file_limit
from .peers import Peer, bare_route, floor, running
from .sampling import Entrant, Rounds, Samples, alternate
from .scenarios.connect import connect
from .scenarios.fanout import fanout
from .scenarios.publish import publish
from .server import Target, started, started_noting_pauses
from .stage import Stage, Tell

FLOOR, STEADY, BURST = "floor", "fanout", "burst"
CROWDED, CROWDED_FLOOR, PACKED = "crowded", "floor, crowded", "packed"
MEMORY, REDIS = "publish, memory", "publish, Redis"
CONNECT, BARE = "connect", "bare Quart route"

PACKED_RATE = 1.0
"""Messages per second to all connections of `PACKED`: as many deliveries as in a busy room of
1,000.
"""


class Effort(Struct, frozen=True, kw_only=True):
    """The size of a bench; the defaults take less than five minutes on two cores.

    Args:
        rounds: number of alternating rounds.
        attempts: attempts of one run while other work disturbs the machine.
        room: subscribers of the room for the cost of a delivery.
        crowd: subscribers of the largest room for the growth of this cost.
        packed: connections for the only measurement of memory and garbage collections.
        connections: connections of a storm.
        seconds: seconds of sending in each run.
    """

    rounds: int = 3
    attempts: int = 1
    room: int = 1000
    crowd: int = 16_000
    packed: int = 20_000
    connections: int = 1000
    seconds: float = 2.0


class Bench(Struct, frozen=True):
    """The result of a bench."""

    machine: Machine
    effort: Effort
    floor: str
    samples: Samples
    took_seconds: float | None = None


def bench(effort: Effort, tell: Tell) -> Bench:
    """Run all measurements, and report the progress."""
    begin = time.monotonic()
    crowd = _fitting(effort.crowd)
    steady = partial(_fanout, effort, effort.room, 20.0)
    # As many deliveries per second as in the smaller room.
    crowded = partial(_fanout, effort, crowd, 20.0 * effort.room / crowd)
    publishing, connecting = partial(_publish, effort), partial(_connect, effort)
    entrants = [
        _entrant(FLOOR, floor(), steady),
        _entrant(STEADY, None, steady),
        _entrant(CROWDED_FLOOR, floor(), crowded),
        _entrant(CROWDED, None, crowded),
        _entrant(BURST, None, partial(_fanout, effort, effort.room, 500.0)),
        _entrant(MEMORY, None, publishing),
        Entrant(REDIS, partial(started, redis=True), publishing),
        _entrant(CONNECT, None, connecting),
        _entrant(BARE, bare_route(), connecting),
    ]
    samples = alternate(entrants, Rounds(effort.rounds, effort.attempts), tell)
    alternate([_packed(effort)], Rounds(1, effort.attempts), tell, samples)
    return Bench(machine(), effort, floor().title, samples, time.monotonic() - begin)


def _fitting(connections: int) -> int:
    """Return the number of connections, bounded by the limit of open files."""
    return min(connections, raise_file_limit() - SPARE_FILES)


def _packed(effort: Effort) -> Entrant:
    connections = _fitting(effort.packed)
    scenario = partial(_fanout, effort, connections, PACKED_RATE)
    return Entrant(PACKED, started_noting_pauses, scenario)


def _entrant(key: str, peer: Peer | None, scenario: Callable[[Target], Stage]) -> Entrant:
    run: Callable[[], AbstractContextManager[Target]] = partial(running, peer)
    return Entrant(key, run, scenario)


def _fanout(effort: Effort, subscribers: int, rate: float, target: Target) -> Stage:
    return fanout(target, subscribers=subscribers, rate=rate, seconds=effort.seconds)


def _publish(effort: Effort, target: Target) -> Stage:
    return publish(target, seconds=effort.seconds)


def _connect(effort: Effort, target: Target) -> Stage:
    return connect(target, connections=effort.connections)
