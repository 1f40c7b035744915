"""What the archive costs is measured, and the figures are of that."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from loadtest.accounting import machine
from loadtest.archive import BUDGETS, ArchiveCosts, ArchivePlan, Pair, archive_lines
from loadtest.cli import main


# Four servers and three of Redis start one behind the other, and six crowds.
@pytest.mark.timeout(400)
def test_the_costs_of_the_archive(tmp_path: Path) -> None:
    """How much it is, who runs it alone judges: here other tests run beside it."""
    figures = tmp_path / "costs.json"
    effort = ["--rounds", "1", "--events", "1200", "--pages", "20", "--seconds", "0.3"]
    done = CliRunner().invoke(main, ["archive", *effort, "--json", str(figures)])
    assert done.exit_code == 0, done.output
    rounds = json.loads(figures.read_text("utf-8"))["rounds"]
    assert set(rounds) == {"writer", "publish", "post", "writing", "page"}
    assert all(pair["mine"] > 0 and pair["theirs"] > 0 for [pair] in rounds.values())


def test_the_budgets_are_of_ratios() -> None:
    def verdicts(*writer: float) -> list[str]:
        pairs = {name: [Pair(1.0, 1.0)] for name in BUDGETS}
        pairs["writer"] = [Pair(each, 10.0) for each in writer]
        return [row[-1] for row in archive_lines(ArchiveCosts(machine(), ArchivePlan(), pairs))[1:]]

    assert verdicts(14.0, 15.0, 90.0) == ["met"] * len(BUDGETS)
    assert verdicts(14.0, 15.1, 16.0) == ["NOT MET", *["met"] * (len(BUDGETS) - 1)]
