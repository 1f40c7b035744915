"""Several rounds of alternating runs, and what they have in common.

A machine is never quite quiet. What is compared therefore takes turns, costs are CPU time instead
of wall time, a ratio is taken within a round, and the median of the rounds counts.
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
"""Work of others that a run takes no notice of."""

Cost = Callable[[Report], float | None]


class Entrant(Struct, frozen=True):
    """One of those that take turns.

    Args:
        key: what its reports are found by.
        running: runs its server.
        scenario: what is done to it.
    """

    key: str
    running: Callable[[], AbstractContextManager[Target]]
    scenario: Callable[[Target], Stage]

    def run(self, tell: Tell) -> Report:
        """Run once, telling how far it is.

        Raises:
            LoadError: it cannot be carried out.
        """
        with self.running() as target:
            return perform(self.scenario(target), target, tell)


class Turn(Protocol):
    """What takes turns: an `Entrant`, or what measures in another way."""

    @property
    def key(self) -> str:
        """What its reports are found by."""
        ...

    def run(self, tell: Tell) -> Report:
        """Run once, telling how far it is."""
        ...


class Samples(Struct):
    """The reports of each entrant, a round each, and why some have none."""

    reports: dict[str, list[Report]] = {}
    failures: dict[str, str] = {}

    def median(self, key: str, cost: Cost) -> float | None:
        """Return the median of an entrant's rounds, None if there is none."""
        return median(cost(report) for report in self.reports.get(key, []))

    def disturbance(self, *keys: str) -> float | None:
        """Return the median over all runs of some entrants of what others kept busy, in cores."""
        return median(report.disturbance for key in keys for report in self.reports.get(key, []))

    def ratio(self, key: str, other: str, cost: Cost) -> float | None:
        """Return the median over the rounds of how many times as much as another it cost."""
        pairs = zip(self.reports.get(key, []), self.reports.get(other, []), strict=False)
        return median(ratio(cost(mine), cost(theirs)) for mine, theirs in pairs)


class Column(Struct, frozen=True):
    """A column of a table of medians.

    Args:
        title: what its header says.
        text: how a value is written, a format string.
        cost: what is taken from each report.
        of: an entrant by whose cost the value is divided, round by round; None for none.
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
    """Return a row for each entrant that was measured: its key, then the columns."""
    return [[key, *(column.cell(samples, key) for column in columns)] for key in samples.reports]


class Rounds(Struct, frozen=True):
    """How often all take turns, and how often one turn is tried while the machine is disturbed."""

    count: int
    attempts: int = 1


def alternate(
    entrants: Sequence[Turn], rounds: Rounds, tell: Tell, samples: Samples | None = None
) -> Samples:
    """Run all in turns, every other round backwards; who fails once is left out from then on.

    Args:
        entrants: who takes turns.
        rounds: how often.
        tell: is told how far it is.
        samples: where to add the results, if not to new ones.
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
    """Return the report of the first quiet attempt, or of the quietest of all.

    What counts is the work of others, never the result.
    """
    reports: list[Report] = []
    while len(reports) < attempts and not (reports and reports[-1].disturbance <= QUIET_CORES):
        reports.append(entrant.run(tell))
    return min(reports, key=lambda report: report.disturbance)


def _tell(tell: Tell, prefix: str, text: str) -> None:
    tell(prefix + text)


def slim(report: Report) -> Report:
    """Return a report without what is the same in all of a run, or only good for pictures."""
    return replace(report, machine=None, counts={})


def median(values: Iterable[float | None]) -> float | None:
    """Return the median of those values that are known."""
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def ratio(mine: float | None, theirs: float | None) -> float | None:
    """Return how many times as much as theirs mine is, None if either is not known."""
    return mine / theirs if mine is not None and theirs else None
