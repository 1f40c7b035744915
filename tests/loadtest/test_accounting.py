"""What processes use is that of all of them."""

import os
import subprocess
import sys
import time

import pytest
from msgspec.structs import replace

from loadtest import accounting
from loadtest.accounting import NANOSECOND, Usage, cores, machine, pinned, usage
from loadtest.server import load_cores, server_cores
from loadtest.stage import cpu_between
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
    assert child.cpu_seconds >= 0.3
    assert child.memory_bytes > 50_000_000
    assert both.cpu_seconds > before.cpu_seconds + 0.3
    assert both.memory_bytes > before.memory_bytes + 50_000_000


@linux
def test_cpu_time_is_finer_than_ticks() -> None:
    begin = time.process_time()
    before, middle = usage(os.getpid()), time.process_time()
    while time.process_time() < middle + 0.001:
        pass
    after = usage(os.getpid())
    assert before is not None
    assert after is not None
    assert after.step_seconds == NANOSECOND
    # In ticks of 10 ms it would be none or ten times as much.
    assert 0.001 <= after.cpu_seconds - before.cpu_seconds <= time.process_time() - begin


@linux
def test_where_there_are_but_ticks_they_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounting, "_clock", lambda process: None)
    found = usage(os.getpid())
    assert found is not None
    assert found.step_seconds == 1 / os.sysconf("SC_CLK_TCK")


def test_too_few_ticks_tell_nothing() -> None:
    begin = Usage(cpu_seconds=1.0, memory_bytes=0, step_seconds=0.01)
    assert cpu_between(begin, replace(begin, cpu_seconds=1.1)) is None
    assert cpu_between(begin, replace(begin, cpu_seconds=1.5)) == pytest.approx(0.5)
    exact = replace(begin, step_seconds=NANOSECOND, cpu_seconds=1.0001)
    assert cpu_between(begin, exact) == pytest.approx(0.0001)
    assert cpu_between(None, exact) is None


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
