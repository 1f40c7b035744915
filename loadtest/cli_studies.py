"""The commands that run many scenarios: bench, compare, plan and page."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from . import page as pages
from .accounting import cores
from .bench import Bench, Effort, bench
from .budgets import budget_lines, budgets, more_lines
from .capacity import Calibration, Check, calibrate, check
from .compare import ComparePlan, Comparison, compare, connect_lines, lines
from .crowd import SPARE_FILES, raise_file_limit
from .layout import columns, describe
from .model import Host, Load, plan
from .plot import draw_costs
from .sampling import Rounds
from .terminal import Line

Study = TypeVar("Study", Bench, Comparison, Calibration, Check)
Count = click.IntRange(1)
Positive = click.FloatRange(0.0, min_open=True)

_attempts = click.option(
    "--attempts", type=Count, default=1, show_default=True, help="Of a run while others disturb it."
)
_json = click.option("--json", "json", type=click.Path(dir_okay=False), help="Write it here too.")


def _effort(name: str, kind: click.ParamType[Any], text: str) -> Callable[..., Any]:
    """Return an option of `bench` whose default is that of `Effort`."""
    option = f"--{name.replace('_', '-')}"
    default = getattr(Effort(), name)
    return click.option(option, type=kind, default=default, show_default=True, help=text)


@click.command("bench")
@_effort("rounds", Count, "How often all take turns.")
@_effort("seconds", Positive, "For how long each run sends messages.")
@_effort("room", Count, "Subscribers of the room in which a delivery is measured.")
@_effort("crowd", Count, "Subscribers up to which the growth of its cost is measured.")
@_effort("packed", Count, "Connections with which memory and the garbage collector are measured.")
@_effort("connections", Count, "How many come in a storm.")
@_effort("hold_seconds", Positive, "For how long the packed connections do nothing.")
@_attempts
@_json
def bench_command(json: str | None, **effort: Any) -> None:
    """The budgets of the design: measured beside allowed, in some minutes.

    What is not met is said, and no failure: a machine may be busy with something else.
    """
    with Line() as line:
        found = bench(Effort(**effort), line.tell)
    _save(found, json)
    click.echo(describe(found.machine) + "\n")
    click.echo(columns(budget_lines(budgets(found))) + "\n")
    click.echo("\n".join(more_lines(found)))
    for key, failure in found.samples.failures.items():
        click.echo(f"{key}: {failure}", err=True)


@click.command("compare")
@click.option("--rounds", type=Count, default=3, show_default=True)
@click.option("--subscribers", type=Count, default=1000, show_default=True)
@click.option(
    "--rate", "rates", type=Positive, multiple=True, default=(5.0, 20.0, 500.0), show_default=True
)
@click.option("--seconds", type=Positive, default=4.0, help="Of each run.", show_default=True)
@click.option("--payload-bytes", type=click.IntRange(40, 2000), default=100, show_default=True)
@click.option("--connections", type=Count, default=1000, help="In a storm.", show_default=True)
@click.option("--only", multiple=True, metavar="PEER", help="floor nats fastapi quart socketio.")
@click.option("--plot", type=click.Path(dir_okay=False), help="Draw the costs into this file.")
@_attempts
@_json
def compare_command(json: str | None, plot: str | None, **options: Any) -> None:
    """The same fan-out against other servers, each on one core, in alternating rounds."""
    with Line() as line:
        found = compare(ComparePlan(**options), line.tell)
    _save(found, json)
    click.echo(describe(found.machine) + "\n")
    click.echo(columns(lines(found)) + "\n")
    click.echo(columns(connect_lines(found)))
    for title, lacking in found.missing.items():
        click.echo(f"skipped: {title} (not installed: {', '.join(lacking)})")
    for rate in found.rates:
        for title, failure in rate.samples.failures.items():
            click.echo(f"failed at {rate.rate:g}/s: {title}: {failure}", err=True)
    if plot is not None:
        samples = found.rates[0].samples
        costs = {
            title: samples.median(title, lambda report: report.cpu_us_per_delivery) or 0.0
            for title in samples.reports
        }
        draw_costs(costs, "µs of CPU per delivery", plot)


@click.command("plan")
@click.option("--connections", type=Count, default=1_000_000, show_default=True)
@click.option("--rooms", type=Count, default=20_000, show_default=True)
@click.option(
    "--rate", type=Positive, default=0.2, help="Messages/s in each room.", show_default=True
)
@click.option(
    "--reconnects", type=click.FloatRange(0), default=0.0, help="Connections that come in a second."
)
@click.option("--cores", type=Count, help="Of one machine; else those of this one.")
@click.option("--memory-gib", type=Positive, help="Of one machine; else that of this one.")
@click.option("--network-gbit", type=Positive, default=10.0, show_default=True)
@click.option("--max-connections", type=Count, help="Of one worker; else what open files allow.")
@click.option("--utilisation", type=click.FloatRange(0.05, 1), default=0.6, show_default=True)
@click.option("--costs", type=click.Path(exists=True, dir_okay=False), help="An earlier --json.")
@click.option("--check", "checks", is_flag=True, help="Hold the model to a real run as well.")
@click.option("--check-connections", type=Count, default=2000, show_default=True)
@click.option("--check-rooms", type=Count, default=100, show_default=True)
@click.option("--check-rate", type=Positive, default=15.0, show_default=True)
@click.option("--check-workers", type=Count, default=2, show_default=True)
@click.option("--room", type=Count, default=1000, help="To measure a delivery in.")
@click.option("--check-json", type=click.Path(dir_okay=False), help="Write the check here.")
@click.option("--rounds", type=Count, default=3, show_default=True)
@click.option("--seconds", type=Positive, default=5.0, help="Of each run.", show_default=True)
@click.option("--hold-seconds", type=Positive, default=26.0, help="Idle.", show_default=True)
@_attempts
@_json
def plan_command(costs: str | None, json: str | None, **options: Any) -> None:
    """What a load needs, from what things cost on this machine; measures that first."""
    rounds, seconds = Rounds(options["rounds"], options["attempts"]), options["seconds"]
    if costs is not None:
        found = msgspec.json.decode(Path(costs).read_bytes(), type=Calibration)
    else:
        with Line() as line:
            found = calibrate(
                rounds=rounds,
                room=options["room"],
                seconds=seconds,
                hold_seconds=options["hold_seconds"],
                tell=line.tell,
            )
    _save(found, json)
    load = Load(
        connections=options["connections"],
        rooms=options["rooms"],
        rate=options["rate"],
        reconnects=options["reconnects"],
    )
    click.echo(describe(found.machine) + "\n")
    click.echo(columns(pages.cost_lines(found.costs)) + "\n")
    click.echo(columns(pages.plan_lines(load, plan(found.costs, load, _host(found, options)))))
    if options["checks"]:
        with Line() as line:
            checked = check(
                found.costs,
                _check_load(options),
                workers=options["check_workers"],
                rounds=rounds,
                seconds=seconds,
                tell=line.tell,
            )
        _save(checked, options["check_json"])
        click.echo("\n" + columns(pages.check_lines(checked)))


@click.command("page")
@click.argument("file", type=click.Path(exists=True, dir_okay=False), default="docs/performance.md")
@click.option(
    "--results", type=click.Path(file_okay=False), default="docs/performance", show_default=True
)
@click.option("--measure", is_flag=True, help="Run everything first; some twenty minutes.")
@click.option("--rounds", type=Count, default=5, show_default=True)
@click.option("--attempts", type=Count, default=3, show_default=True, help="As of the others.")
@click.pass_context
def page_command(
    context: click.Context, /, file: str, results: str, measure: bool, **turns: int
) -> None:
    """Write the tables of a page from the JSON of runs."""
    folder = Path(results)
    if measure:
        folder.mkdir(exist_ok=True)
        context.invoke(bench_command, **turns, json=str(folder / pages.BENCH))
        context.invoke(compare_command, **turns, json=str(folder / pages.COMPARE))
        context.invoke(
            plan_command,
            **turns,
            checks=True,
            json=str(folder / pages.COSTS),
            check_json=str(folder / pages.CHECK),
        )
    pages.write(Path(file), folder)


def _host(found: Calibration, options: dict[str, Any]) -> Host:
    memory = options["memory_gib"]
    return Host(
        cores=options["cores"] or len(cores()) or os.cpu_count() or 1,
        memory_bytes=int(memory * 2**30) if memory else found.machine.memory_bytes,
        network_bits=options["network_gbit"] * 1e9,
        max_connections=options["max_connections"] or raise_file_limit() - SPARE_FILES,
        utilisation=options["utilisation"],
    )


def _check_load(options: dict[str, Any]) -> Load:
    rooms = options["check_rooms"]
    members = max(1, options["check_connections"] // rooms)
    return Load(connections=rooms * members, rooms=rooms, rate=options["check_rate"])


def _save(study: Study, path: str | None) -> None:
    if path is not None:
        text = msgspec.json.format(msgspec.json.encode(study), indent=1)
        Path(path).write_bytes(text + b"\n")
