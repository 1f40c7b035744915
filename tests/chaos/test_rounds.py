"""Short rounds of chaos: a server that keeps its promises passes, another is found out."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from tests.chaos.nemesis import ALL, kinds
from tests.chaos.report import write
from tests.chaos.run import Outcome
from tests.chaos.schedule import plan
from tests.chaos.system import PRESENCE_SECONDS

from ..architecture.source import ROOT
from ..rig.waiting import SECONDS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")

extra = pytest.mark.extra  # One round that passes and one that fails are enough for `make test`.

BROKEN_SERVER = Path(__file__).parent / "broken_server.py"
BROKEN = ("--module", "tests.chaos.broken_server", "--patience", "5")


def _round(
    broker: str, seconds: int, faults: int, *more: str, seed: int = 7, **environ: str
) -> subprocess.CompletedProcess[str]:
    clean = {name: v for name, v in os.environ.items() if not name.startswith("CHAT_")}
    return subprocess.run(
        [
            *(sys.executable, "-W", "error", "-m", "tests.chaos", "--broker", broker),
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
    ("broker", "seconds", "faults"),
    [
        ("memory", 6, 8),
        ("redis", 10, 14),
        pytest.param("cluster", 12, 15, marks=extra),
    ],
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
    assert outcome.struck >= outcome.config.least_faults >= faults - 1
    assert outcome.struck + sum(outcome.missed.values()) == faults
    left_out = set(kinds(broker, 2, wipe=False)) - set(outcome.faults)
    assert left_out <= set(outcome.missed)
    assert outcome.unheard == (0 if broker == "memory" else len(outcome.config.topics))
    assert outcome.published == outcome.acknowledged > 0
    assert outcome.deliveries > 0
    assert outcome.verdict.resumes > 0
    assert outcome.presence_changes > 0
    assert outcome.orders["block"] > 0
    assert outcome.orders["revoke"] > 0
    assert outcome.heard > 0
    assert 0 < outcome.longest_presence <= PRESENCE_SECONDS
    before = page.read_text()
    assert "publications, acknowledged" in before
    write(page, outcome)
    assert page.read_text() == before


@extra  # What was stored past the workers is found by a sweep, a minute later.
def test_a_short_round_with_an_archive() -> None:
    done = _round("redis", 10, 14, "--archive")
    assert done.returncode == 0, done.stdout + done.stderr


def _found_out(done: subprocess.CompletedProcess[str], seed: int, *violations: str) -> None:
    assert done.returncode == 1, done.stdout + done.stderr
    for violation in violations:
        assert f"VIOLATION (seed {seed}) {violation}" in done.stderr


def test_the_server_has_what_every_sabotage_replaces() -> None:
    """Most rounds below take too long for each change of the server."""
    program = (
        "import os, runpy, sys\n"
        "for os.environ['SABOTAGE'] in sys.argv[1:]: runpy.run_module('tests.chaos.broken_server')"
    )
    sabotages = re.findall('SABOTAGE == "([^"]+)"', BROKEN_SERVER.read_text())
    assert "swallows" in sabotages
    command = [sys.executable, "-c", program, *sabotages, "doubles"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("sabotage", "violations"),
    [
        ("loses", ["skipped: room:"]),
        ("forgets leavers", ["wrong presence: room:"]),
        pytest.param("repeats", ["twice: room:"], marks=extra),
        pytest.param("swallows", ["not acknowledged: 0 publisher"], marks=extra),
        pytest.param(
            "fails",
            ["fault of the server: 0: it logged: ", "fault of the server: 0: it answered "],
            marks=extra,
        ),
    ],
)
def test_a_server_that_breaks_its_promise_is_found_out(
    sabotage: str, violations: list[str]
) -> None:
    done = _round("memory", 3, 1, *BROKEN, seed=20, SABOTAGE=sabotage)
    _found_out(done, 20, *violations)


@pytest.mark.parametrize(
    ("sabotage", "violations"),
    [
        pytest.param("reorders", ["wrong data: "], marks=extra),
        pytest.param("forgets text", ["wrong text: "], marks=extra),
        ("doubles", ["appended twice: "]),
        pytest.param("recounts", ["counted wrongly: "], marks=extra),
    ],
)
def test_a_server_that_spoils_changes_is_found_out(sabotage: str, violations: list[str]) -> None:
    more = ("--rate", "40", "--changes", "0.9")
    done = _round("memory", 3, 1, *BROKEN, *more, seed=20, SABOTAGE=sabotage)
    _found_out(done, 20, *violations)


@pytest.mark.parametrize(
    ("sabotage", "violations"),
    [
        pytest.param("forgives users", ["served: short:0"], marks=extra),
        pytest.param("forgives tokens", ["served: short:0"], marks=extra),
        pytest.param("forgives issued", ["served: short:0"], marks=extra),
        pytest.param("forgives keys", ["served: short:0"], marks=extra),
        pytest.param("keeps the revoked", ["served: short:0"], marks=extra),
        pytest.param("announces nothing", ["not announced: system:announcements"], marks=extra),
        ("announces twice", ["announced twice: system:announcements"]),
    ],
)
def test_a_server_that_does_not_obey_operators_is_found_out(
    sabotage: str, violations: list[str]
) -> None:
    done = _round("memory", 4, 1, *BROKEN, "--rate", "20", seed=20, SABOTAGE=sabotage)
    _found_out(done, 20, *violations)


@extra
@pytest.mark.skipif(shutil.which("redis-server") is None, reason="needs redis-server")
@pytest.mark.parametrize(
    ("sabotage", "violation", "seed", "struck", "more"),
    [
        ("keeps the dead", "wrong page", 17, "worker killed", []),
        ("forgets members", "wrong page", 34, "Redis wiped", ["--wipe"]),
        ("asks nobody again", "wrong presence", 1, "clients' network held", []),
    ],
)
def test_a_server_whose_presence_forgets_is_found_out(
    sabotage: str, violation: str, seed: int, struck: str, more: list[str]
) -> None:
    (fault,) = plan(seed, kinds("redis", 2, wipe=bool(more)), faults=1, seconds=3, longest=0.75)
    assert fault.kind == struck
    # Longer than a server that breaks nothing takes until the lease of the worker has ended.
    patience = ("--patience", "20")
    done = _round("redis", 3, 1, *BROKEN, *patience, *more, seed=seed, SABOTAGE=sabotage)
    _found_out(done, seed, f"{violation}: room:")


@extra
@pytest.mark.skipif(shutil.which("redis-server") is None, reason="needs redis-server")
def test_a_server_that_repairs_nothing_until_the_next_event_is_found_out() -> None:
    """The only fault leaves Redis alone: it is the silence that shows it."""
    (fault,) = plan(1, kinds("redis", 2, wipe=False), faults=1, seconds=3, longest=1)
    assert not ALL[fault.kind].needs
    done = _round("redis", 3, 1, *BROKEN, seed=1, SABOTAGE="forgets")
    _found_out(done, 1, "not told: ")
