"""bench, compare and page end by themselves and say what they must; no number is checked."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from loadtest.bench import PACKED, Bench
from loadtest.budgets import budgets
from loadtest.compare import OURS, Comparison
from loadtest.peers import Peer, peers
from loadtest.verbs import BOUNDS, Verbs

from ..architecture.source import ROOT

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="needs /proc"),
    # Ten servers start and stop, which a busy machine may take long for.
    pytest.mark.timeout(400),
]
redis = pytest.mark.skipif(not shutil.which("redis-server"), reason="needs redis-server")


def _run(*arguments: str) -> str:
    environ = {name: v for name, v in os.environ.items() if not name.startswith("CHAT_")}
    done = subprocess.run(
        [sys.executable, "-m", "loadtest", *arguments],
        cwd=ROOT,
        env=environ | {"CHAT_ENVIRONMENT": "testing"},
        capture_output=True,
        text=True,
        timeout=380,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


@pytest.mark.extra
@redis
def test_bench_says_of_every_budget_whether_it_is_met(tmp_path: Path) -> None:
    found = tmp_path / "bench.json"
    options = ("--rounds", "1", "--seconds", "1", "--room", "20", "--crowd", "40")
    more = ("--packed", "60", "--connections", "20", "--json", str(found))
    output = _run("bench", *options, *more)
    bench = msgspec.json.decode(found.read_bytes(), type=Bench)
    assert bench.samples.failures == {}
    assert len(budgets(bench)) == 9
    # There are collections as soon as connections come; how long they take is another matter.
    assert bench.samples.reports[PACKED][0].pauses
    for budget in budgets(bench):
        assert budget.what in output
        assert budget.met is not None or not budget.measured

    page = tmp_path / "page.md"
    page.write_text("a\n<!-- costs -->\nold\n<!-- end of costs -->\nz\n")
    _run("page", str(page), "--results", str(tmp_path))
    text = page.read_text()
    assert "old" not in text
    assert "| a delivery, " in text
    assert "| a publication with its ack, Redis |" in text
    assert text.startswith("a\n")
    assert text.endswith("z\n")


@pytest.mark.extra
@redis
def test_verbs_says_of_every_bound_what_it_found(tmp_path: Path) -> None:
    found = tmp_path / "verbs.json"
    options = ("--rounds", "1", "--rooms", "4", "--readers", "3", "--rate", "20")
    more = ("--seconds", "1", "--connections", "4", "--askers", "2", "--json", str(found))
    output = _run("verbs", *options, *more)
    samples = msgspec.json.decode(found.read_bytes(), type=Verbs).samples
    assert samples.failures == {}
    for bound in BOUNDS:
        assert bound.what in output
        for key in (bound.key, bound.than):
            (report,) = samples.reports[key]
            assert report.acknowledged == report.published > 0
            assert report.errors == {}
    for key in ("message", "appended"):
        (report,) = samples.reports[key]
        assert report.lost == 0
        assert report.deliveries == 3 * report.published


@pytest.mark.extra
def test_compare_runs_who_is_there_and_names_who_is_not(tmp_path: Path) -> None:
    found = tmp_path / "compare.json"
    options = ("--rounds", "1", "--seconds", "1", "--subscribers", "10", "--rate", "5")
    more = ("--connections", "10", "--idle-connections", "10", "--hold-seconds", "0.2")
    output = _run("compare", *options, *more, "--json", str(found))
    comparison = msgspec.json.decode(found.read_bytes(), type=Comparison)
    samples = comparison.rates[0].samples
    assert samples.failures == {}
    for peer in peers():
        if peer.missing:
            assert f"skipped: {peer.title}" in output
        else:
            assert peer.title in output
            assert all(report.passed for report in samples.reports[peer.title])
            assert [report.deliveries for report in samples.reports[peer.title]] == [50]
    assert [report.deliveries for report in samples.reports[OURS]] == [50]
    assert comparison.idle.reports.keys() == samples.reports.keys()
    assert [report.connections for report in comparison.idle.reports[OURS]] == [10]
    assert len(comparison.connects.reports) == 2


def test_the_floor_without_a_compiler_is_named_as_such(tmp_path: Path) -> None:
    found = tmp_path / "compare.json"
    options = ("--rounds", "1", "--seconds", "1", "--subscribers", "10", "--rate", "5")
    environ = {**os.environ, "PATH": str(tmp_path), "CHAT_ENVIRONMENT": "testing"}
    done = subprocess.run(
        [
            *(sys.executable, "-m", "loadtest", "compare", "--only", "floor", *options),
            *("--connections", "5", "--idle-connections", "5", "--hold-seconds", "0.2"),
            *("--json", str(found)),
        ],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=380,
    )
    assert done.returncode == 0, done.stderr
    comparison = msgspec.json.decode(found.read_bytes(), type=Comparison)
    assert comparison.floor == "bare send() loop, Python"
    reports = comparison.rates[0].samples.reports[comparison.floor]
    assert [report.deliveries for report in reports] == [50]


def test_a_peer_knows_what_it_lacks() -> None:
    def command(port: int, folder: Path) -> list[str]:
        return []

    lacking = Peer(
        name="x", title="X", dialect="plain", needs=("json", "no_such_module"), command=command
    )
    assert lacking.missing == ["no_such_module"]
