"""The table of `front`: each cost with its bound, including costs that exceed Centrifugo's."""

from msgspec import Struct

from .budgets import per_connect, per_delivery, per_publish
from .dialects import BATCH, NOT_SERVED
from .front import BEFORE, MEMORY, OURS, REDIS, STORES, STORM, Front, key_of
from .layout import describe, markdown
from .peers.centrifugo import TITLE as CENTRIFUGO
from .report import Report
from .sampling import Cost
from .storm import storm_cpu_seconds, storm_seconds


class Row(Struct, frozen=True):
    """The bound of a cost, relative to Centrifugo's cost.

    Args:
        what: the name of the cost.
        scenario, store: the key of the reports.
        cost: the compared cost.
        redis: the additional cost of Redis.
        most: the bound, in multiples of Centrifugo's cost.
        text: a format string for a cost.
    """

    what: str
    scenario: str
    store: str
    cost: Cost
    redis: Cost
    most: float
    text: str = "{:,.1f} µs"

    def key(self, server: str) -> str:
        """Return the key of a server's reports."""
        return key_of(self.scenario, self.store, server)


def _redis_per_connect(report: Report) -> float | None:
    return report.redis_cpu_us_per_connect


def _redis_per_publish(report: Report) -> float | None:
    return report.redis_cpu_us_per_publish


def _redis_per_delivery(report: Report) -> float | None:
    each = report.redis_cpu_us_per_publish
    return None if each is None else each * report.acknowledged / max(1, report.deliveries)


def _each(cost: Cost) -> Cost:
    """Return the cost of one message of a batch."""

    def one(report: Report) -> float | None:
        whole = cost(report)
        return None if whole is None else whole / BATCH

    return one


def _redis_of_storm(report: Report) -> float | None:
    each = report.redis_cpu_us_per_connect
    return None if each is None else each * report.connections / 1e6


def _no_redis(_report: Report) -> float | None:
    return None


_COSTS: dict[str, tuple[str, Cost, Cost, tuple[float, float]]] = {
    "connect": ("connect, token, subscribe", per_connect, _redis_per_connect, (1.0, 1.0)),
    "resume": (
        "connect, subscribe with missed events",
        per_connect,
        _redis_per_connect,
        (1.0, 1.0),
    ),
    "rooms": ("delivery in rooms", per_delivery, _redis_per_delivery, (0.8, 0.9)),
    "http": ("message by HTTP", per_publish, _redis_per_publish, (2.0, 2.0)),
    "batch": (
        f"message by HTTP, {BATCH} in a batch",
        _each(per_publish),
        _each(_redis_per_publish),
        (0.5, 0.5),
    ),
    "ack": ("publish with its ack", per_publish, _redis_per_publish, (1.0, 0.75)),
}

ROWS = [
    *(
        Row(what, scenario, store, cost, redis, most)
        for scenario, (what, cost, redis, bounds) in _COSTS.items()
        for store, most in zip(STORES, bounds, strict=True)
    ),
    Row("storm, a client that comes back", STORM, REDIS, per_connect, _redis_per_connect, 1.0),
    *(
        Row(what, STORM, REDIS, cost, redis, 1.0, "{:.2f} s")
        for what, cost, redis in (
            ("storm, CPU from the start to the last client", storm_cpu_seconds, _redis_of_storm),
            ("storm, time from the start to the last client", storm_seconds, _no_redis),
        )
    ),
]


def front_lines(found: Front) -> list[list[str]]:
    """Return the rows of a table, the header first."""
    header = ["what", "store", "at most", "ours", "Centrifugo", "relative", ""]
    rows = [[*header, "of the build before", "Redis: ours, Centrifugo", "other work"]]
    wanted = found.plan.only
    return rows + [_cells(found, row) for row in ROWS if not wanted or row.scenario in wanted]


def _cells(found: Front, row: Row) -> list[str]:
    samples = found.samples
    times = samples.ratio(row.key(OURS), row.key(CENTRIFUGO), row.cost)
    before = samples.ratio(row.key(OURS), row.key(BEFORE), row.cost)
    disturbance = samples.disturbance(*(row.key(each) for each in (OURS, BEFORE, CENTRIFUGO)))
    verdict = "" if times is None else "met" if times <= row.most else "NOT MET"
    redis = ", ".join(_cost(found, row, each, row.redis) for each in (OURS, CENTRIFUGO))
    return [
        row.what,
        row.store,
        f"{row.most:g} × Centrifugo",
        _cost(found, row, OURS, row.cost),
        _cost(found, row, CENTRIFUGO, row.cost),
        "" if times is None else f"{times:.2f} ×",
        verdict,
        "" if before is None else f"{before:.2f} ×",
        "" if row.store == MEMORY or row.redis is _no_redis else redis,
        "" if disturbance is None else f"{disturbance:.2f} cores",
    ]


def _cost(found: Front, row: Row, server: str, cost: Cost) -> str:
    failure = found.samples.failures.get(row.key(server))
    if failure is not None:
        return NOT_SERVED if failure.startswith(NOT_SERVED) else "failed"
    value = found.samples.median(row.key(server), cost)
    return "unknown" if value is None else row.text.format(value)


def front_problems(found: Front) -> list[str]:
    """Return, as sentences, missing measurements and runs with losses."""
    problems = [f"{key}: {failure}" for key, failure in found.samples.failures.items()]
    if found.peer is None:
        problems.append(f"skipped, not found: {CENTRIFUGO}")
    for key, reports in found.samples.reports.items():
        wrong = sum(not report.passed for report in reports)
        if wrong:
            problems.append(f"{key}: in {wrong} of {len(reports)} runs something was lost")
    return problems


def front_text(found: Front) -> str:
    """Return the page's text about a run."""
    plan = found.plan
    about = (
        f"{plan.connections:,} clients with a token each come to 20 rooms and leave; those that "
        f"resume missed {plan.missed} events. {plan.rooms} rooms of {plan.subscribers} subscribers "
        f"get {plan.rate:g} publications a second. {plan.posters} HTTP and {plan.publishers} "
        f"WebSocket connections have one request or publication under way each. In the storm "
        f"{plan.clients:,} clients in {plan.client_rooms} rooms missed {plan.client_missed} events "
        f"each. {plan.payload_bytes} bytes of data, medians of {plan.rounds} alternating rounds, "
        f"{plan.seconds:g} s each. {CENTRIFUGO} {found.peer or 'was not found'}. "
        f"{describe(found.machine)}"
    )
    problems = "".join(f"\n- {problem}" for problem in front_problems(found))
    return "\n\n".join(filter(None, [about, markdown(front_lines(found)), problems.strip()]))
