"""Runs any scenario: connects, waits, sends messages, and counts all results."""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import Any

from msgspec import Struct

from .accounting import NANOSECOND, Usage, busy_seconds, machine, usage
from .crowd import (
    ANSWER_SECONDS,
    GOODBYE_SECONDS,
    CrowdPlan,
    Finish,
    Member,
    Progress,
    Result,
    Talk,
    Talked,
    main,
)
from .histogram import Histogram
from .pauses import Pauses, pauses_since
from .processes import Workers, messages
from .report import Latency, Report
from .server import Target, load_cores
from .wire import InputError, LoadError

PATIENCE_SECONDS = 15.0
"""Seconds without another ready connection or another delivery before the run is given up."""

LONGEST_SECONDS = 3600.0
SETTLE_SECONDS = 0.5
"""Seconds between the last connection and the measurement of the server's memory."""

DRAIN_SECONDS = 10.0
"""Seconds after the last answer in which the last delivery may come."""

LEAST_STEPS = 20
"""Steps of CPU time, if counted in ticks: with fewer steps a cost would be off by more than 5 %."""

Tell = Callable[[str], None]


class Stage(Struct, frozen=True, kw_only=True):
    """The work of a scenario.

    Args:
        scenario, parameters: for the report.
        crowds: the processes and their connections.
        listeners: number of receivers of each message.
        hold_seconds: seconds of idle connections before the sending.
        beside: work on the server after the idle time, in a thread.
        seconds: seconds of sending; 0 for none.
        drain_seconds: seconds that the last delivery may take after the last answer.
    """

    scenario: str
    parameters: dict[str, float]
    crowds: list[CrowdPlan]
    listeners: int = 0
    hold_seconds: float = 0.0
    beside: Callable[[], None] | None = None
    seconds: float = 0.0
    drain_seconds: float = DRAIN_SECONDS

    @property
    def members(self) -> Iterable[Member]:
        """All connections."""
        return (member for crowd in self.crowds for member in crowd.members)


class _Measured(Struct):
    """Intermediate measurements, besides the crowds' own results."""

    connect_seconds: float = 0.0
    before: Usage | None = None
    connected: Usage | None = None
    idle: Usage | None = None
    talked: Usage | None = None
    redis_start: Usage | None = None
    redis_connected: Usage | None = None
    redis_before: Usage | None = None
    redis_talked: Usage | None = None
    disturbance: float = 0.0
    pauses: dict[str, Pauses] = {}
    peak_bytes: int = 0
    start_ns: int = 0


def perform(stage: Stage, target: Target, tell: Tell) -> Report:
    """Run a scenario against a server, and report the progress.

    Raises:
        LoadError: the run fails.
    """
    if stage.seconds and not any(crowd.sends(stage.seconds) for crowd in stage.crowds):
        raise InputError("nothing would be sent: rate × seconds is less than a message")
    found = _Measured(before=usage(target.pid), redis_start=usage(target.redis_pid))
    begin_ns, begin, others = time.monotonic_ns(), time.monotonic(), work_of_others(target)
    with Workers(load_cores()) as workers:
        pipes = [workers.start(main, crowd) for crowd in stage.crowds]
        fleet = _Fleet(pipes, target, tell, found)
        fleet.await_connected(stage)
        found.connect_seconds = time.monotonic() - begin
        time.sleep(SETTLE_SECONDS)
        found.connected = found.idle = usage(target.pid)
        found.redis_connected = usage(target.redis_pid)
        if stage.hold_seconds:
            fleet.hold(stage.hold_seconds)
            found.idle = usage(target.pid)
        if stage.beside is not None:
            fleet.await_work(stage.beside)
        talked: list[Talked] = []
        if stage.seconds:
            found.redis_before = usage(target.redis_pid)
            talked = fleet.talk(stage.seconds)
            acknowledged = sum(part.acknowledged for part in talked)
            fleet.await_deliveries(acknowledged * stage.listeners, stage.drain_seconds)
            found.talked = usage(target.pid)
            found.redis_talked = usage(target.redis_pid)
        found.disturbance = (work_of_others(target) - others) / (time.monotonic() - begin)
        results = fleet.finish()
    if target.pauses is not None and target.pid is not None:
        found.pauses = pauses_since(target.pauses, target.pid, begin_ns)
    return _report(stage, target, found, talked, results)


