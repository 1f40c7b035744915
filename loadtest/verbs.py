"""The costs of changes and cursors, relative to a message of the same run."""

from collections.abc import Callable
from functools import partial

from msgspec import Struct
from msgspec.structs import replace

from .accounting import Machine, machine
from .budgets import per_delivery, per_publish
from .layout import describe, markdown
from .report import Report
from .sampling import Cost, Entrant, Rounds, Samples, alternate
from .scenarios.asks import asks
from .scenarios.publish import publish
from .scenarios.streams import streams
from .server import Target, started
from .stage import Stage, Tell


class VerbsPlan(Struct, frozen=True, kw_only=True):
    """The size of the measurement.

    Args:
        rounds: number of alternating rounds.
        attempts: attempts of one run while other work disturbs the machine.
        rooms: rooms with one streamed message each.
        readers: readers of each room.
        rate: appends per second to each message.
        seconds: seconds of sending in each run.
        connections: connections that change messages, each with one command under way.
        askers: connections that ask for `history` and `unread`, each with one command under way.
    """

    rounds: int = 3
    attempts: int = 1
    rooms: int = 50
    readers: int = 20
    rate: float = 40.0
    seconds: float = 3.0
    connections: int = 50
    askers: int = 10


class Verbs(Struct, frozen=True):
    """The result of a run."""

    machine: Machine
    plan: VerbsPlan
    samples: Samples


class _Bound(Struct, frozen=True):
    """The bound of a cost.

    Args:
        what: the name of the cost.
        key: the measured entrant.
        than: the reference entrant.
        cost: the compared cost.
        most: the bound, in multiples of the reference's cost.
    """

    what: str
    key: str
    than: str
    cost: Cost
    most: float


def _with_redis(report: Report) -> float | None:
    own, redis = report.cpu_us_per_publish, report.redis_cpu_us_per_publish
    return None if own is None or redis is None else own + redis


BOUNDS = [
    _Bound("CPU per delivery of an append of 20 bytes", "appended", "message", per_delivery, 1.1),
    *(
        _Bound(f"{name} with ack, Redis: CPU of {whose}", name, "publish", cost, 1.5)
        for name in ("edit", "react", "append")
        for whose, cost in {"the worker": per_publish, "both": _with_redis}.items()
    ),
    _Bound("unread for 100 topics: CPU of both", "unread", "history", _with_redis, 3.0),
]


def verbs(plan: VerbsPlan, tell: Tell) -> Verbs:
    """Run all measurements, and report the progress."""
    delivering = partial(
        streams, rooms=plan.rooms, readers=plan.readers, rate=plan.rate, seconds=plan.seconds
    )
    changing = partial(publish, publishers=plan.connections, window=1, seconds=plan.seconds)
    asking = partial(asks, connections=plan.askers, seconds=plan.seconds)
    entrants = [
        Entrant("message", started, delivering),
        Entrant("appended", started, partial(_spoken, "append", delivering)),
        *(
            Entrant(name, partial(started, redis=True), partial(_spoken, dialect, scenario))
            for name, dialect, scenario in (
                ("publish", "chat", changing),
                ("edit", "edit", changing),
                ("react", "react", changing),
                ("append", "append", changing),
                ("history", "history", asking),
                ("unread", "unread", asking),
            )
        ),
    ]
    samples = alternate(entrants, Rounds(plan.rounds, plan.attempts), tell)
    return Verbs(machine(), plan, samples)


def _spoken(dialect: str, scenario: Callable[[Target], Stage], target: Target) -> Stage:
    return scenario(replace(target, dialect=dialect))


def verbs_lines(found: Verbs) -> list[list[str]]:
    """Return the rows of a table, the header first."""
    rows = [["what", "at most", "measured", "relative", "", "other work"]]
    for bound in BOUNDS:
        mine = found.samples.median(bound.key, bound.cost)
        theirs = found.samples.median(bound.than, bound.cost)
        times = found.samples.ratio(bound.key, bound.than, bound.cost)
        row = [bound.what, f"{bound.most:g} × {bound.than}"]
        if mine is None or theirs is None or times is None:
            rows.append([*row, "unknown", "", "", ""])
            continue
        disturbance = found.samples.disturbance(bound.key, bound.than) or 0.0
        rows.append(
            [
                *row,
                f"{mine:,.1f} µs, {bound.than} {theirs:,.1f} µs",
                f"{times:.2f} ×",
                "met" if times <= bound.most else "NOT MET",
                f"{disturbance:.2f} cores",
            ]
        )
    return rows


def verbs_text(found: Verbs) -> str:
    """Return the page's text about a run."""
    plan = found.plan
    about = (
        f"{plan.rooms} messages in as many rooms with {plan.readers} readers each grow by "
        f"{plan.rate:g} appends a second; {plan.connections} connections change messages, and "
        f"{plan.askers} ask, with one command under way each. Medians of {plan.rounds} "
        f"alternating rounds, {plan.seconds:g} s each. {describe(found.machine)}"
    )
    return f"{about}\n\n{markdown(verbs_lines(found))}"
