"""A user who reads without end: those beside him are served, and the figures say how."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from loadtest.cli import main
from loadtest.greedy import Round, typical_round


@pytest.mark.extra
def test_bystanders_of_a_greedy_reader_are_served(tmp_path: Path) -> None:
    """How long they wait is judged by who runs it alone: here other tests run beside it."""
    figures = tmp_path / "greedy.json"
    done = CliRunner().invoke(
        main, ["greedy", "--seconds", "1.5", "--rounds", "1", "--json", str(figures)]
    )
    assert done.exit_code in (0, 1), done.output
    rounds = json.loads(figures.read_text("utf-8"))
    assert [each["store"] for each in rounds] == ["memory", "redis"]
    for each in rounds:
        assert each["unavailable"] == 0
        assert each["published"] > 10
        assert each["asked"] > 10
        assert each["beside_p99_ms"] < 3_000
        assert f"{each['beside_p99_ms']:.1f} ms" in done.output


def test_what_is_too_much() -> None:
    for beside, unavailable, passed in ((29.9, 0, True), (30.1, 0, False), (10.0, 1, False)):
        each = Round("", 10.0, beside, 100, unavailable, asked=1, read=1)
        assert each.passed is passed


def test_one_round_that_something_else_disturbed_decides_nothing() -> None:
    quiet = Round("redis", 5.0, 6.0, 700, 0, asked=3, read=9)
    disturbed = Round("redis", 5.5, 90.0, 650, 1, asked=2, read=8)
    found = typical_round([quiet, disturbed, quiet])
    assert (found.alone_p99_ms, found.beside_p99_ms, found.published) == (5.0, 6.0, 700)
    assert found.unavailable == 1, "what was refused counts in any round"
