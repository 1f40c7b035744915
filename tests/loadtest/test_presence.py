"""What presence costs is measured, and the figures are of that."""

import json
from pathlib import Path

from click.testing import CliRunner

from loadtest.cli import main


def test_the_costs_of_presence(tmp_path: Path) -> None:
    """How long things take is judged by who runs it alone: here other tests run beside it."""
    figures = tmp_path / "presence.json"
    few = ["--connections", "200", "--topics", "5"]
    done = CliRunner().invoke(main, ["presence", *few, "--json", str(figures)])
    assert done.exit_code == 0, done.output
    costs = json.loads(figures.read_text("utf-8"))
    assert (costs["connections"], costs["topics"]) == (200, 5)
    assert 100 < costs["bytes_per_connection"] <= 512
    assert costs["heartbeat_ms"] > 0
    # A crowd that takes more than a second to come costs one for each.
    assert 1 <= costs["pushes"] <= 60
    assert "200 connections in 5 topics" in done.output
