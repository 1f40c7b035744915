"""The result of a run, for the terminal and for docs/reliability.md."""

from pathlib import Path

from loadtest.layout import describe, markdown, replace_section

from .run import Outcome
from .violation import Violation


def lines(outcome: Outcome) -> list[list[str]]:
    """Return the rows of a table, the header first."""
    verdict = outcome.verdict
    presence = {
        "joins and leaves told": f"{outcome.presence_changes:,}",
        "longest until all watchers knew who was there, in the silences": (
            f"{outcome.longest_presence:.1f} s"
        ),
    }
    if not outcome.config.members:
        presence = {}
    rows = {
        "publications, acknowledged": f"{outcome.published:,}, {outcome.acknowledged:,}",
        "sent again, of these known as duplicates": (
            f"{outcome.attempts - outcome.published:,}, {outcome.duplicates:,}"
        ),
        "changes of messages, acknowledged": _counts(outcome.changes),
        "changes that came too late, or were sent once and have no answer": (
            f"{sum(outcome.refused.values()):,}, {outcome.unknown:,}"
        ),
        "events stored while no worker could hear them, in the silences": f"{outcome.unheard:,}",
        "deliveries": f"{outcome.deliveries:,}",
        "resumes, recovered": f"{verdict.resumes:,}, {verdict.recovered:,}",
        "gaps told": f"{verdict.gaps:,}",
        "new epochs told": f"{verdict.new_epochs:,}",
        "connections ended": _counts(outcome.closes),
        "errors answered": _counts(outcome.errors),
        **presence,
        **(
            {
                "orders of operators, as workers confirmed": _counts(outcome.orders),
                "connections asked for an announcement": f"{outcome.heard:,}",
            }
            if outcome.orders
            else {}
        ),
        "longest time without any delivery, pauses included": f"{outcome.longest_silence:.1f} s",
        "longest wait for an acknowledgement": f"{outcome.longest_ack:.1f} s",
        "violations": f"{len(verdict.violations):,}",
    }
    faults = [[kind, f"{count:,}"] for kind, count in sorted(outcome.faults.items())]
    total = ["faults", f"{outcome.struck:,} of {outcome.config.faults:,}"]
    missed = ["found nothing to strike, and do not count", _counts(outcome.missed)]
    return [
        ["what", "count"],
        total,
        *faults,
        missed,
        *([name, text] for name, text in rows.items()),
    ]


def told(violation: Violation, seed: int) -> str:
    """Return a violation in one line."""
    where = f"{violation.topic} {violation.seq} {violation.subscriber}".strip()
    return f"VIOLATION (seed {seed}) {violation.kind}: {where}: {violation.detail}"


def write(page: Path, outcome: Outcome) -> None:
    """Write a round into its section of a page.

    Raises:
        LoadError: the page has no such section.
    """
    config = outcome.config
    ways = {"wiped": config.wipe, "spooled": config.spool, "archived": config.archive}
    ways |= {"PostgreSQL": config.postgresql, "webhook": config.webhook}
    name = ", ".join([config.broker, *(way for way, taken in ways.items() if taken)])
    workers = "one worker" if config.broker == "memory" else f"{config.workers} workers"
    people = f"{config.publishers} publishers, {config.readers} subscribers"
    if config.members:
        people += f", {config.members} members"
    about = f"Seed {config.seed}, {outcome.took_seconds:.0f} s, {workers}, {people}."
    text = f"{about} {describe(outcome.machine)}\n\n{markdown(lines(outcome))}"
    replace_section(page, name, text)


def _counts(counts: dict[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return ", ".join(f"{name}: {count:,}" for name, count in ordered) or "none"
