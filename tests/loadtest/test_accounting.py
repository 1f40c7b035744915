"""What processes use is that of all of them."""

import os
import subprocess
import sys

import pytest

from loadtest.accounting import cores, machine, pinned, usage
from loadtest.server import load_cores, server_cores
from loadtest.wire import LoadError

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


@linux
def test_usage_counts_a_process_and_its_children() -> None:
    burn = (
        "import time\nheld = b'x' * 50_000_000\n"
        "while time.process_time() < 0.3: pass\nprint(flush=True); input()"
    )
    before = usage(os.getpid())
    with subprocess.Popen(
        [sys.executable, "-c", burn], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        child, both = usage(process.pid), usage(os.getpid())
        process.communicate(b"\n")
    assert before is not None
    assert child is not None
    assert both is not None
    # The kernel counts in ticks of 10 ms.
    assert child.cpu_seconds > 0.25
    assert child.memory_bytes > 50_000_000
    assert both.cpu_seconds > before.cpu_seconds + 0.25
    assert both.memory_bytes > before.memory_bytes + 50_000_000


@linux
def test_a_process_that_is_not_there_is_said() -> None:
    with pytest.raises(LoadError, match="no process"):
        usage(2**22 + 1)


def test_the_usage_of_an_unknown_server_is_unknown() -> None:
    assert usage(None) is None


@linux
def test_processes_are_kept_on_cores() -> None:
    one = cores()[-1:]
    before = cores()
    show = "import os; print(*os.sched_getaffinity(0))"
    with pinned(one):
        done = subprocess.run([sys.executable, "-c", show], capture_output=True, check=True)
    assert [int(core) for core in done.stdout.split()] == one
    assert cores() == before


def test_server_and_load_share_no_core() -> None:
    assert set(server_cores()) | set(load_cores()) == set(cores())
    assert not set(server_cores()) & set(load_cores())
    assert load_cores(workers=1000)


def test_a_machine_is_described() -> None:
    found = machine(["msgspec", "no-such-library"])
    assert found.cores >= 1
    assert "msgspec" in found.versions
    assert "no-such-library" not in found.versions
