"""Programs that tests of distributions run."""

import subprocess
from pathlib import Path

from ..rig.node import environment


def run(*command: str | Path, cwd: Path, seconds: int = 60) -> str:
    """Run a program that succeeds, and return what it prints."""
    done = subprocess.run(
        command, cwd=cwd, env=environment(), capture_output=True, text=True, timeout=seconds
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
