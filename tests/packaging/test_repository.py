"""What the repository must not hold: traces of the machine it was written on, and secrets."""

import re
import shutil
import subprocess

import pytest

from ..architecture.source import ROOT

TRACES = re.compile(
    # Written so that this file does not contain what it looks for.
    r"(?<![\w.])/(?:work|opt/wheels|root|tmp/brief)/"
    r"|(?:extra-)?index-url"
    r"|PIP_(?:EXTRA_)?INDEX"
    r"|find-links",
    re.IGNORECASE,
)
CONFLICT = re.compile(r"^(?:<{7}|>{7}) \S", re.MULTILINE)
PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----\n[A-Za-z0-9+/=\n]{100,}")


def _tracked() -> list[str]:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    # It may belong to another user than the one who runs the tests, as in many a container.
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    return [name for name in listed.stdout.decode().split("\0") if (ROOT / name).is_file()]


@pytest.mark.parametrize(
    "pattern", [TRACES, PRIVATE_KEY, CONFLICT], ids=["traces", "private key", "merge conflict"]
)
def test_nothing_is_in_the_repository_that_must_not_be(pattern: re.Pattern[str]) -> None:
    this = "tests/packaging/test_repository.py"
    found = [
        f"{name}: {match[0]}"
        for name in _tracked()
        if name != this
        for match in pattern.finditer((ROOT / name).read_text("utf-8", errors="replace"))
    ]
    assert found == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("cd /work/main", True),
        ("pip install --extra-index-url https://mirror.example", True),
        ("https://example.org/work/", False),
        ("/network/", False),
    ],
)
def test_the_pattern_finds_what_it_should(text: str, found: bool) -> None:
    assert bool(TRACES.search(text)) == found
