"""The same load on other servers, in turns, and connecting against a bare route."""

from collections.abc import Callable, Collection, Iterator
from functools import partial

from msgspec import Struct, field

from .accounting import Machine, machine
from .budgets import per_connect, per_delivery
from .peers import Peer, bare_route, peers, running
from .report import Report
from .sampling import Cost, Entrant, Rounds, Samples, alternate, median, ratio
from .scenarios.connect import connect
from .scenarios.fanout import fanout
from .scenarios.idle import idle
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
    idle_connections: int = 0
    hold_seconds: float = 0.0
    idle: Samples = field(default_factory=Samples)


class ComparePlan(Struct, frozen=True, kw_only=True):
    """How to compare; `only` names the peers that take part, all if empty."""

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
    header = [
        *("messages/s", "server", "CPU per delivery", "of the floor", "deliveries/s"),
        *("p50", "p99", "memory per connection", "busiest generator", "other work"),
    ]
    rows = [header]
    for rate in comparison.rates:
        samples = rate.samples
        for title in samples.reports:
            rows += [[f"{rate.rate:g}", title, *_cells(samples, title, comparison.floor)]]
        for title, cores in rate.too_slow.items():
            left_out = f"left out: needs {cores:.0f} cores"
            rows += [[f"{rate.rate:g}", title, left_out, *[""] * 7]]
        for title in samples.failures:
            rows += [[f"{rate.rate:g}", title, "failed", *[""] * 7]]
    return rows


def summary_lines(comparison: Comparison) -> list[list[str]]:
    """Return the rows of a short table, of one rate that all can follow, the header first."""
    rates = [rate for rate in comparison.rates if not rate.too_slow]
    rows = [["server", "CPU per delivery", "of the floor", "p99", "memory per connection"]]
    if rates:
        samples = rates[-1].samples
        for title in samples.reports:
            cost, of_floor, _, _, p99, memory, _, _ = _cells(samples, title, comparison.floor)
            rows.append([title, cost, of_floor, p99, memory])
    return rows


def _cells(samples: Samples, title: str, floor: str) -> list[str]:
    def show(cost: Callable[[Report], float | None], text: str) -> str:
        value = samples.median(title, cost)
        return "unknown" if value is None else text.format(value)

    of_floor = samples.ratio(title, floor, per_delivery)
    return [
        show(per_delivery, "{:.1f} µs"),
        "unknown" if of_floor is None else f"{of_floor:.2f} ×",
        show(lambda report: report.deliveries_per_second, "{:,.0f}"),
        show(_p50, "{:,.1f} ms"),
        show(_p99, "{:,.1f} ms"),
        show(_memory, "{:.1f} KiB"),
        show(lambda report: report.busiest_generator, "{:.0%}"),
        show(lambda report: report.disturbance, "{:.2f} cores"),
    ]


def idle_text(comparison: Comparison) -> str:
    """Say what the table of idle connections is about."""
    return (
        f"{comparison.idle_connections:,} subscribers to which nobody publishes, for "
        f"{comparison.hold_seconds:g} s: too short for any server's heartbeats."
    )


def idle_lines(comparison: Comparison) -> list[list[str]]:
    """Return the rows of the table about connections that do nothing, the header first."""
    rows = [["server", "memory per connection", "CPU of a connection, in a second", "other work"]]
    samples = comparison.idle
    for title in samples.reports:
        memory, cost = samples.median(title, _memory), samples.median(title, _per_idle_second)
        others = samples.disturbance(title)
        rows.append(
            [
                title,
                "unknown" if memory is None else f"{memory:.1f} KiB",
                "unknown" if cost is None else f"{cost:.2f} µs",
                "unknown" if others is None else f"{others:.2f} cores",
            ]
        )
    return rows + [[title, "failed", "", ""] for title in samples.failures]


def connect_lines(comparison: Comparison) -> list[list[str]]:
    """Return the rows of the table about connecting, the header first."""
    rows = [["server", "CPU per connect", "of the bare route"]]
    theirs = bare_route().title
    for title in comparison.connects.reports:
        cost = comparison.connects.median(title, per_connect)
        of_bare = comparison.connects.ratio(title, theirs, per_connect)
        rows.append(
            [
                title,
                "unknown" if cost is None else f"{cost:,.0f} µs",
                "unknown" if of_bare is None else f"{of_bare:.2f} ×",
            ]
        )
    return rows


def verdicts(comparison: Comparison) -> list[str]:
    """Return for each rate whether our CPU per delivery is below that of every peer, as asked."""
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
    """Return, as sentences, where others were better than we by more than noise."""
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
    """Return whom a rate would keep busy for too long, judging by its cost at earlier rates."""
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
    RATE: lambda report: report.deliveries_per_second,
    "memory per connection": _memory,
}
NOISE = 0.01
"""A difference that means nothing."""
