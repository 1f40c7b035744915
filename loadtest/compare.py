"""The same load on other servers in alternating rounds, and connecting against a bare route."""

from collections.abc import Callable, Collection, Iterator
from functools import partial

from msgspec import Struct, field

from .accounting import Machine, machine
from .budgets import per_connect, per_delivery
from .peers import Peer, bare_route, peers, running
from .report import Report
from .sampling import Column, Cost, Entrant, Rounds, Samples, alternate, median, medians, ratio
from .scenarios.connect import connect
from .scenarios.fanout import fanout
from .scenarios.idle import idle
from .server import Target
from .stage import Stage, Tell

OURS = "chat_server"
MAX_CORE_SECONDS = 45.0
"""Seconds: a run that would occupy a peer's core for longer is left out."""


class Rate(Struct, frozen=True):
    """One rate of fan-out: the results, and the peers left out as too slow."""

    rate: float
    samples: Samples
    too_slow: dict[str, float]
    """The number of cores that a peer would need, by title."""


class Comparison(Struct, frozen=True):
    """The result of `compare`; `missing` maps peers to their missing packages."""

    machine: Machine
    rounds: int
    subscribers: int
    seconds: float
    payload_bytes: int
    rates: list[Rate]
    connects: Samples
    floor: str
    missing: dict[str, list[str]]
    idle_connections: int = 0
    hold_seconds: float = 0.0
    idle: Samples = field(default_factory=Samples)


class ComparePlan(Struct, frozen=True, kw_only=True):
    """The parameters of a comparison; `only` names the peers to include, all if empty."""

    rounds: int = 3
    attempts: int = 1
    subscribers: int = 1000
    rates: tuple[float, ...] = (5.0, 20.0, 500.0)
    seconds: float = 4.0
    payload_bytes: int = 100
    connections: int = 1000
    idle_connections: int = 2000
    hold_seconds: float = 5.0
    only: Collection[str] = ()


def compare(plan: ComparePlan, tell: Tell) -> Comparison:
    """Run the comparison, and report the progress."""
    invited = [peer for peer in peers() if not plan.only or peer.name in plan.only]
    missing = {peer.title: peer.missing for peer in invited if peer.missing}
    present = [peer for peer in invited if not peer.missing]
    rounds = Rounds(plan.rounds, plan.attempts)
    rates: list[Rate] = []
    for rate in plan.rates:
        too_slow = _too_slow(present, rates, rate, plan)
        entrants = [
            _entrant(peer, partial(_fanout, plan, rate))
            for peer in (None, *present)
            if peer is None or peer.title not in too_slow
        ]
        rates.append(Rate(rate, alternate(entrants, rounds, tell), too_slow))
    idling = [_entrant(peer, partial(_idle, plan)) for peer in (None, *present)]
    connecting = [_entrant(peer, partial(_connect, plan)) for peer in (None, bare_route())]
    return Comparison(
        machine=machine([library for peer in present for library in peer.libraries]),
        rounds=plan.rounds,
        subscribers=plan.subscribers,
        seconds=plan.seconds,
        payload_bytes=plan.payload_bytes,
        rates=rates,
        connects=alternate(connecting, rounds, tell),
        floor=peers()[0].title,
        missing=missing,
        idle_connections=plan.idle_connections,
        hold_seconds=plan.hold_seconds,
        idle=alternate(idling, rounds, tell),
    )


def lines(comparison: Comparison) -> list[list[str]]:
    """Return the rows of a table for each rate, the header first."""
    shown = _fan_out(comparison.floor)
    rows = [["messages/s", "server", *(column.title for column in shown)]]
    for rate in comparison.rates:
        found = medians(rate.samples, shown)
        found += [
            _left_out(title, f"left out: needs {cores:.0f} cores", len(shown))
            for title, cores in rate.too_slow.items()
        ]
        found += [_left_out(title, "failed", len(shown)) for title in rate.samples.failures]
        rows += [[f"{rate.rate:g}", *row] for row in found]
    return rows


def idle_text(comparison: Comparison) -> str:
    """Return the text about the table of idle connections."""
    return (
        f"{comparison.idle_connections:,} subscribers to which nobody publishes, for "
        f"{comparison.hold_seconds:g} s: too short for any server's heartbeats."
    )


def idle_lines(comparison: Comparison) -> list[list[str]]:
    """Return the rows of the table about idle connections, the header first."""
    shown = [
        Column("memory per connection", "{:.1f} KiB", _memory),
        Column("CPU of a connection, in a second", "{:.2f} µs", _per_idle_second),
        Column("other work", "{:.2f} cores", _disturbance),
    ]
    samples = comparison.idle
    rows = [["server", *(column.title for column in shown)], *medians(samples, shown)]
    return rows + [_left_out(title, "failed", len(shown)) for title in samples.failures]


