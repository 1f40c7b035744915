"""The same fan-out against other servers, in turns, and connecting against a bare route."""

from collections.abc import Callable, Collection
from functools import partial

from msgspec import Struct

from .accounting import Machine, machine
from .peers import Peer, bare_route, peers, running
from .report import Report
from .sampling import Cost, Entrant, Rounds, Samples, alternate, median
from .scenarios.connect import connect
from .scenarios.fanout import fanout
from .server import Target
from .stage import Stage, Tell

OURS = "chat_server"
MAX_CORE_SECONDS = 45.0
"""A run that would keep a peer's core busy for longer is left out."""


class Rate(Struct, frozen=True):
    """One rate of fan-out: who took part, and who was left out for want of speed."""

    rate: float
    samples: Samples
    too_slow: dict[str, float]
    """By title, how many cores it would need."""


class Comparison(Struct, frozen=True):
    """What `compare` has found; `missing` are the peers that are not installed, by what lacks."""

    machine: Machine
    rounds: int
    subscribers: int
    seconds: float
    payload_bytes: int
    rates: list[Rate]
    connects: Samples
    floor: str
    missing: dict[str, list[str]]


class ComparePlan(Struct, frozen=True, kw_only=True):
    """How to compare; `only` names the peers that take part, all if empty."""

    rounds: int
    attempts: int
    subscribers: int
    rates: tuple[float, ...]
    seconds: float
    payload_bytes: int
    connections: int
    only: Collection[str] = ()


def compare(plan: ComparePlan, tell: Tell) -> Comparison:
    """Run the comparison, telling how far it is."""
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
    )


def lines(comparison: Comparison) -> list[list[str]]:
    """Return the rows of a table for each rate, the header first."""
    header = [
        *("messages/s", "server", "CPU per delivery", "of the floor", "deliveries/s"),
        *("p50", "p99", "memory per connection", "other work"),
    ]
    rows = [header]
    for rate in comparison.rates:
        samples = rate.samples
        for title in samples.reports:
            rows += [[f"{rate.rate:g}", title, *_cells(samples, title, comparison.floor)]]
        for title, cores in rate.too_slow.items():
            left_out = f"left out: needs {cores:.0f} cores"
            rows += [[f"{rate.rate:g}", title, left_out, *[""] * 6]]
        for title in samples.failures:
            rows += [[f"{rate.rate:g}", title, "failed", *[""] * 6]]
    return rows


def summary_lines(comparison: Comparison) -> list[list[str]]:
    """Return the rows of a short table, of one rate that all can follow, the header first."""
    rates = [rate for rate in comparison.rates if not rate.too_slow]
    rows = [["server", "CPU per delivery", "of the floor", "p99", "memory per connection"]]
    if rates:
        samples = rates[-1].samples
        for title in samples.reports:
            cost, of_floor, _, _, p99, memory, _ = _cells(samples, title, comparison.floor)
            rows.append([title, cost, of_floor, p99, memory])
    return rows


def _cells(samples: Samples, title: str, floor: str) -> list[str]:
    def show(cost: Callable[[Report], float | None], text: str) -> str:
        value = samples.median(title, cost)
        return "unknown" if value is None else text.format(value)

    of_floor = samples.ratio(title, floor, _per_delivery)
    return [
        show(_per_delivery, "{:.1f} µs"),
        "unknown" if of_floor is None else f"{of_floor:.2f} ×",
        show(lambda report: report.deliveries_per_second, "{:,.0f}"),
        show(lambda report: report.delivery.p50 if report.delivery else None, "{:,.1f} ms"),
        show(lambda report: report.delivery.p99 if report.delivery else None, "{:,.1f} ms"),
        show(_memory, "{:.1f} KiB"),
        show(lambda report: report.disturbance, "{:.2f} cores"),
    ]


def connect_lines(comparison: Comparison) -> list[list[str]]:
    """Return the rows of the table about connecting, the header first."""
    rows = [["server", "CPU per connect", "of the bare route"]]
    theirs = bare_route().title
    for title in comparison.connects.reports:
        cost = comparison.connects.median(title, _per_connect)
        of_bare = comparison.connects.ratio(title, theirs, _per_connect)
        rows.append(
            [
                title,
                "unknown" if cost is None else f"{cost:,.0f} µs",
                "unknown" if of_bare is None else f"{of_bare:.2f} ×",
            ]
        )
    return rows


def losses(comparison: Comparison) -> list[str]:
    """Return, as sentences, where others were better than we."""
    named: dict[str, Cost] = {
        "CPU per delivery": _per_delivery,
        "p99": lambda report: report.delivery.p99 if report.delivery else None,
        "memory per connection": _memory,
    }
    found = []
    for rate in comparison.rates:
        for name, cost in named.items():
            ours = rate.samples.median(OURS, cost)
            for title in rate.samples.reports:
                theirs = rate.samples.median(title, cost)
                if ours is not None and theirs is not None and theirs < ours:
                    share = f"{theirs / ours:.0%} of ours"
                    found.append(f"{title}, {name} at {rate.rate:g} messages/s: {share}")
    theirs, ours = (
        comparison.connects.median(title, _per_connect) for title in (bare_route().title, OURS)
    )
    if theirs is not None and ours is not None and theirs < ours:
        found.append(f"{bare_route().title}, CPU per connect: {theirs / ours:.0%} of ours")
    return found


def _too_slow(
    present: list[Peer], rates: list[Rate], rate: float, plan: ComparePlan
) -> dict[str, float]:
    """Return whom a rate would keep busy for too long, judging by its cost at earlier rates."""
    found = {}
    for peer in present[1:]:
        cost = median(earlier.samples.median(peer.title, _per_delivery) for earlier in rates)
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


def _per_delivery(report: Report) -> float | None:
    return report.cpu_us_per_delivery


def _per_connect(report: Report) -> float | None:
    return report.cpu_us_per_connect


def _memory(report: Report) -> float | None:
    each = report.memory_bytes_per_connection
    return None if each is None else each / 1024
