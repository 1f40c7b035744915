"""The browser client against a scripted server, in virtual time: runs the *.test.mjs in Node."""

import subprocess
from pathlib import Path

import pytest

from ..rig.node import copy_client, environment, node

HERE = Path(__file__).parent
SECONDS = 120


@pytest.mark.parametrize("script", sorted(path.name for path in HERE.glob("*.test.mjs")))
def test_client(script: str, tmp_path: Path) -> None:
    copy_client(tmp_path, *HERE.glob("*.mjs"))
    done = subprocess.run(
        [node(), "--test", "--test-reporter=spec", script],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "pass 0" not in done.stdout, "it has no tests"
