"""A user who floods one worker: as much is stored as his rate allows, and the figures say so."""

import json
from pathlib import Path

from click.testing import CliRunner

from loadtest.cli import main
from loadtest.flood import BURST, RATE, Round


def test_nobody_stores_more_than_his_rate(tmp_path: Path) -> None:
    figures = tmp_path / "flood.json"
    arguments = ["flood", "--seconds", "1.5", "--connections", "10", "--json", str(figures)]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    rounds = json.loads(figures.read_text("utf-8"))
    assert [each["way"] for each in rounds] == [
        "reconnects after each burst",
        "10 connections",
        "HTTP",
        "all at once",
    ]
    for each in rounds:
        assert min(BURST, each["sent"]) <= each["stored"] <= each["allowed"]
        assert each["allowed"] <= BURST + RATE * (each["seconds"] + 0.01) + 1
        assert f"{each['stored']:,}" in done.output
    # All ways but HTTP, which waits for each answer, try more than they may.
    assert all(each["sent"] > each["allowed"] for each in rounds if each["way"] != "HTTP")


def test_more_than_the_rate_is_a_failure() -> None:
    for stored, passed in ((99, False), (100, True), (175, True), (176, False)):
        each = Round("", seconds=1.5, sent=500, connections=1, stored=stored, allowed=175)
        assert each.passed is passed
    assert Round("", seconds=1.5, sent=40, connections=1, stored=40, allowed=175).passed
