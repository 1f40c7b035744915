"""The commands that run many scenarios: bench, compare, plan and page."""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
import msgspec

from . import options as kinds
from . import page as pages
from .accounting import cores
from .bench import Bench, Effort, bench
from .budgets import budget_lines, budgets, more_lines
from .capacity import Calibration, Check, calibrate, check
from .compare import (
    ComparePlan,
    Comparison,
    compare,
    connect_lines,
    idle_lines,
    lines,
    verdicts,
)
from .crowd import SPARE_FILES, raise_file_limit
from .layout import columns, describe
from .model import Host, Load, plan
from .options import Count, NotNegative, Payload, Positive, of
from .peers import peers
from .plot import draw_costs
from .sampling import Rounds
from .terminal import Line
from .wire import InputError

_BENCH, _COMPARE = Effort(), ComparePlan()


@click.command(
    "bench", epilog=kinds.examples("bench", "bench --rounds 5 --attempts 3 --json bench.json")
)
@of(_BENCH, "rounds", Count, "How often all take turns.")
@of(_BENCH, "seconds", Positive, "For how long each run sends messages.")
@of(_BENCH, "room", Count, "Subscribers of the room in which a delivery is measured.")
@of(_BENCH, "crowd", Count, "Subscribers up to which the growth of its cost is measured.")
@of(_BENCH, "packed", Count, "Connections with which memory and garbage are measured.")
@of(_BENCH, "connections", Count, "How many come in a storm.")
@kinds.attempts
@kinds.json
def bench_command(json: str | None, **effort: Any) -> None:
    """The budgets of the design: measured beside allowed, in less than five minutes.

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


@click.command(
    "compare",
    epilog=kinds.examples(
        "compare --plot costs.svg", "compare --only floor --only nats --rate 20 --rounds 1"
    ),
)
@of(_COMPARE, "rounds", Count, "How often all take turns.")
@of(_COMPARE, "subscribers", Count, "Of the room.")
@click.option(
    "--rate",
    "rates",
    type=Positive,
    multiple=True,
    default=_COMPARE.rates,
    show_default=True,
    help="Messages a second; may be given several times.",
)
@of(_COMPARE, "seconds", Positive, "For how long each run sends messages.")
@of(_COMPARE, "payload_bytes", Payload, "How long the JSON text of each message's data is.")
@of(_COMPARE, "connections", Count, "How many come in a storm.")
@of(_COMPARE, "idle_connections", Count, "How many do nothing.")
@of(_COMPARE, "hold_seconds", Positive, "For how long those do nothing.")
@click.option(
    "--only",
    multiple=True,
    type=click.Choice([peer.name for peer in peers()]),
    help="A peer that takes part, instead of all; may be given several times.",
)
@click.option("--plot", type=kinds.Picture(), help="Draw the costs of a delivery into this file.")
@kinds.attempts
@kinds.json
def compare_command(json: str | None, plot: str | None, **options: Any) -> None:
    """The same load on other servers, each on one core, in alternating rounds."""
    with Line() as line:
        found = compare(ComparePlan(**options), line.tell)
    _save(found, json)
    click.echo(describe(found.machine) + "\n")
    for table in (lines(found), idle_lines(found), connect_lines(found)):
        click.echo(columns(table) + "\n")
    click.echo("\n".join(verdicts(found)))
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


@click.command(
    "plan",
    epilog=kinds.examples(
        "plan --connections 200000 --rooms 5000 --rate 0.5 --json costs.json",
        "plan --costs costs.json --connections 1000000 --cores 16 --memory-gib 64",
        "plan --check",
    ),
)
@click.option(
    "--connections",
    type=Count,
    default=1_000_000,
    show_default=True,
    help="Each in one room.",
)
@click.option("--rooms", type=Count, default=20_000, show_default=True, help="Of the same size.")
@click.option(
    "--rate", type=Positive, default=0.2, show_default=True, help="Messages a second in each room."
)
@click.option(
    "--reconnects",
    type=NotNegative,
    default=0.0,
    show_default=True,
    help="Connections that come in a second.",
)
@click.option("--cores", type=Count, help="Of one machine; without it those of this one.")
@click.option("--memory-gib", type=Positive, help="Of one machine; without it that of this one.")
@click.option(
    "--network-gbit",
    type=Positive,
    default=10.0,
    show_default=True,
    help="Of one machine, in a second.",
)
@click.option(
    "--max-connections", type=Count, help="Of one worker; without it what open files allow here."
)
@click.option(
    "--utilisation",
    type=kinds.Number(0.05, 1),
    default=0.6,
    show_default=True,
    help="The share of cores, memory and network that may be used.",
)
@click.option(
    "--costs",
    type=click.Path(exists=True, dir_okay=False),
    help="The --json of an earlier plan, instead of measuring again.",
)
@click.option("--check", "checks", is_flag=True, help="Hold the model to a real run as well.")
@click.option(
    "--check-connections", type=Count, default=2000, show_default=True, help="Of that run."
)
@click.option("--check-rooms", type=Count, default=100, show_default=True, help="Of that run.")
@click.option("--check-rate", type=Positive, default=15.0, show_default=True, help="Of that run.")
@click.option("--check-workers", type=Count, default=2, show_default=True, help="Of that run.")
@click.option("--check-json", type=kinds.Output(), help="Write that run into this file.")
@click.option(
    "--members",
    type=click.IntRange(2),
    default=8,
    show_default=True,
    help="Of each room in which a delivery is measured.",
)
@click.option(
    "--rounds", type=Count, default=3, show_default=True, help="How often everything is measured."
)
@click.option(
    "--seconds",
    type=Positive,
    default=5.0,
    show_default=True,
    help="For how long each run sends messages.",
)
@click.option(
    "--idle-connections",
    type=Count,
    default=1000,
    show_default=True,
    help="With which memory and heartbeats are measured.",
)
@click.option(
    "--hold-seconds",
    type=Positive,
    default=26.0,
    show_default=True,
    help="For how long connections do nothing, to see their heartbeats.",
)
@kinds.attempts
@kinds.json
def plan_command(costs: str | None, json: str | None, **options: Any) -> None:
    """What a load needs, from what things cost on this machine; measures that first."""
    rounds, seconds = Rounds(options["rounds"], options["attempts"]), options["seconds"]
    load, checked_load = _load(options), _load(options, "check_")
    if costs is not None:
        found = pages.read(Path(costs), Calibration)
    else:
        with Line() as line:
            found = calibrate(
                rounds=rounds,
                members=options["members"],
                connections=options["idle_connections"],
                seconds=seconds,
                hold_seconds=options["hold_seconds"],
                tell=line.tell,
            )
    _save(found, json)
    click.echo(describe(found.machine) + "\n")
    click.echo(columns(pages.cost_lines(found.costs)) + "\n")
    click.echo(columns(pages.plan_lines(load, plan(found.costs, load, _host(found, options)))))
    if options["checks"]:
        with Line() as line:
            checked = check(
                found.costs,
                checked_load,
                workers=options["check_workers"],
                rounds=rounds,
                seconds=seconds,
                tell=line.tell,
            )
        _save(checked, options["check_json"])
        click.echo("\n" + columns(pages.check_lines(checked)))


@click.command("page", epilog=kinds.examples("page", "page --measure --attempts 5"))
@click.argument("file", type=click.Path(exists=True, dir_okay=False), default="docs/performance.md")
@click.option(
    "--results",
    type=click.Path(file_okay=False),
    default="docs/performance",
    show_default=True,
    help="The folder of the JSON files.",
)
@click.option("--measure", is_flag=True, help="Run everything first; some thirty minutes.")
@click.option(
    "--rounds", type=Count, default=5, show_default=True, help="Of everything that is measured."
)
@click.option(
    "--attempts",
    type=Count,
    default=3,
    show_default=True,
    help="How often one run is tried while other work on the machine disturbs it.",
)
@click.pass_context
def page_command(
    context: click.Context, /, file: str, results: str, measure: bool, **turns: int
) -> None:
    """Write the tables of a page from the JSON of runs."""
    folder = Path(results)
    if measure:
        folder.mkdir(exist_ok=True)
        context.invoke(bench_command, **turns, json=str(folder / pages.BENCH))
        picture = str(folder / pages.PICTURE) if find_spec("matplotlib") else None
        context.invoke(compare_command, **turns, json=str(folder / pages.COMPARE), plot=picture)
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


def _load(options: dict[str, Any], prefix: str = "") -> Load:
    """Return what is asked for: to plan, or to check.

    Raises:
        InputError: there would be rooms without connections.
    """
    connections, rooms = options[f"{prefix}connections"], options[f"{prefix}rooms"]
    if rooms > connections:
        raise InputError(f"{rooms:,} rooms are too many for {connections:,} connections")
    if prefix:  # a real run, where rooms are the same to a connection
        connections -= connections % rooms
    reconnects = 0.0 if prefix else options["reconnects"]
    return Load(
        connections=connections,
        rooms=rooms,
        rate=options[f"{prefix}rate"],
        reconnects=reconnects,
    )


def _save(study: Bench | Comparison | Calibration | Check, path: str | None) -> None:
    if path is not None:
        text = msgspec.json.format(msgspec.json.encode(study), indent=1)
        Path(path).write_bytes(text + b"\n")
