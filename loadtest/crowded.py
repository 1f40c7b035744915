"""Crowded: what operators' questions and orders cost a server with very many connections.

The measure is the time for which a worker's event loop is blocked: meanwhile the worker serves no
client.
"""

import http.client
import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from .accounting import Machine, machine, usage
from .crowd import Member
from .held import VARIABLE, Held, held_between
from .layout import describe, markdown
from .report import Report
from .sampling import slim
from .scenarios.common import spread
from .server import Target, started
from .stage import Stage, Tell, perform
from .wire import LoadError

NOTHING: Final = "nothing, for a second"
REGULAR: Final = "regular"
"""A user with many connections."""

ENVIRON: Final = {
    "CHAT_METRICS__ENABLED": "true",
    "CHAT_LIMITS__MAX_CONNECTIONS_PER_USER": "1000000",
    # Otherwise the run would measure the clients' simultaneous answers to pings.
    "CHAT_GATEWAY__HEARTBEAT_SECONDS": "3600",
    # Redis shares a core with all clients.
    "CHAT_REDIS__TIMEOUT_SECONDS": "20",
}

QUIET_SECONDS: Final = 3.0
SETTLE_SECONDS: Final = 0.3
"""Seconds after an answer for the remaining work of a worker."""

PATIENCE_SECONDS: Final = 30.0


class CrowdedPlan(Struct, frozen=True, kw_only=True):
    """The size of the measurement.

    Args:
        connections: open connections, each of another user; one run for each number.
        per_worker: connections of each worker, and of each process of clients.
        topics: number of topics; each connection subscribes to one topic.
        regular: connections of one single user.
        times: repetitions of each question.
    """

    connections: tuple[int, ...] = (20_000, 100_000)
    per_worker: int = 12_500
    topics: int = 2_000
    regular: int = 500
    times: int = 3

    def workers(self, connections: int) -> int:
        """Return the number of workers for a number of connections."""
        return math.ceil(connections / self.per_worker)


class Asked(Struct, frozen=True):
    """A question or an order, with its costs.

    Args:
        what: the question or order.
        answer_ms: time until the answer, the median.
        held: the longest time of all.
        cpu_ms: CPU time of all workers, the median.
        note: a summary of the answer.
    """

    what: str
    answer_ms: float
    held: Held
    cpu_ms: float
    note: str = ""


class Run(Struct, frozen=True):
    """The result with one number of connections.

    Args:
        load: the load average of the machine before.
    """

    connections: int
    load: float
    report: Report
    asked: list[Asked]


class Crowded(Struct, frozen=True):
    """The result of a run."""

    machine: Machine
    plan: CrowdedPlan
    runs: list[Run]


class _Ask(Struct, frozen=True):
    """A request; a request with a body is an order and is sent once."""

    what: str
    path: str
    body: dict[str, Any] | None = None


def crowded(plan: CrowdedPlan, tell: Tell) -> Crowded:
    """Fill a server with each number of connections, and send the requests.

    Raises:
        LoadError: the run fails.
    """
    return Crowded(machine(), plan, [_run(plan, number, tell) for number in plan.connections])


def _run(plan: CrowdedPlan, connections: int, tell: Tell) -> Run:
    load, asked = os.getloadavg()[0], list[Asked]()
    with tempfile.TemporaryDirectory() as folder:
        notes = Path(folder) / "held"
        notes.touch()
        workers = plan.workers(connections)
        running = started(
            workers=workers,
            redis=workers > 1,
            environ={**ENVIRON, VARIABLE: str(notes)},
            module=f"{__package__}.held_server",
        )
        with running as target:
            operator = _Operator(plan, target, notes)
            beside = partial(operator.ask_all, asked, tell)
            report = perform(_stage(plan, connections, target, beside), target, tell)
    return Run(connections, load, slim(report), asked)


def _stage(
    plan: CrowdedPlan, connections: int, target: Target, beside: Callable[[], None]
) -> Stage:
    def member(number: int) -> Member:
        topic = f"room:{number % plan.topics:06}"
        user = REGULAR if number < plan.regular else f"user-{number:06}"
        return Member(target.mint(user, topic), topic)

    members = [member(number) for number in range(connections)]
    plans = spread(target, members, plan.workers(connections))
    return Stage(
        scenario="crowded",
        parameters={"connections": connections, "topics": plan.topics},
        # An address has some 28,000 ports.
        crowds=[replace(each, source=f"127.0.1.{n}") for n, each in enumerate(plans, start=1)],
        beside=beside,
    )


