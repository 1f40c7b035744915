"""Writes the tables of docs/performance.md and README.md from the JSON of runs: none is by hand."""

from pathlib import Path
from typing import TypeVar

import msgspec

from .bench import Bench
from .budgets import budget_lines, budgets, more_lines
from .capacity import Calibration, Check
from .compare import (
    Comparison,
    connect_lines,
    idle_lines,
    idle_text,
    lines,
    losses,
    summary_lines,
    verdicts,
)
from .layout import describe, markdown, replace_section, section_names
from .model import Costs, Host, Load, Plan, plan
from .wire import InputError

Study = TypeVar("Study", Bench, Comparison, Calibration, Check)

BENCH, COMPARE, COSTS, CHECK = "bench.json", "compare.json", "costs.json", "check.json"
PICTURE = "compare.svg"

EXAMPLE = Load(connections=1_000_000, rooms=20_000, rate=0.2, reconnects=1000)
EXAMPLE_HOST = Host(
    cores=16, memory_bytes=64 * 2**30, network_bits=10e9, max_connections=64_000, utilisation=0.6
)


def write(page: Path, folder: Path) -> None:
    """Write every table that the page has a section for, and `folder` a file.

    Raises:
        InputError: there is none.
    """
    sections: dict[str, str] = {}
    if (path := folder / BENCH).exists():
        sections |= _bench(read(path, Bench))
    if (path := folder / COMPARE).exists():
        sections |= _compare(read(path, Comparison))
    if (path := folder / COSTS).exists():
        sections |= _plan(read(path, Calibration))
    if (path := folder / CHECK).exists():
        sections["check"] = _check(read(path, Check))
    if not sections:
        raise InputError(f"{folder} has no results; measure them with --measure")
    wanted = sections.keys() & section_names(page)
    if not wanted:
        raise InputError(f"{page} has no section for a table; they are {', '.join(sections)}")
    for name in wanted:
        replace_section(page, name, sections[name])


def read(path: Path, kind: type[Study]) -> Study:
    """Return what a run has written.

    Raises:
        InputError: it is something else.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except msgspec.DecodeError as error:
        raise InputError(f"{path} is no {kind.__name__.lower()} of a run: {error}") from None


def cost_lines(costs: Costs) -> list[list[str]]:
    """Return the rows of a table of costs, the header first."""
    return [
        ["what", "cost"],
        ["a delivery", f"{costs.delivery_us:.1f} µs"],
        ["a publication: taken, stored, acknowledged", f"{costs.publish_us:.1f} µs"],
        ["a publication received from Redis by a worker", f"{costs.receive_us:.1f} µs"],
        ["a connect with its subscription", f"{costs.connect_us:,.0f} µs"],
        ["an idle connection, in a second", f"{costs.idle_us_per_second:.2f} µs"],
        ["a publication stored by Redis", f"{costs.store_us:.1f} µs"],
        ["a publication sent by Redis to a worker", f"{costs.forward_us:.1f} µs"],
        ["memory of a connection", f"{costs.connection_bytes / 1024:.1f} KiB"],
        ["memory of a worker without connections", f"{costs.worker_bytes / 2**20:.0f} MiB"],
        ["a delivery on the wire, headers aside", f"{costs.frame_bytes:.0f} bytes"],
    ]


def plan_lines(load: Load, found: Plan) -> list[list[str]]:
    """Return the rows of a table of what a load needs, the header first."""
    usage = found.usage
    limits = ", ".join(f"{name} {count:,}" for name, count in found.machines_for.items())
    wanted = f"{load.connections:,} connections in {load.rooms:,} rooms"
    return [
        ["for", f"{wanted}, {load.rate:g} messages/s in each"],
        ["publications, deliveries", f"{load.publications:,.0f}/s, {load.deliveries:,.0f}/s"],
        ["workers", f"{usage.workers:,} ({_needs(found.workers_for)})"],
        ["CPU of the workers", f"{usage.worker_cores:,.1f} cores busy"],
        ["memory of the workers", f"{usage.memory_bytes / 2**30:,.1f} GiB"],
        ["network to clients", f"{usage.network_bits / 1e9:,.2f} Gbit/s"],
        ["CPU of Redis", f"{usage.redis_cores:,.1f} cores busy: {found.shards:,} shards"],
        ["network of Redis", f"{usage.redis_network_bits / 1e9:,.2f} Gbit/s"],
        ["machines", f"{found.machines:,} ({limits})"],
        ["which limit comes first", found.limit],
    ]


def check_lines(found: Check) -> list[list[str]]:
    """Return the rows of a table of predicted and measured, the header first."""
    rows = [["what", "predicted", "measured", "measured / predicted"]]
    for one in found.compared:
        measured = "unknown" if one.measured is None else f"{one.measured:,.2f}"
        known = one.measured is not None and one.predicted
        of = f"{one.measured / one.predicted:.2f}" if known and one.measured is not None else ""
        rows.append([one.what, f"{one.predicted:,.2f}", measured, of])
    return rows


def _needs(workers_for: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in workers_for.items())


def _bench(found: Bench) -> dict[str, str]:
    effort = found.effort
    runs = f"Medians of {effort.rounds} alternating rounds, {effort.seconds:g} s each."
    more = "\n".join(f"- {line}" for line in more_lines(found))
    table = markdown(budget_lines(budgets(found)))
    return {"machine": describe(found.machine), "bench": f"{runs}\n\n{table}\n\n{more}"}


def _compare(found: Comparison) -> dict[str, str]:
    runs = (
        f"One room of {found.subscribers:,} subscribers, {found.payload_bytes} bytes of data, "
        f"{found.rounds} alternating rounds of {found.seconds:g} s, medians. "
        f"{describe(found.machine)}"
    )
    skipped = [f"- skipped, not installed: {title}" for title in found.missing]
    skipped += [
        f"- failed at {rate.rate:g}/s: {title}"
        for rate in found.rates
        for title in rate.samples.failures
    ]
    text = "\n\n".join([runs, markdown(lines(found)), "\n".join(skipped)])
    return {
        "compare": text,
        "summary": markdown(summary_lines(found)),
        "idle": idle_text(found) + "\n\n" + markdown(idle_lines(found)),
        "connect": markdown(connect_lines(found)),
        "verdict": "\n".join(f"- {line}" for line in verdicts(found)),
        "losses": "\n".join(f"- {loss}" for loss in losses(found)) or "Nowhere in these runs.",
    }


def _plan(found: Calibration) -> dict[str, str]:
    example = plan(found.costs, EXAMPLE, EXAMPLE_HOST)
    costs = f"Medians of {found.rounds} rounds.\n\n{markdown(cost_lines(found.costs))}"
    return {"costs": costs, "plan": markdown(plan_lines(EXAMPLE, example))}


def _check(found: Check) -> str:
    load = found.load
    what = (
        f"{load.connections:,} connections in {load.rooms:,} rooms, {load.rate:g} messages/s in "
        f"each, {found.workers} workers and Redis, median of {found.rounds} runs."
    )
    return f"{what}\n\n{markdown(check_lines(found))}"
