"""What pages say was measured is what the committed runs say."""

import shutil
from pathlib import Path

import msgspec
import pytest

from loadtest.page import write
from tests.chaos import report as reliability
from tests.chaos.run import Outcome

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["performance.md", "large.md"])
def test_no_table_was_changed_by_hand(name: str, tmp_path: Path) -> None:
    original, page = ROOT / "docs" / name, tmp_path / "page.md"
    shutil.copy(original, page)
    write(page, ROOT / "benchmarks" / "results")
    assert page.read_text() == original.read_text()


def test_what_was_survived_is_what_the_runs_say(tmp_path: Path) -> None:
    original, page = ROOT / "docs" / "reliability.md", tmp_path / "page.md"
    shutil.copy(original, page)
    runs = sorted((ROOT / "benchmarks" / "results" / "reliability").glob("*.json"))
    assert len(runs) == 9
    for run in runs:
        outcome = msgspec.json.decode(run.read_bytes(), type=Outcome)
        assert outcome.passed
        reliability.write(page, outcome)
    assert page.read_text() == original.read_text()