def connect_lines(comparison: Comparison) -> list[list[str]]:
    """Return the rows of the table about connecting, the header first."""
    shown = [
        Column("CPU per connect", "{:,.0f} µs", per_connect),
        Column("of the bare route", "{:.2f} ×", per_connect, of=bare_route().title),
    ]
    rows = [["server", *(column.title for column in shown)]]
    return rows + medians(comparison.connects, shown)


def _fan_out(floor: str) -> list[Column]:
    """Return the columns of a fan-out; `floor` is the title of the cheapest server."""
    return [
        Column("CPU per delivery", "{:.1f} µs", per_delivery),
        Column("of the floor", "{:.2f} ×", per_delivery, of=floor),
        Column("deliveries/s", "{:,.0f}", _delivered),
        Column("p50", "{:,.1f} ms", _p50),
        Column("p99", "{:,.1f} ms", _p99),
        Column("memory per connection", "{:.1f} KiB", _memory),
        Column("busiest generator", "{:.0%}", lambda report: report.busiest_generator),
        Column("other work", "{:.2f} cores", _disturbance),
    ]


def _left_out(title: str, why: str, columns: int) -> list[str]:
    return [title, why, *[""] * (columns - 1)]


def verdicts(comparison: Comparison) -> list[str]:
    """Return for each rate whether our CPU per delivery is below every peer's, as required."""
    found = []
    for rate in comparison.rates:
        samples = rate.samples
        ours = samples.median(OURS, per_delivery)
        theirs = {
            title: cost
            for title in samples.reports
            if title not in (OURS, comparison.floor)
            and (cost := samples.median(title, per_delivery)) is not None
        }
        if ours is None or not theirs:
            continue
        best = min(theirs, key=lambda title: theirs[title])
        word = "below every peer" if ours < theirs[best] else "NOT below every peer"
        found.append(
            f"CPU per delivery at {rate.rate:g} messages/s, {word}: {ours:.2f} µs, "
            f"{best} {theirs[best]:.2f} µs"
        )
    return found


def losses(comparison: Comparison) -> list[str]:
    """Return, as sentences, the values in which peers were better than ours by more than noise."""
    found: list[str] = []
    for rate in comparison.rates:
        for name, cost in FAN_OUT_COSTS.items():
            what = f"{name} at {rate.rate:g} messages/s"
            found += _behind(rate.samples, cost, what, more_is_better=name == RATE)
    found += _behind(comparison.idle, _memory, "memory of an idle connection")
    found += _behind(comparison.idle, _per_idle_second, "CPU of an idle connection")
    found += _behind(comparison.connects, per_connect, "CPU per connect")
    return found


def _behind(
    samples: Samples, cost: Cost, what: str, *, more_is_better: bool = False
) -> Iterator[str]:
    ours = samples.median(OURS, cost)
    for title in samples.reports:
        times = ratio(samples.median(title, cost), ours)
        if times is not None and (times > 1 + NOISE if more_is_better else times < 1 - NOISE):
            yield f"{title}, {what}: {times:.0%} of ours"


def _too_slow(
    present: list[Peer], rates: list[Rate], rate: float, plan: ComparePlan
) -> dict[str, float]:
    """Return the peers that a rate would keep busy for too long, by their cost at earlier rates."""
    found = {}
    for peer in present[1:]:
        cost = median(earlier.samples.median(peer.title, per_delivery) for earlier in rates)
        cores = (cost or 0.0) / 1e6 * rate * plan.subscribers
        if cores * plan.seconds > MAX_CORE_SECONDS:
            found[peer.title] = cores
    return found


def _entrant(peer: Peer | None, scenario: Callable[[Target], Stage]) -> Entrant:
    return Entrant(OURS if peer is None else peer.title, partial(running, peer), scenario)


def _fanout(plan: ComparePlan, rate: float, target: Target) -> Stage:
    return fanout(
        target,
        subscribers=plan.subscribers,
        rate=rate,
        seconds=plan.seconds,
        payload_bytes=plan.payload_bytes,
    )


def _connect(plan: ComparePlan, target: Target) -> Stage:
    return connect(target, connections=plan.connections)


def _idle(plan: ComparePlan, target: Target) -> Stage:
    return idle(target, connections=plan.idle_connections, hold_seconds=plan.hold_seconds)


def _p50(report: Report) -> float | None:
    return report.delivery.p50 if report.delivery else None


def _p99(report: Report) -> float | None:
    return report.delivery.p99 if report.delivery else None


def _delivered(report: Report) -> float:
    return report.deliveries_per_second


def _disturbance(report: Report) -> float:
    return report.disturbance


def _per_idle_second(report: Report) -> float | None:
    return report.idle_cpu_us_per_second


def _memory(report: Report) -> float | None:
    each = report.memory_bytes_per_connection
    return None if each is None else each / 1024


RATE = "deliveries/s"
FAN_OUT_COSTS: dict[str, Cost] = {
    "CPU per delivery": per_delivery,
    "p50": _p50,
    "p99": _p99,
    RATE: _delivered,
    "memory per connection": _memory,
}
NOISE = 0.01
"""Share: a smaller difference means nothing."""
