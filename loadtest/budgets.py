"""The budgets of the design, each with the measured value of a bench."""

from collections.abc import Iterator

from msgspec import Struct

from .bench import (
    BARE,
    BURST,
    CONNECT,
    CROWDED,
    CROWDED_FLOOR,
    FLOOR,
    MEMORY,
    PACKED,
    REDIS,
    STEADY,
    Bench,
)
from .pauses import longest
from .report import Report
from .sampling import Cost, Samples, median, ratio


class Budget(Struct, frozen=True):
    """One budget: the limit, the measured value, and the verdict.

    Args:
        disturbance: cores occupied by other work meanwhile, the median of the runs.
    """

    what: str
    budget: str
    measured: str = ""
    met: bool | None = None
    disturbance: float | None = None

    @property
    def verdict(self) -> str:
        """Say in words whether the budget is met."""
        return {True: "met", False: "NOT MET", None: "not measured"}[self.met]


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
        _growth(bench),
        _pauses(bench),
    ]


def budget_lines(found: list[Budget]) -> list[list[str]]:
    """Return the rows of a table, the header first."""
    rows = [["what", "budget", "measured", "", "other work"]]
    for one in found:
        others = "" if one.disturbance is None else f"{one.disturbance:.2f} cores"
        rows.append([one.what, one.budget, one.measured, one.verdict, others])
    return rows


def more_lines(bench: Bench) -> Iterator[str]:
    """Yield further findings, and the duration."""
    samples = bench.samples
    for report in samples.reports.get(PACKED, []):
        if report.connections < bench.effort.packed:
            yield (
                f"open files (`ulimit -n`) allow {report.connections:,} connections on this "
                f"machine, not {bench.effort.packed:,}"
            )
        for generation, found in report.pauses.items():
            yield (
                f"with {report.connections:,} connections, from the first to their end, garbage "
                f"collections of generation {generation}: {found.count:,}, "
                f"{found.total_ms:,.0f} ms in all, the longest {found.longest_ms:.1f} ms, "
                f"of CPU time {found.longest_cpu_ms:.1f} ms"
            )
    grown = samples.ratio(CROWDED_FLOOR, FLOOR, per_delivery)
    if grown is not None:
        yield f"the floor's own cost per delivery grows by {grown - 1:+.0%} to as many connections"
    if bench.took_seconds is not None:
        yield f"took {bench.took_seconds / 60:.1f} minutes"


def per_delivery(report: Report) -> float | None:
    """Return the server's CPU time of a delivery."""
    return report.cpu_us_per_delivery


def per_publish(report: Report) -> float | None:
    """Return the server's CPU time of a publication with its answer."""
    return report.cpu_us_per_publish


def per_connect(report: Report) -> float | None:
    """Return the server's CPU time of a connection with its subscription."""
    return report.cpu_us_per_connect


def _judged(
    samples: Samples,
    keys: tuple[str, ...],
    unmeasured: Budget,
    value: float | None,
    limit: float,
    text: str,
) -> Budget:
    """Return a budget with its measured value; a value of at most `limit` meets the budget."""
    if value is None:
        return unmeasured
    others = samples.disturbance(*keys)
    return Budget(unmeasured.what, unmeasured.budget, text, value <= limit, others)


def _of_other(
    samples: Samples, budget: Budget, keys: tuple[str, str], cost: Cost, limit: float, name: str
) -> Budget:
    """Judge a cost of the first of two entrants by the cost of the other one, named `name`."""
    times, ours, theirs = (
        samples.ratio(*keys, cost),
        samples.median(keys[0], cost),
        samples.median(keys[1], cost),
    )
    text = ""
    if times and ours and theirs:
        digits = 0 if ours >= 100 else 1
        text = f"{ours:,.{digits}f} µs, {name} {theirs:,.{digits}f} µs: {times:.2f} ×"
    return _judged(samples, keys, budget, times, limit, text)


def _of_floor(samples: Samples, what: str, key: str, limit: float) -> Budget:
    budget = Budget(what, f"{limit:g} × the floor")
    return _of_other(samples, budget, (key, FLOOR), per_delivery, limit, "floor")


def _connecting(samples: Samples) -> Budget:
    budget = Budget("handshake with JWT and one subscribe", "1 × a bare Quart route")
    return _of_other(samples, budget, (CONNECT, BARE), per_connect, 1.0, "bare")


def _publishing(samples: Samples, what: str, key: str, limit: float) -> Budget:
    pairs = zip(samples.reports.get(key, []), samples.reports.get(FLOOR, []), strict=False)
    times = median(ratio(per_publish(mine), per_delivery(theirs)) for mine, theirs in pairs)
    cost = samples.median(key, per_publish)
    rate = samples.median(key, lambda report: report.publishes_per_second)
    text = f"{cost:.1f} µs at {rate:,.0f}/s: {times:.1f} ×" if times and cost else ""
    budget = Budget(what, f"{limit:g} × a delivery of the floor")
    return _judged(samples, (key, FLOOR), budget, times, limit, text)


def _idle_memory(samples: Samples) -> Budget:
    each = samples.median(PACKED, lambda report: report.memory_bytes_per_connection)
    budget = Budget("memory of an idle connection", "8 KiB")
    text = "" if each is None else f"{each / 1024:.1f} KiB"
    return _judged(samples, (PACKED,), budget, each, 8 * 1024, text)


def _latency(samples: Samples) -> Budget:
    p99 = samples.median(STEADY, lambda report: report.delivery.p99 if report.delivery else None)
    budget = Budget("p99 of delivery at 20 messages/s", "50 ms")
    text = "" if p99 is None else f"{p99:.1f} ms"
    return _judged(samples, (STEADY,), budget, p99, 50.0, text)


def _growth(bench: Bench) -> Budget:
    samples = bench.samples
    grown = samples.ratio(CROWDED, STEADY, per_delivery)
    many, few = samples.median(CROWDED, per_delivery), samples.median(STEADY, per_delivery)
    text = f"{few:.1f} to {many:.1f} µs: {grown - 1:+.0%}" if grown and few and many else ""
    connections = _connections(samples, CROWDED, bench.effort.crowd)
    what = f"CPU per delivery, {bench.effort.room:,} to {connections:,} connections"
    return _judged(samples, (CROWDED, STEADY), Budget(what, "20 % more"), grown, 1.2, text)


def _pauses(bench: Bench) -> Budget:
    samples = bench.samples
    worst = samples.median(PACKED, lambda report: longest(report.pauses))
    connections = _connections(samples, PACKED, bench.effort.packed)
    what = f"longest pause of the garbage collector, {connections:,} connections"
    text = "" if worst is None else f"{worst:.1f} ms"
    return _judged(samples, (PACKED,), Budget(what, "20 ms"), worst, 20.0, text)


def _connections(samples: Samples, key: str, asked: int) -> int:
    """Return the number of connections in the runs, or `asked` without a run."""
    return max((report.connections for report in samples.reports.get(key, [])), default=asked)
