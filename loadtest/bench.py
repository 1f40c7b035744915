"""The budgets of the design, each with what was measured in one run."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial

from msgspec import Struct

from .accounting import Machine, machine
from .crowd import raise_file_limit
from .peers import Peer, bare_route, floor, running
from .report import Report
from .sampling import Entrant, Rounds, Samples, alternate, median, ratio
from .scenarios.connect import connect
from .scenarios.fanout import fanout
from .scenarios.publish import publish
from .server import Target, started
from .stage import Stage, Tell

ROOM = 1000
CROWD = 16_000
SPARE_FILES = 1000
"""Open files that a process needs besides its connections, generously."""

FLOOR, STEADY, BURST, CROWDED = "floor", "fanout", "burst", "crowded"
CROWDED_FLOOR = "floor, crowded"
MEMORY, REDIS = "publish, memory", "publish, Redis"
CONNECT, BARE = "connect", "bare Quart route"


class Effort(Struct, frozen=True, kw_only=True):
    """How much a bench does; the defaults take some four minutes on two cores."""

    rounds: int = 3
    attempts: int = 1
    room: int = ROOM
    crowd: int = CROWD
    connections: int = 1500
    seconds: float = 3.0
    hold_seconds: float = 30.0


class Bench(Struct, frozen=True):
    """What a bench has found."""

    machine: Machine
    effort: Effort
    floor: str
    samples: Samples


class Budget(Struct, frozen=True):
    """One budget: what it allows, what was measured, and whether that is met."""

    what: str
    budget: str
    measured: str
    met: bool | None

    @property
    def verdict(self) -> str:
        """Say in words whether it is met."""
        return {True: "met", False: "NOT MET", None: "not measured"}[self.met]


def bench(effort: Effort, tell: Tell) -> Bench:
    """Run all that the budgets need, telling how far it is."""
    crowd = min(effort.crowd, raise_file_limit() - SPARE_FILES)
    rate = 20 * effort.room / crowd
    entrants = [
        _entrant(FLOOR, floor(), partial(_fanout, effort, effort.room, 20.0)),
        _entrant(STEADY, None, partial(_fanout, effort, effort.room, 20.0)),
        _entrant(BURST, None, partial(_fanout, effort, effort.room, 500.0)),
        _entrant(MEMORY, None, lambda target: publish(target, seconds=effort.seconds)),
        Entrant(
            REDIS,
            partial(started, redis=True),
            lambda target: publish(target, seconds=effort.seconds),
        ),
        _entrant(CONNECT, None, lambda target: connect(target, connections=effort.connections)),
        _entrant(
            BARE, bare_route(), lambda target: connect(target, connections=effort.connections)
        ),
    ]
    once = [
        _entrant(
            CROWDED, None, partial(_fanout, effort, crowd, rate, hold_seconds=effort.hold_seconds)
        ),
        _entrant(CROWDED_FLOOR, floor(), partial(_fanout, effort, crowd, rate)),
    ]
    samples = alternate(entrants, Rounds(effort.rounds, effort.attempts), tell)
    alternate(once, Rounds(1, effort.attempts), tell, samples)
    return Bench(machine(), effort, floor().title, samples)


def budgets(bench: Bench) -> list[Budget]:
    """Return the budgets in the order of the design."""
    samples = bench.samples
    return [
        _of_floor(samples, f"CPU per delivery, room of {bench.effort.room:,}", STEADY, 1.35),
        _of_floor(samples, "CPU per delivery at 500 publishes/s", BURST, 1.0),
        _idle_memory(samples),
        _publishing(samples, "publish with its ack, memory broker", MEMORY, 4.0),
        _publishing(samples, "publish with its ack, Redis", REDIS, 12.0),
        _connecting(samples),
        _latency(samples),
        _growth(samples),
    ]


def budget_lines(found: list[Budget]) -> list[list[str]]:
    """Return the rows of a table, the header first."""
    rows = [["what", "budget", "measured", ""]]
    return rows + [[one.what, one.budget, one.measured, one.verdict] for one in found]


def connection_lines(bench: Bench) -> Iterator[str]:
    """Yield what else is known of many connections."""
    disturbance = bench.samples.disturbance or 0.0
    yield f"other work on the machine: {disturbance:.2f} cores, stolen time included"
    crowded = bench.samples.reports.get(CROWDED, [])
    for report in crowded:
        if report.memory_bytes_per_connection is not None:
            each = report.memory_bytes_per_connection / 1024
            yield f"{report.connections:,} connections: {each:.1f} KiB of memory each"
    idle_cost = bench.samples.median(CROWDED, lambda report: report.idle_cpu_us_per_second)
    if idle_cost is not None:
        yield f"an idle connection: {idle_cost:.2f} µs of CPU in a second, for heartbeats"
    theirs = bench.samples.median(CROWDED_FLOOR, per_delivery)
    few = bench.samples.median(FLOOR, per_delivery)
    grown = ratio(theirs, few)
    if grown is not None:
        yield f"the floor's own cost per delivery grows by {grown - 1:+.0%} to as many connections"


def per_delivery(report: Report) -> float | None:
    """Return what a delivery costs the server."""
    return report.cpu_us_per_delivery


def per_publish(report: Report) -> float | None:
    """Return what a publication with its answer costs the server."""
    return report.cpu_us_per_publish


def _entrant(key: str, peer: Peer | None, scenario: Callable[[Target], Stage]) -> Entrant:
    run: Callable[[], AbstractContextManager[Target]] = partial(running, peer)
    return Entrant(key, run, scenario)


def _fanout(
    effort: Effort, subscribers: int, rate: float, target: Target, hold_seconds: float = 0.0
) -> Stage:
    return fanout(
        target,
        subscribers=subscribers,
        rate=rate,
        seconds=effort.seconds,
        hold_seconds=hold_seconds,
    )


def _judge(what: str, budget: str, value: float | None, limit: float, text: str) -> Budget:
    """Return a budget that is met by a value of at most `limit`."""
    if value is None:
        return Budget(what, budget, "", None)
    return Budget(what, budget, text, value <= limit)


def _of_floor(samples: Samples, what: str, key: str, limit: float) -> Budget:
    times, cost = samples.ratio(key, FLOOR, per_delivery), samples.median(key, per_delivery)
    theirs = samples.median(FLOOR, per_delivery)
    text = f"{cost:.1f} µs, floor {theirs:.1f} µs: {times:.2f} ×" if times and cost else ""
    return _judge(what, f"{limit:g} × the floor", times, limit, text)


def _publishing(samples: Samples, what: str, key: str, limit: float) -> Budget:
    pairs = zip(samples.reports.get(key, []), samples.reports.get(FLOOR, []), strict=False)
    times = median(ratio(per_publish(mine), per_delivery(theirs)) for mine, theirs in pairs)
    cost = samples.median(key, per_publish)
    rate = samples.median(key, lambda report: report.publishes_per_second)
    text = f"{cost:.1f} µs at {rate:,.0f}/s: {times:.1f} ×" if times and cost else ""
    return _judge(what, f"{limit:g} × a delivery of the floor", times, limit, text)


def _idle_memory(samples: Samples) -> Budget:
    each = samples.median(CROWDED, lambda report: report.memory_bytes_per_connection)
    text = "" if each is None else f"{each / 1024:.1f} KiB"
    return _judge("memory of an idle connection", "8 KiB", each, 8 * 1024, text)


def _connecting(samples: Samples) -> Budget:
    def cost(report: Report) -> float | None:
        return report.cpu_us_per_connect

    times, ours, theirs = (
        samples.ratio(CONNECT, BARE, cost),
        samples.median(CONNECT, cost),
        samples.median(BARE, cost),
    )
    text = f"{ours:,.0f} µs, bare {theirs:,.0f} µs: {times:.2f} ×" if times and ours else ""
    what = "handshake with JWT and one subscribe"
    return _judge(what, "1 × a bare Quart route", times, 1.0, text)


def _latency(samples: Samples) -> Budget:
    p99 = samples.median(STEADY, lambda report: report.delivery.p99 if report.delivery else None)
    text = "" if p99 is None else f"{p99:.1f} ms"
    return _judge("p99 of delivery at 20 messages/s", "50 ms", p99, 50.0, text)


def _growth(samples: Samples) -> Budget:
    many, few = samples.median(CROWDED, per_delivery), samples.median(STEADY, per_delivery)
    grown = ratio(many, few)
    connections = max((r.connections for r in samples.reports.get(CROWDED, [])), default=CROWD)
    text = f"{few:.1f} to {many:.1f} µs: {grown - 1:+.0%}" if grown and few and many else ""
    what = f"CPU per delivery, {ROOM:,} to {connections:,} connections"
    return _judge(what, "20 % more", grown, 1.2, text)
