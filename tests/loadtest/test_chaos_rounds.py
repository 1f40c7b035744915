"""Short rounds of chaos: a server that keeps its promises passes, another is found out."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from loadtest.chaos.faults import kinds
from loadtest.chaos.page import write
from loadtest.chaos.run import Outcome

from ..architecture.source import ROOT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


def _round(
    broker: str, seconds: int, faults: int, *more: str, seed: int = 7, **environ: str
) -> subprocess.CompletedProcess[str]:
    clean = {name: v for name, v in os.environ.items() if not name.startswith("CHAT_")}
    return subprocess.run(
        [
            *(sys.executable, "-W", "error", "-m", "loadtest", "chaos", "--broker", broker),
            *("--seed", str(seed), "--seconds", str(seconds), "--faults", str(faults)),
            *("--publishers", "3", "--readers", "8", *more),
        ],
        cwd=ROOT,
        env=clean | {"CHAT_ENVIRONMENT": "testing"} | environ,
        capture_output=True,
        text=True,
        timeout=380,
    )


@pytest.mark.parametrize(
    ("broker", "seconds", "faults"), [("memory", 6, 8), ("redis", 15, 14), ("cluster", 12, 15)]
)
def test_a_short_round(broker: str, seconds: int, faults: int, tmp_path: Path) -> None:
    if broker != "memory" and shutil.which("redis-server") is None:
        pytest.skip("needs redis-server")
    found, page = tmp_path / "found.json", tmp_path / "page.md"
    page.write_text(f"before\n<!-- {broker} -->\n<!-- end of {broker} -->\nafter\n")
    done = _round(broker, seconds, faults, "--json", str(found), "--page", str(page))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "seed 7" in done.stderr
    outcome = msgspec.json.decode(found.read_bytes(), type=Outcome)
    assert outcome.passed
    assert sum(outcome.faults.values()) + sum(outcome.missed.values()) == faults
    assert {*outcome.faults, *outcome.missed} == set(kinds(broker, 2, wipe=False))
    assert outcome.published == outcome.acknowledged > 0
    assert outcome.deliveries > 0
    assert outcome.verdict.resumes > 0
    before = page.read_text()
    assert "publications, acknowledged" in before
    write(page, outcome)
    assert page.read_text() == before


@pytest.mark.parametrize(("sabotage", "kind"), [("loses", "skipped"), ("repeats", "twice")])
def test_a_server_that_breaks_its_promise_is_found_out(sabotage: str, kind: str) -> None:
    module = "tests.loadtest.broken_server"
    done = _round("memory", 3, 1, "--module", module, seed=20, SABOTAGE=sabotage)
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"VIOLATION (seed 20) {kind}: room:" in done.stderr