class _Operator:
    """Sends requests, and measures their costs."""

    def __init__(self, plan: CrowdedPlan, target: Target, notes: Path) -> None:
        self._plan = plan
        self._target = target
        self._notes = notes
        self._token = target.mint("operator", "**", "admin")

    def ask_all(self, asked: list[Asked], tell: Tell) -> None:
        begin, before = time.monotonic_ns(), usage(self._target.pid)
        time.sleep(QUIET_SECONDS)
        quiet, after = (
            held_between(self._notes, begin, time.monotonic_ns()),
            usage(self._target.pid),
        )
        cpu = (after.cpu_seconds - before.cpu_seconds) / QUIET_SECONDS if before and after else 0.0
        asked.append(Asked(NOTHING, 1_000.0, quiet, cpu * 1_000))
        self._request("/api/topics/room:000001/messages", {"data": {"text": "hello"}})
        for ask in self._asks():
            tell(ask.what)
            asked.append(self._ask(ask))

    def _asks(self) -> Iterator[_Ask]:
        admin = "/api/admin"
        yield _Ask("`/metrics`", "/metrics")
        yield _Ask("`/health`", "/health")
        yield _Ask("nodes", f"{admin}/nodes")
        yield _Ask("connections, a page of 100", f"{admin}/connections")
        yield _Ask("connections, a page of 1,000", f"{admin}/connections?limit=1000")
        yield _Ask("connections, 1,000 from the middle", f"{admin}/connections?limit=1000&after=8")
        yield _Ask("connections of a user", f"{admin}/connections?limit=1000&user={REGULAR}")
        yield _Ask("connections of an address", f"{admin}/connections?address=127.0.1.1")
        yield _Ask("connections of a topic", f"{admin}/connections?topic=room:000001")
        yield _Ask("connections of no client", f"{admin}/connections?client=nobody")
        yield _Ask("topics, a page of 100", f"{admin}/topics")
        yield _Ask("topics, a page of 1,000", f"{admin}/topics?limit=1000")
        yield _Ask("topics by a pattern", f"{admin}/topics?topic=room:*9")
        yield _Ask("topics of a user", f"{admin}/topics?user={REGULAR}&limit=1000")
        yield _Ask("explain, for a user", f"{admin}/explain?topic=room:000001&seq=1&user={REGULAR}")
        orders: dict[str, dict[str, Any]] = {
            "announce": {"data": {"text": "hello"}},
            "unsubscribe": {"user": REGULAR, "topic": "room:000001"},
            "close": {"topic": "room:000002"},
            "revoke": {"jti": "nobody's"},
            "disconnect": {"user": REGULAR},
        }
        for name, fields in orders.items():
            yield _Ask(name, f"{admin}/{name}", {**fields, "reason": "a load test"})

    def _ask(self, ask: _Ask) -> Asked:
        times, costs, answer = [], [], b""
        begin = time.monotonic_ns()
        for _ in range(1 if ask.body else self._plan.times):
            before, began = usage(self._target.pid), time.monotonic()
            answer = self._request(ask.path, ask.body)
            times.append((time.monotonic() - began) * 1_000)
            time.sleep(SETTLE_SECONDS)
            after = usage(self._target.pid)
            if before and after:
                costs.append((after.cpu_seconds - before.cpu_seconds) * 1_000)
        held = held_between(self._notes, begin, time.monotonic_ns())
        cpu = statistics.median(costs) if costs else 0.0
        return Asked(ask.what, statistics.median(times), held, cpu, _note(answer))

    def _request(self, path: str, body: Any = None) -> bytes:
        client = http.client.HTTPConnection(
            self._target.host, self._target.port, timeout=PATIENCE_SECONDS
        )
        try:
            client.request(
                "GET" if body is None else "POST",
                path,
                None if body is None else msgspec.json.encode(body),
                {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"},
            )
            response = client.getresponse()
            answer = response.read()
        except OSError as error:
            raise LoadError(f"{path}: {error}") from None
        finally:
            client.close()
        if response.status >= 300:
            raise LoadError(f"{path}: {response.status} {answer[:300].decode(errors='replace')}")
        return answer


def _note(answer: bytes) -> str:
    """Return a summary of an answer's size."""
    if not answer.startswith(b"{"):
        return f"{len(answer):,} bytes"
    fields = msgspec.json.decode(answer)
    parts = []
    for name in ("nodes", "connections", "topics", "workers"):
        found = fields.get(name)
        if isinstance(found, list | int):
            number = len(found) if isinstance(found, list) else found
            parts.append(f"{number:,} {name}")
    if fields.get("missing"):
        parts.append(f"{len(fields['missing'])} missing")
    return ", ".join(parts)


def crowded_lines(found: Crowded) -> list[list[str]]:
    """Return the rows of a table, the header first."""
    head = ["what"]
    for run in found.runs:
        head += [f"{run.connections:,}: answer after", "held for", "CPU of it", "CPU of all"]
    rows = [head]
    for each in zip(*(run.asked for run in found.runs), strict=True):
        row = [each[0].what]
        for one in each:
            times = (one.answer_ms, one.held.wall_ms, one.held.cpu_ms, one.cpu_ms)
            row += [f"{time:,.0f} ms" for time in times]
        rows.append(row)
    return rows


def arrivals(found: Crowded) -> list[str]:
    """Return a line for each number of connections: the cost of their arrival."""
    return [
        f"{run.connections:,} connections to {found.plan.workers(run.connections)} workers came in "
        f"{run.report.connect_seconds:,.0f} s, "
        f"{run.report.cpu_us_per_connect or 0:,.0f} µs of CPU of the workers each; their memory "
        f"grew by {(run.report.memory_bytes_per_connection or 0) / 1024:.1f} KiB for each; load "
        f"average of the machine at first {run.load:.0f}, other work "
        f"{run.report.disturbance:.2f} cores"
        for run in found.runs
    ]


def crowded_text(found: Crowded) -> str:
    """Return the page's text about a run."""
    plan = found.plan
    about = (
        f"Each connection is a user's, {plan.regular:,} are one user's; each is subscribed to one "
        f"of {plan.topics:,} topics. All workers share one core, and a Redis. Questions are asked "
        f"{plan.times} times, orders are given once. {describe(found.machine)}"
    )
    return f"{about}\n\n{markdown(crowded_lines(found))}"