def work_of_others(target: Target) -> float:
    """Return the CPU seconds so far of all work except this load test and its server."""
    busy, own = busy_seconds(), usage(os.getpid())
    if busy is None or own is None:
        return 0.0
    # A server started elsewhere is not among this process's descendants.
    served = usage(target.pid) if target.started_elsewhere else None
    return busy - own.cpu_seconds - (served.cpu_seconds if served else 0.0)


class _Fleet:
    """All processes of the load test, with their progress."""

    def __init__(
        self, pipes: list[Connection], target: Target, tell: Tell, found: _Measured
    ) -> None:
        self._pipes = pipes
        self._target = target
        self._tell = tell
        self._found = found
        self._progress = dict.fromkeys(pipes, Progress(0, 0, 0))
        self._told_at = time.monotonic()
        self._told_deliveries = 0

    def await_connected(self, stage: Stage) -> None:
        """Wait until all connections are ready.

        Raises:
            LoadError: the server lets no further connection get ready.
        """
        wanted = sum(len(crowd.members) for crowd in stage.crowds)
        patience = PATIENCE_SECONDS + max(
            1 / crowd.connects_per_second if crowd.connects_per_second else 0.0
            for crowd in stage.crowds
        )
        seen, deadline = 0, time.monotonic() + patience
        for pipe, message in messages(self._pipes, seconds=LONGEST_SECONDS):
            self._note(pipe, message)
            connected = sum(progress.connected for progress in self._progress.values())
            if connected == wanted:
                return
            if connected > seen:
                seen, deadline = connected, time.monotonic() + patience
            if time.monotonic() > deadline:
                raise LoadError(
                    f"{self._target.host}:{self._target.port} has not answered for {patience:g} s;"
                    f" {connected:,} of {wanted:,} connections are ready"
                )

    def hold(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        for pipe, message in messages(self._pipes, seconds=seconds + PATIENCE_SECONDS):
            self._note(pipe, message)
            if time.monotonic() >= end:
                return

    def await_work(self, work: Callable[[], None]) -> None:
        with ThreadPoolExecutor(1) as pool:
            done = pool.submit(work)
            for pipe, message in messages(self._pipes, seconds=LONGEST_SECONDS):
                self._note(pipe, message)
                if done.done():
                    break
        done.result()

    def talk(self, seconds: float) -> list[Talked]:
        """Let all publishers send at the same time, until all messages are answered."""
        self._found.start_ns = time.monotonic_ns() + 100_000_000
        self._send(Talk(self._found.start_ns, seconds))
        waiting = set(self._pipes)
        talked = []
        for pipe, message in messages(self._pipes, seconds=3 * seconds + ANSWER_SECONDS + 10):
            self._note(pipe, message)
            self._watch_memory()
            if isinstance(message, Talked):
                talked.append(message)
                waiting.discard(pipe)
            if not waiting:
                break
        return talked

    def await_deliveries(self, expected: int, seconds: float) -> None:
        """Wait for the expected number of deliveries, or until no further delivery comes."""
        seen, deadline = -1, time.monotonic() + seconds
        for pipe, message in messages(self._pipes, seconds=LONGEST_SECONDS):
            self._note(pipe, message)
            self._watch_memory()
            deliveries = sum(progress.deliveries for progress in self._progress.values())
            if deliveries > seen:
                seen, deadline = deliveries, time.monotonic() + seconds
            if deliveries >= expected or time.monotonic() > deadline:
                return

    def finish(self) -> list[Result]:
        self._send(Finish())
        waiting = set(self._pipes)
        results = []
        for pipe, message in messages(waiting, seconds=2 * DRAIN_SECONDS + GOODBYE_SECONDS):
            if isinstance(message, Result):
                results.append(message)
                waiting.discard(pipe)
            if not waiting:
                break
        return results

    def _send(self, order: object) -> None:
        for pipe in self._pipes:
            pipe.send(order)

    def _watch_memory(self) -> None:
        used = usage(self._target.pid)
        if used is not None:
            self._found.peak_bytes = max(self._found.peak_bytes, used.memory_bytes)

    def _note(self, pipe: Connection, message: object) -> None:
        if not isinstance(message, Progress):
            return
        self._progress[pipe] = message
        seconds = time.monotonic() - self._told_at
        if seconds < 0.5:
            return
        connected = sum(progress.connected for progress in self._progress.values())
        deliveries = sum(progress.deliveries for progress in self._progress.values())
        rate = (deliveries - self._told_deliveries) / seconds
        self._tell(f"{connected:,} connected, {deliveries:,} deliveries, {rate:,.0f}/s")
        self._told_at += seconds
        self._told_deliveries = deliveries


def _report(
    stage: Stage,
    target: Target,
    found: _Measured,
    talked: list[Talked],
    results: list[Result],
) -> Report:
    members = list(stage.members)
    acknowledged = sum(part.acknowledged for part in talked)
    deliveries = sum(result.deliveries for result in results)
    last_ns = max(result.last_ns for result in results)
    elapsed = max((last_ns - found.start_ns) / 1e9, stage.seconds) or found.connect_seconds
    latencies = {
        "connecting": merged(result.connecting for result in results),
        "acknowledgement": merged(result.acknowledgement for result in results),
        "delivery": merged(result.delivery for result in results),
    }
    return Report(
        scenario=stage.scenario,
        target=target.name,
        parameters=stage.parameters,
        machine=machine(),
        connections=len(members),
        connect_seconds=found.connect_seconds,
        published=sum(part.sent for part in talked),
        acknowledged=acknowledged,
        errors=_sum(part.errors for part in talked),
        deliveries=deliveries,
        lost=max(0, acknowledged * stage.listeners - deliveries),
        skipped=sum(result.skipped for result in results),
        duplicates=sum(result.duplicates for result in results),
        lost_connections=_sum(result.lost for result in results),
        stalled=sum(member.stalls for member in members),
        stalled_cut=sum(result.stalled_cut for result in results),
        deliveries_per_second=deliveries / elapsed,
        publishes_per_second=acknowledged / elapsed,
        connecting=Latency.of(latencies["connecting"]),
        delivery=Latency.of(latencies["delivery"]),
        acknowledgement=Latency.of(latencies["acknowledgement"]),
        bytes_per_delivery=per(sum(result.bytes_in for result in results), deliveries),
        pauses=found.pauses,
        busiest_generator=max(result.cpu_seconds for result in results) / elapsed,
        disturbance=max(0.0, found.disturbance),
        counts={name: histogram.counts for name, histogram in latencies.items()},
        **_costs(stage, found, len(members), deliveries, acknowledged, elapsed),
    )


def _costs(
    stage: Stage,
    found: _Measured,
    connections: int,
    deliveries: int,
    acknowledged: int,
    elapsed: float,
) -> dict[str, Any]:
    connecting = cpu_between(found.before, found.connected)
    arriving = cpu_between(found.redis_start, found.redis_connected)
    talking = cpu_between(found.idle, found.talked)
    redis = cpu_between(found.redis_before, found.redis_talked)
    idle = cpu_between(found.connected, found.idle) if stage.hold_seconds else None
    before, connected = found.before, found.connected
    grown = connected.memory_bytes - before.memory_bytes if before and connected else None
    return {
        "cpu_us_per_connect": per(connecting, connections, 1e6),
        "redis_cpu_us_per_connect": per(arriving, connections, 1e6),
        "cpu_us_per_delivery": per(talking, deliveries, 1e6),
        "cpu_us_per_publish": per(talking, acknowledged, 1e6),
        "idle_cpu_us_per_second": per(idle, connections * stage.hold_seconds, 1e6),
        "redis_cpu_us_per_publish": per(redis, acknowledged, 1e6),
        "memory_bytes": connected.memory_bytes if connected else None,
        "memory_bytes_per_connection": per(grown, connections),
        "talk_memory_bytes": max(0, found.peak_bytes - connected.memory_bytes)
        if connected and found.peak_bytes
        else None,
        "server_cores": per(talking, elapsed),
    }


def cpu_between(before: Usage | None, after: Usage | None) -> float | None:
    """Return the CPU time between; None if unknown, or too short for the resolution."""
    if before is None or after is None:
        return None
    used = after.cpu_seconds - before.cpu_seconds
    coarse = after.step_seconds > NANOSECOND
    return None if coarse and used < LEAST_STEPS * after.step_seconds else max(0.0, used)


def per(amount: float | None, number: float, unit: float = 1.0) -> float | None:
    """Return an amount divided by a number, in some unit; None if either is missing."""
    return None if amount is None or not number else amount * unit / number


def merged(parts: Iterable[list[int]]) -> Histogram:
    """Return one histogram of the counts of several."""
    whole = Histogram()
    for part in parts:
        whole.merge(Histogram(part))
    return whole


def _sum(parts: Iterable[dict[str, int]]) -> dict[str, int]:
    return dict(sum((Counter(part) for part in parts), Counter[str]()))
