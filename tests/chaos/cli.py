"""The command line: `python -m tests.chaos`."""

import asyncio
import random
import sys
from pathlib import Path
from typing import Any

import click
import msgspec

from loadtest.crowd import raise_file_limit
from loadtest.layout import columns
from loadtest.processes import end_what_was_started
from loadtest.terminal import Line
from loadtest.wire import LoadError

from . import report
from .config import Config
from .run import perform

SHOWN = 20
SEEDS = 1_000_000

Count = click.IntRange(1)
Positive = click.FloatRange(0.0, min_open=True)


@click.command()
@click.option(
    "--broker",
    type=click.Choice(["memory", "redis", "cluster"]),
    default="redis",
    show_default=True,
)
@click.option("--seed", type=click.IntRange(0), help="Of an earlier run, for the same faults.")
@click.option("--seconds", type=Positive, default=600.0, show_default=True)
@click.option("--faults", type=Count, default=240, show_default=True)
@click.option("--workers", type=Count, default=2, show_default=True, help="With Redis.")
@click.option("--wipe", is_flag=True, help="Let a Redis lose everything now and then.")
@click.option(
    "--spool", is_flag=True, help="Talk in topics that spool what Redis cannot take, too."
)
@click.option("--archive", is_flag=True, help="Archive what is said, and compare it, too.")
@click.option("--postgresql", is_flag=True, help="Archive in a PostgreSQL, which is harmed, too.")
@click.option(
    "--webhook", is_flag=True, help="Tell an endpoint, which goes and comes, and compare."
)
@click.option("--publishers", type=Count, default=6, show_default=True)
@click.option("--readers", type=click.IntRange(4), default=12, show_default=True)
@click.option(
    "--members",
    type=click.IntRange(0),
    default=6,
    show_default=True,
    help="Users who come and go, and watch who is there.",
)
@click.option("--rate", type=Positive, default=8.0, show_default=True, help="Of each publisher.")
@click.option(
    "--changes",
    type=click.FloatRange(0.0, 1.0),
    default=0.6,
    show_default=True,
    help="The share of what publishers do that changes a message.",
)
@click.option(
    "--patience",
    type=Positive,
    default=30.0,
    show_default=True,
    help="Seconds until all must have settled once the faults are over.",
)
@click.option("--module", default="chat_server", show_default=True, help="Run as the server.")
@click.option("--json", "json", type=click.Path(dir_okay=False), help="Write it here too.")
@click.option("--page", type=click.Path(dir_okay=False, exists=True), help="Write it into this.")
def main(json: str | None, page: str | None, seed: int | None, **options: Any) -> None:
    """Kill, cut, freeze and stall while people talk; exit with 1 if anything was lost."""
    end_what_was_started()
    raise_file_limit()
    seed = random.randrange(SEEDS) if seed is None else seed
    click.echo(f"seed {seed}", err=True)
    if options["wipe"] and options["archive"]:
        raise click.UsageError("--archive: cannot be compared with a store that is wiped")
    if (options["postgresql"] or options["webhook"]) and not options["archive"]:
        raise click.UsageError("--postgresql, --webhook: need --archive")
    if options["broker"] == "memory":
        options["workers"] = 1
    config = Config(seed=seed, **options)
    with Line() as line:
        try:
            outcome = asyncio.run(perform(config, line.tell))
        except LoadError as error:
            raise click.ClickException(str(error)) from None
    if json is not None:
        text = msgspec.json.format(msgspec.json.encode(outcome), indent=1)
        Path(json).write_bytes(text + b"\n")
    if page is not None:
        report.write(Path(page), outcome)
    click.echo(columns(report.lines(outcome)))
    violations = outcome.verdict.violations
    for violation in violations[:SHOWN]:
        click.echo(report.told(violation, seed), err=True)
    if len(violations) > SHOWN:
        click.echo(f"… and {len(violations) - SHOWN} more", err=True)
    if outcome.struck < config.least_faults:
        click.echo(
            f"only {outcome.struck} of {config.faults} faults found something to strike;"
            f" at least {config.least_faults} have to",
            err=True,
        )
    sys.exit(not outcome.passed)
