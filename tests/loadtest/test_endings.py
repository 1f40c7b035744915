"""A load test that is asked to end ends all that it started."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ..architecture.source import ROOT

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="needs /proc"),
    pytest.mark.skipif(not shutil.which("redis-server"), reason="needs redis-server"),
]

WAIT_SECONDS = 120.0
ABORTED = 1
"""The exit code of click for Ctrl-C."""

LOADTEST, CHAOS = "loadtest", "tests.chaos"


def _group(leader: int) -> list[str]:
    """Return the command lines of the processes of a group."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.getpgid(int(folder.name)) == leader:
                command = (folder / "cmdline").read_bytes()
                found.append(command.replace(b"\0", b" ").decode())
        except OSError:  # has ended
            continue
    return [command for command in found if command]  # without those that have ended


def _await_group(leader: int, wanted: str | None) -> None:
    """Wait until a process of the group is the wanted one, or until there is none any more."""
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        group = _group(leader)
        if any(wanted in command for command in group) if wanted else not group:
            return
        time.sleep(0.01)
    pytest.fail(f"wanted {wanted}, found {_group(leader)}")


@pytest.mark.parametrize(
    ("command", "started", "number"),
    [
        ((LOADTEST, "churn"), "chat_server serve", signal.SIGTERM),
        ((LOADTEST, "churn"), "chat_server serve", signal.SIGHUP),
        ((LOADTEST, "churn"), "chat_server serve", signal.SIGINT),
        ((LOADTEST, "fanout", "--redis"), "redis-server", signal.SIGTERM),
        ((LOADTEST, "fanout", "--seconds", "60"), "spawn_main", signal.SIGTERM),
        ((LOADTEST, "flood"), "chat_server serve", signal.SIGTERM),
        ((LOADTEST, "greedy"), "chat_server serve", signal.SIGTERM),
        ((LOADTEST, "presence"), "redis-server", signal.SIGTERM),
        ((LOADTEST, "front", "--only", "storm"), "spawn_main", signal.SIGTERM),
        ((LOADTEST, "verbs"), "chat_server serve", signal.SIGTERM),
        ((LOADTEST, "bench"), "chat_server serve", signal.SIGTERM),
        ((LOADTEST, "compare", "--only", "floor"), "/floor ", signal.SIGTERM),
        ((CHAOS,), "redis-server", signal.SIGTERM),
        ((CHAOS,), "chat_server serve", signal.SIGHUP),
    ],
    ids=lambda value: value[-1] if isinstance(value, tuple) else None,
)
def test_nothing_is_left_running(
    command: tuple[str, ...], started: str, number: signal.Signals
) -> None:
    environ = {name: v for name, v in os.environ.items() if not name.startswith("CHAT_")}
    process = subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env=environ | {"CHAT_ENVIRONMENT": "testing"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        _await_group(process.pid, started)
        process.send_signal(number)
        output, _ = process.communicate(timeout=WAIT_SECONDS)
        assert process.returncode == ABORTED
        assert "Aborted!" in output
        # multiprocessing's resource tracker ends a moment later.
        _await_group(process.pid, None)
    finally:
        if _group(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
