"""Measures what the capacity model needs, and holds its predictions to a real run."""

from collections.abc import Callable
from functools import partial

from msgspec import Struct

from .accounting import Machine, machine
from .budgets import per_connect, per_publish
from .model import WIRE_OVERHEAD_BYTES, Costs, Load, predict
from .report import Report
from .sampling import Entrant, Rounds, Samples, alternate
from .scenarios.idle import idle
from .scenarios.publish import publish
from .scenarios.rooms import rooms
from .server import Target, started
from .stage import Stage, Tell
from .wire import LoadError

IDLE, PUBLISHING, ALONE, ROOMS, CHECK = "idle", "publish", "rooms of one", "rooms", "check"
TALKS = 150
TALK_RATE = 15.0
"""Rooms, and messages a second in each: half again as many as a check has in all.

Costs depend on it, because what comes in one turn of the loop, or while Redis is busy, shares the
cost of waking up, and a check's two workers wake less often than one with all the work. It is a
fit: as many as the check predicts a third too much, twice as many a fifth too little.
"""


class Calibration(Struct, frozen=True):
    """The costs on a machine, and the runs they come from."""

    machine: Machine
    rounds: int
    costs: Costs
    samples: Samples


class Compared(Struct, frozen=True):
    """One number of a check."""

    what: str
    predicted: float
    measured: float | None


class Check(Struct, frozen=True):
    """A real run beside what the model said before it; medians of `rounds`."""

    machine: Machine
    rounds: int
    load: Load
    workers: int
    compared: list[Compared]


def calibrate(
    *,
    rounds: Rounds,
    members: int,
    connections: int,
    seconds: float,
    hold_seconds: float,
    tell: Tell,
) -> Calibration:
    """Measure the costs, all with Redis.

    Idle connections tell what they, their memory and their heartbeats cost; publishing without a
    reader, what a publication costs the worker and Redis; rooms of one member each, what receiving
    it adds; rooms of many, what each more delivery adds.

    Args:
        rounds: how often all take turns.
        members: of a room of many.
        connections: that are idle.
        seconds: for how long messages are sent.
        hold_seconds: for how long connections do nothing.
        tell: is told how far it is.

    Raises:
        LoadError: the operating system does not tell what processes use, or a run failed.
    """
    run = partial(started, redis=True)
    entrants = [
        Entrant(IDLE, run, partial(_idle, connections, hold_seconds)),
        Entrant(PUBLISHING, run, partial(_publish, seconds)),
        Entrant(ALONE, run, partial(_rooms, 1, seconds)),
        Entrant(ROOMS, run, partial(_rooms, members, seconds)),
    ]
    samples = alternate(entrants, rounds, tell)
    for key, failure in samples.failures.items():
        raise LoadError(f"{key}: {failure}")
    return Calibration(machine(), rounds.count, _costs(samples, members), samples)


def check(
    costs: Costs, load: Load, *, workers: int, rounds: Rounds, seconds: float, tell: Tell
) -> Check:
    """Run a load for real and return what was predicted beside what was measured.

    Raises:
        LoadError: the run failed.
    """
    members = round(load.members)
    entrant = Entrant(
        CHECK,
        partial(started, workers=workers, redis=True),
        lambda target: rooms(
            target, rooms=load.rooms, members=members, rate=load.rate, seconds=seconds
        ),
    )
    samples = alternate([entrant], rounds, tell)
    for failure in samples.failures.values():
        raise LoadError(failure)
    predicted = predict(costs, load, workers)

    def measured(cost: Callable[[Report], float | None]) -> float | None:
        return samples.median(CHECK, cost)

    return Check(
        machine(),
        rounds.count,
        load,
        workers,
        [
            Compared("cores of the workers", predicted.worker_cores, measured(_worker_cores)),
            Compared("cores of Redis", predicted.redis_cores, measured(_redis_cores)),
            Compared("memory, MiB", predicted.memory_bytes / 2**20, measured(_memory)),
            Compared("deliveries a second", load.deliveries, measured(_deliveries)),
            Compared("network, Mbit/s", predicted.network_bits / 1e6, measured(_network)),
        ],
    )


def _idle(connections: int, hold_seconds: float, target: Target) -> Stage:
    return idle(target, connections=connections, hold_seconds=hold_seconds)


def _publish(seconds: float, target: Target) -> Stage:
    return publish(target, publishers=TALKS, rate=TALK_RATE * TALKS, seconds=seconds)


def _rooms(members: int, seconds: float, target: Target) -> Stage:
    return rooms(target, rooms=TALKS, members=members, rate=TALK_RATE, seconds=seconds)


def _costs(samples: Samples, members: int) -> Costs:
    def cost(key: str, of: Callable[[Report], float | None]) -> float:
        value = samples.median(key, of)
        if value is None:
            raise LoadError("the operating system does not tell what processes use")
        return value

    publishing, alone, full = (cost(key, per_publish) for key in (PUBLISHING, ALONE, ROOMS))
    # What each more member adds: the publication, its answer and its receiving are the same.
    delivery = max(0.0, full - alone) / (members - 1)
    bytes_alone, bytes_each = (cost(key, _delivered_bytes) for key in (ALONE, ROOMS))
    store = cost(PUBLISHING, lambda report: report.redis_cpu_us_per_publish)
    forwarded = cost(ALONE, lambda report: report.redis_cpu_us_per_publish)
    connection = cost(IDLE, lambda report: report.memory_bytes_per_connection)
    total = cost(IDLE, lambda report: report.memory_bytes)
    return Costs(
        delivery_us=delivery,
        publish_us=publishing,
        receive_us=max(0.0, alone - publishing - delivery),
        connect_us=cost(IDLE, per_connect),
        idle_us_per_second=cost(IDLE, lambda report: report.idle_cpu_us_per_second),
        store_us=store,
        forward_us=max(0.0, forwarded - store),
        connection_bytes=connection,
        worker_bytes=total - connection * samples.reports[IDLE][0].connections,
        frame_bytes=(members * bytes_each - bytes_alone) / (members - 1),
    )


def _delivered_bytes(report: Report) -> float | None:
    return report.bytes_per_delivery


def _worker_cores(report: Report) -> float | None:
    return report.server_cores


def _redis_cores(report: Report) -> float | None:
    each = report.redis_cpu_us_per_publish
    return None if each is None else each * report.publishes_per_second / 1e6


def _memory(report: Report) -> float | None:
    return None if report.memory_bytes is None else report.memory_bytes / 2**20


def _deliveries(report: Report) -> float:
    return report.deliveries_per_second


def _network(report: Report) -> float | None:
    if report.bytes_per_delivery is None:
        return None
    # Acknowledgements are in the bytes that came in; headers are counted as the model does.
    packets = report.deliveries_per_second + report.publishes_per_second
    came = report.deliveries_per_second * report.bytes_per_delivery
    return (came + packets * WIRE_OVERHEAD_BYTES) * 8 / 1e6
