"""The commands that run many scenarios: bench, compare and page."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
import msgspec

from . import options as kinds
from . import page as pages
from .bench import Bench, Effort, bench
from .budgets import budget_lines, budgets, more_lines
from .cli_archive import archive_command
from .cli_crowded import crowded_command
from .cli_front import front_command
from .cli_login import login_command
from .cli_operators import operators_command
from .cli_presence import presence_command
from .cli_verbs import verbs_command
from .cli_webhooks import webhooks_command
from .compare import (
    ComparePlan,
    Comparison,
    compare,
    connect_lines,
    idle_lines,
    lines,
    verdicts,
)
from .layout import columns, describe
from .options import Count, Payload, Positive, of
from .peers import peers
from .peers.centrifugo import program
from .plot import draw_costs
from .terminal import Line

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


@click.command("page", epilog=kinds.examples("page", "page --measure --attempts 5"))
@click.argument("file", type=click.Path(exists=True, dir_okay=False), default="docs/performance.md")
@click.option(
    "--results",
    type=click.Path(file_okay=False),
    default="benchmarks/results",
    show_default=True,
    help="The folder of the JSON files.",
)
@click.option("--measure", is_flag=True, help="Run everything first; about an hour.")
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
        context.invoke(presence_command, json=str(folder / pages.PRESENCE))
        context.invoke(verbs_command, **turns, json=str(folder / pages.VERBS))
        rounds = turns["rounds"]
        context.invoke(archive_command, rounds=rounds, json=str(folder / pages.ARCHIVE))
        context.invoke(login_command, rounds=rounds, json=str(folder / pages.LOGIN))
        context.invoke(webhooks_command, rounds=rounds, json=str(folder / pages.WEBHOOKS))
        context.invoke(operators_command, json=str(folder / pages.OPERATORS))
        context.invoke(crowded_command, json=str(folder / pages.CROWDED))
        if program() is not None:
            context.invoke(front_command, **turns, json=str(folder / pages.FRONT))
    pages.write(Path(file), folder)


def _save(study: Bench | Comparison, path: str | None) -> None:
    if path is not None:
        text = msgspec.json.format(msgspec.json.encode(study), indent=1)
        Path(path).write_bytes(text + b"\n")
