"""What the page says of the last run of the Autobahn suite is what the suite's summary says."""

import json
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "benchmarks" / "results" / "conformance"

GOOD = {"OK": "OK", "NON-STRICT": "non-strict", "INFORMATIONAL": "informational"}
"""What the suite calls a case that passed, in the order and the words of the page."""


def test_the_last_run_is_what_the_suite_reported() -> None:
    run = max(FOLDER.glob("*.json"))
    [cases] = json.loads(run.read_text("utf-8")).values()
    assert {chapter(case) for case in cases} == {1, 2, 3, 4, 5, 6, 7, 10}
    for outcome in ("behavior", "behaviorClose"):
        assert {case[outcome] for case in cases.values()} <= GOOD.keys()

    named = {
        word: sorted(case for case in cases if cases[case]["behavior"] == behavior)
        for behavior, word in GOOD.items()
    }
    page = " ".join((ROOT / "docs" / "conformance.md").read_text("utf-8").split())
    non_strict, informational = named["non-strict"], named["informational"]
    assert (
        f"Last run: {run.stem}, cases 1 to 7 and 10, {len(cases)} in all, none failed: "
        f"{len(named['OK'])} OK, {len(non_strict)} non-strict ({', '.join(non_strict)}) and "
        f"{len(informational)} informational ({', '.join(informational)})."
    ) in page


def chapter(case: str) -> int:
    """Return the number that a case's begins with."""
    return int(case.partition(".")[0])
