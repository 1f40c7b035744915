"""Several rounds of alternating runs, and their medians.

A machine is never completely quiet. Therefore entrants take turns, costs are CPU time instead of
wall time, ratios are taken within a round, and the median of the rounds counts.
"""

import statistics
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from .report import Report
from .server import Target
from .stage import Stage, Tell, perform
from .wire import LoadError

QUIET_CORES = 0.15
"""Cores: other work up to this bound does not invalidate a run."""

Cost = Callable[[Report], float | None]


class Entrant(Struct, frozen=True):
    """One entrant of the alternating runs.

    Args:
        key: the key of the reports.
        running: runs the entrant's server.
        scenario: makes the scenario for the server.
    """

    key: str
    running: Callable[[], AbstractContextManager[Target]]
    scenario: Callable[[Target], Stage]

    def run(self, tell: Tell) -> Report:
        """Run once, and report the progress.

        Raises:
            LoadError: the run fails.
        """
        with self.running() as target:
            return perform(self.scenario(target), target, tell)


class Turn(Protocol):
    """An alternating run: an `Entrant`, or another kind of measurement."""

    @property
    def key(self) -> str:
        """The key of the reports."""
        ...

    def run(self, tell: Tell) -> Report:
        """Run once, and report the progress."""
        ...


class Samples(Struct):
    """The reports of each entrant, one per round, and the reasons of failures."""

    reports: dict[str, list[Report]] = {}
    failures: dict[str, str] = {}

    def median(self, key: str, cost: Cost) -> float | None:
        """Return the median of an entrant's rounds; None without a value."""
        return median(cost(report) for report in self.reports.get(key, []))

    def disturbance(self, *keys: str) -> float | None:
        """Return the median of other work over all runs of some entrants, in cores."""
        return median(report.disturbance for key in keys for report in self.reports.get(key, []))

    def ratio(self, key: str, other: str, cost: Cost) -> float | None:
        """Return the median over the rounds of the ratio of two entrants' costs."""
        pairs = zip(self.reports.get(key, []), self.reports.get(other, []), strict=False)
        return median(ratio(cost(mine), cost(theirs)) for mine, theirs in pairs)


class Column(Struct, frozen=True):
    """A column of a table of medians.

    Args:
        title: the header.
        text: a format string for a value.
        cost: the value of a report.
        of: an entrant by whose cost the value is divided, round by round; None for no division.
    """

    title: str
    text: str
    cost: Cost
    of: str | None = None

    def cell(self, samples: Samples, key: str) -> str:
        """Return the median of an entrant's rounds, as text."""
        if self.of is None:
            value = samples.median(key, self.cost)
        else:
            value = samples.ratio(key, self.of, self.cost)
        return "unknown" if value is None else self.text.format(value)


def medians(samples: Samples, columns: Sequence[Column]) -> list[list[str]]:
    """Return a row for each measured entrant: its key, then the columns."""
    return [[key, *(column.cell(samples, key) for column in columns)] for key in samples.reports]


class Rounds(Struct, frozen=True):
    """The number of rounds, and the attempts of one run while the machine is disturbed."""

    count: int
    attempts: int = 1


def alternate(
    entrants: Sequence[Turn], rounds: Rounds, tell: Tell, samples: Samples | None = None
) -> Samples:
    """Run all entrants alternately, every other round backwards; a failed entrant is left out.

    Args:
        entrants: the entrants.
        rounds: the number of rounds.
        tell: called with the progress.
        samples: existing results to extend; None for new results.
    """
    samples = samples or Samples()
    for number in range(rounds.count):
        for entrant in entrants if number % 2 == 0 else reversed(entrants):
            if entrant.key in samples.failures:
                continue
            prefix = f"round {number + 1} of {rounds.count}, {entrant.key}: "
            tell(prefix + "starting")
            try:
                report = _least_disturbed(entrant, rounds.attempts, partial(_tell, tell, prefix))
            except LoadError as error:
                samples.failures[entrant.key] = str(error)
                continue
            samples.reports.setdefault(entrant.key, []).append(slim(report))
    return samples


def _least_disturbed(entrant: Turn, attempts: int, tell: Tell) -> Report:
    """Return the report of the first quiet attempt, or of the quietest attempt.

    Only other work counts, never the result.
    """
    reports: list[Report] = []
    while len(reports) < attempts and not (reports and reports[-1].disturbance <= QUIET_CORES):
        reports.append(entrant.run(tell))
    return min(reports, key=lambda report: report.disturbance)


def _tell(tell: Tell, prefix: str, text: str) -> None:
    tell(prefix + text)


def slim(report: Report) -> Report:
    """Return a report without fields that are common to the run, or only for plots."""
    return replace(report, machine=None, counts={})


def median(values: Iterable[float | None]) -> float | None:
    """Return the median of the known values."""
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def ratio(mine: float | None, theirs: float | None) -> float | None:
    """Return `mine` as a multiple of `theirs`; None if either is unknown."""
    return mine / theirs if mine is not None and theirs else None
