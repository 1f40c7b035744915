"""CPU time and memory of processes, from the operating system's accounting; Linux only.

Not with psutil: psutil counts CPU time in ticks of 10 ms, and `make bench` needs only the server's
own dependencies.
"""

import os
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from msgspec import Struct

from .wire import LoadError

PROC = Path("/proc")


class Usage(Struct, frozen=True):
    """CPU time used so far, and present memory, of some processes and all their descendants.

    Args:
        step_seconds: the resolution of the CPU time.
    """

    cpu_seconds: float
    memory_bytes: int
    step_seconds: float


class Machine(Struct, frozen=True):
    """The machine of a run, as far as the numbers depend on the machine."""

    cpu: str
    cores: int
    memory_bytes: int
    system: str
    python: str
    versions: dict[str, str]


def usage(pid: int | None) -> Usage | None:
    """Return the usage of a process and its descendants; None without a pid or without /proc.

    Raises:
        LoadError: the process does not exist.
    """
    if pid is None or not (PROC / "self/stat").exists():
        return None
    processes = dict(_processes())
    if pid not in processes:
        raise LoadError(f"there is no process {pid}")
    parents = {process: parent for process, (parent, _, _) in processes.items()}
    mine = [process for process in processes if _descends(process, pid, parents)]
    tick = 1 / os.sysconf("SC_CLK_TCK")
    ticks = {process: processes[process][1] * tick for process in mine}
    clocks = {process: _clock(process) for process in mine}
    used = [ticks[process] if clock is None else clock for process, clock in clocks.items()]
    return Usage(
        cpu_seconds=sum(used),
        memory_bytes=sum(processes[process][2] for process in mine) * os.sysconf("SC_PAGE_SIZE"),
        step_seconds=tick if None in clocks.values() else NANOSECOND,
    )


NANOSECOND = 1e-9

LIBRARIES = ("quart", "hypercorn", "websockets", "uvloop", "msgspec", "redis", "hiredis", "pyjwt")


def busy_seconds() -> float | None:
    """Return the CPU time of all cores, including time stolen by the hypervisor.

    Work at low priority is left out, because such work gives way. None without /proc.
    """
    try:
        line = (PROC / "stat").read_text().partition("\n")[0]
    except OSError:
        return None
    user, _, system, _, _, irq, softirq, steal, *_ = (int(ticks) for ticks in line.split()[1:])
    return (user + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def machine(libraries: Sequence[str] = ()) -> Machine:
    """Describe this machine, with the versions of the server's and of more `libraries`."""
    return Machine(
        cpu=_cpu_model(),
        cores=len(cores()),
        memory_bytes=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        system=f"{platform.system()} {platform.release().partition('-')[0]}",
        python=platform.python_version(),
        versions={name: found for name in (*LIBRARIES, *libraries) if (found := _version(name))},
    )


def cores() -> list[int]:
    """Return the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


@contextmanager
def pinned(to: Sequence[int]) -> Iterator[None]:
    """Keep the processes started here on some cores, where the system supports pinning.

    The processes inherit the cores from this thread, so they never see other cores.
    """
    if not to or not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, to)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _clock(process: int) -> float | None:
    """Return the CPU seconds of all threads of a process, including ended threads.

    The scheduler counts nanoseconds; /proc/PID/stat has ticks of 10 ms. The function returns None
    for an ended process, or without such a clock. The clock's number is the result of
    clock_getcpuclockid(3).
    """
    try:
        return time.clock_gettime((~process << 3) | 2)
    except OSError:
        return None


def open_files(process: int) -> int:
    """Return the number of open files and sockets of a process."""
    return len(os.listdir(PROC / str(process) / "fd"))


def _processes() -> Iterator[tuple[int, tuple[int, int, int]]]:
    """Yield each process with its parent, its CPU ticks, and its resident pages."""
    for entry in PROC.glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # The process has ended meanwhile.
        yield (
            int(entry.parent.name),
            (int(fields[1]), int(fields[11]) + int(fields[12]), int(fields[21])),
        )


def _descends(process: int, ancestor: int, parents: Mapping[int, int]) -> bool:
    while process != ancestor and process in parents:
        process = parents[process]
    return process == ancestor


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None


def _cpu_model() -> str:
    try:
        lines = (PROC / "cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()
