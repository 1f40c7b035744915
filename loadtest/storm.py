"""A storm: a worker is killed and restarted, and all its clients reconnect.

Meanwhile a second worker on the same Redis accepts the events that the clients miss. Its costs do
not count.
"""

import itertools
import os
import signal
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from multiprocessing.connection import Connection
from typing import Protocol, TypeVar

from msgspec import Struct

from tests.rig.ports import free_port

from .accounting import machine, usage
from .crowd import CrowdPlan, Finish, Member, Progress, Result, Return, Returned, main
from .filling import fill
from .processes import Workers, messages
from .report import Latency, Report
from .scenarios.common import spread
from .server import Target, load_cores, redis_server
from .stage import Tell, cpu_between, merged, per, work_of_others

CONNECT_SECONDS = 120.0
"""Seconds that all clients may take to connect, and to reconnect."""

END_SECONDS = 30.0

Message = TypeVar("Message")


class Running(Protocol):
    """Runs one worker on a port, over a Redis."""

    def __call__(
        self, port: int, redis_url: str | None, *, to: Sequence[int] = ()
    ) -> AbstractContextManager[Target]: ...


class Storm(Struct, frozen=True, kw_only=True):
    """One turn; see `sampling.Turn`.

    Args:
        key: the key of the reports.
        running: runs the workers.
        clients: connections to the killed worker.
        rooms: number of topics of the clients.
        missed: missed events of each client.
        processes: number of processes of the clients.
    """

    key: str
    running: Running
    clients: int = 2000
    rooms: int = 20
    missed: int = 20
    processes: int = 1

    def run(self, tell: Tell) -> Report:
        """Run once, and report the progress.

        Raises:
            LoadError: the run fails.
        """
        with (
            redis_server() as (redis_url, redis_pid),
            Workers(load_cores()) as workers,
            self.running(free_port(), redis_url, to=load_cores()) as other,
        ):
            return self._run(redis_url, redis_pid, other, workers, tell)

    def _run(
        self, redis_url: str, redis_pid: int, other: Target, workers: Workers, tell: Tell
    ) -> Report:
        port = free_port()
        with self.running(port, redis_url) as first:
            pipes = [workers.start(main, crowd) for crowd in self._crowds(first)]
            tell(f"{self.clients:,} clients come")
            _await_connected(pipes, self.clients)
            assert first.pid is not None
            os.kill(first.pid, signal.SIGKILL)
        tell(f"they miss {self.missed} events in each of {self.rooms} rooms")
        for name in self._rooms:
            fill(other, name, self.missed)
        redis_before, others = usage(redis_pid), work_of_others(other)
        begin_ns = time.monotonic_ns()
        with self.running(port, redis_url) as again:
            ready = usage(again.pid)
            _send(pipes, Return(self.missed))
            tell("they come back")
            returned = _gather(pipes, Returned, CONNECT_SECONDS)
            live, redis_live = usage(again.pid), usage(redis_pid)
            seconds = (max(each.at_ns for each in returned) - begin_ns) / 1e9
            disturbance = max(0.0, work_of_others(other) - others) / seconds
            _send(pipes, Finish())
            results = _gather(pipes, Result, END_SECONDS)
        redis = cpu_between(redis_before, redis_live)
        return Report(
            scenario="storm",
            target=again.name,
            parameters={"clients": self.clients, "rooms": self.rooms, "missed": self.missed},
            machine=machine(),
            connections=self.clients,
            connect_seconds=seconds,
            connecting=Latency.of(merged(result.connecting for result in results)),
            skipped=sum(result.skipped for result in results),
            duplicates=sum(result.duplicates for result in results),
            lost_connections={w: n for result in results for w, n in result.lost.items()},
            cpu_us_per_connect=per(cpu_between(ready, live), self.clients, 1e6),
            redis_cpu_us_per_connect=per(redis, self.clients, 1e6),
            start_cpu_seconds=ready.cpu_seconds if ready else None,
            busiest_generator=max(result.cpu_seconds for result in results) / seconds,
            disturbance=disturbance,
        )

    @property
    def _rooms(self) -> list[str]:
        return [f"room:{number}" for number in range(self.rooms)]

    def _crowds(self, target: Target) -> list[CrowdPlan]:
        members = [
            Member(target.mint(f"reader-{number}", name), name)
            for number, name in zip(range(self.clients), itertools.cycle(self._rooms))
        ]
        return list(spread(target, members, self.processes))


def storm_seconds(report: Report) -> float:
    """Return the time from the start of the worker until the last client was live again."""
    return report.connect_seconds


def storm_cpu_seconds(report: Report) -> float | None:
    """Return the worker's CPU time of the storm, its start included."""
    each, start = report.cpu_us_per_connect, report.start_cpu_seconds
    return None if each is None or start is None else start + each * report.connections / 1e6


def _await_connected(pipes: list[Connection], wanted: int) -> None:
    connected = dict.fromkeys(pipes, 0)
    for pipe, message in messages(pipes, seconds=CONNECT_SECONDS):
        if isinstance(message, Progress):
            connected[pipe] = message.connected
        if sum(connected.values()) == wanted:
            return


def _gather(pipes: list[Connection], kind: type[Message], seconds: float) -> list[Message]:
    """Return a message of some kind from each process."""
    waiting, found = set(pipes), []
    for pipe, message in messages(waiting, seconds=seconds):
        if isinstance(message, kind):
            found.append(message)
            waiting.discard(pipe)
        if not waiting:
            break
    return found


def _send(pipes: list[Connection], order: object) -> None:
    for pipe in pipes:
        pipe.send(order)
