"""The cost of a login besides its unavoidable password hash."""

import http.client
import json
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Final

from argon2 import PasswordHasher
from msgspec import Struct

from chat_server.settings import load_settings

from .accounting import Machine, busy_seconds, machine, pinned, usage
from .layout import describe, markdown
from .server import Target, load_cores, server_cores, started
from .stage import Tell
from .wire import LoadError

MOST_MS: Final = 2.0
"""Milliseconds that a login may take besides the hash."""

NAME, PASSWORD = "alice", "correct horse battery"


class LoginPlan(Struct, frozen=True, kw_only=True):
    """The size of the measurement.

    Args:
        rounds: number of alternating rounds.
        logins: logins of each round, with as many hashes.
    """

    rounds: int = 5
    logins: int = 40


class Round(Struct, frozen=True):
    """Medians of one round in milliseconds: wall time, and CPU time of each.

    Args:
        hash_ms: a hash, computed here.
        hash_cpu_ms: CPU time of a hash.
        login_ms: a login by HTTP, from request to answer.
        login_cpu_ms: CPU time of the server for a login.
        others: cores occupied by other work meanwhile.
    """

    hash_ms: float
    hash_cpu_ms: float
    login_ms: float
    login_cpu_ms: float
    others: float = 0.0


class Login(Struct, frozen=True):
    """The result of a run."""

    machine: Machine
    plan: LoginPlan
    rounds: list[Round]

    @property
    def more_ms(self) -> float:
        """Wall time of a login besides the hash."""
        return median(each.login_ms - each.hash_ms for each in self.rounds)

    @property
    def more_cpu_ms(self) -> float:
        """CPU time of a login besides the hash."""
        return median(each.login_cpu_ms - each.hash_cpu_ms for each in self.rounds)


def login(plan: LoginPlan, tell: Tell) -> Login:
    """Run all measurements, and report the progress.

    Raises:
        LoadError: the server does not start, or refuses a login.
    """
    with tempfile.TemporaryDirectory() as folder:
        environ = {
            "CHAT_ACCOUNTS__ENABLED": "on",
            "CHAT_ACCOUNTS__SIGN_UP": "open",
            "CHAT_ACCOUNTS__ATTEMPTS_PER_NAME": "1000000",
            "CHAT_ACCOUNTS__ATTEMPTS_PER_ADDRESS": "1000000",
            "CHAT_DATABASE__URL": f"sqlite+aiosqlite:///{Path(folder) / 'chat.db'}",
            "CHAT_DATABASE__MIGRATE": "true",
            "CHAT_NAMESPACES__DEFAULT__ARCHIVE": "false",
        }
        with started(environ=environ) as target:
            connection = http.client.HTTPConnection(target.host, target.port, timeout=60)
            _ask(connection, "/users", 201)
            _ask(connection, "/auth/login", 200)  # the first login imports, connects and prepares
            rounds = []
            for number in range(plan.rounds):
                tell(f"round {number + 1} of {plan.rounds}")
                rounds.append(_round(plan, target, connection))
            connection.close()
    return Login(machine(["argon2-cffi", "sqlalchemy", "aiosqlite"]), plan, rounds)


def _round(plan: LoginPlan, target: Target, connection: http.client.HTTPConnection) -> Round:
    settings = load_settings().accounts
    hasher = PasswordHasher(
        time_cost=settings.hash_passes, memory_cost=settings.hash_memory_kib, parallelism=1
    )
    digest = hasher.hash(PASSWORD)
    hashes, logins = [], []
    # In turns on the same core, so both get the same speed.
    hash_cpu, login_cpu = 0.0, 0.0
    began, busy, own = time.monotonic(), busy_seconds() or 0.0, time.process_time()
    for _ in range(plan.logins):
        with pinned(server_cores()):
            begin, cpu = time.perf_counter(), time.thread_time()
            hasher.verify(digest, PASSWORD)
            hashes.append(time.perf_counter() - begin)
            hash_cpu += time.thread_time() - cpu
        with pinned(load_cores()):
            before = _cpu_seconds(target)
            begin = time.perf_counter()
            _ask(connection, "/auth/login", 200)
            logins.append(time.perf_counter() - begin)
            login_cpu += _cpu_seconds(target) - before
    busy = (busy_seconds() or 0.0) - busy - login_cpu - (time.process_time() - own)
    return Round(
        1000 * median(hashes),
        1000 * hash_cpu / plan.logins,
        1000 * median(logins),
        1000 * login_cpu / plan.logins,
        max(busy, 0.0) / (time.monotonic() - began),
    )


def _cpu_seconds(target: Target) -> float:
    used = usage(target.pid)
    return 0.0 if used is None else used.cpu_seconds


def _ask(connection: http.client.HTTPConnection, path: str, status: int) -> None:
    connection.request("POST", path, json.dumps({"name": NAME, "password": PASSWORD}))
    answer = connection.getresponse()
    body = answer.read()
    if answer.status != status:
        raise LoadError(f"{path} is answered by {answer.status}: {body.decode()}")


def login_lines(found: Login) -> list[list[str]]:
    """Return the rows of a table, the header first."""
    rows = [["", "hash", "login by HTTP", "besides the hash", "at most", "", "other work"]]
    by_clock = [median(each.hash_ms for each in found.rounds)]
    by_clock.append(median(each.login_ms for each in found.rounds))
    of_cpu = [median(each.hash_cpu_ms for each in found.rounds)]
    of_cpu.append(median(each.login_cpu_ms for each in found.rounds))
    others = f"{median(each.others for each in found.rounds):.2f} cores"
    for name, (mine, whole), more in (
        ("CPU of the server", of_cpu, found.more_cpu_ms),
        ("time", by_clock, found.more_ms),
    ):
        verdict = "met" if more <= MOST_MS else "NOT MET"
        measured = [f"{ms:.1f} ms" for ms in (mine, whole, more)]
        rows.append([name, *measured, f"{MOST_MS:g} ms", verdict, others])
    return rows


def login_text(found: Login) -> str:
    """Return the page's text about a run."""
    plan = found.plan
    about = (
        f"`POST /auth/login` on a kept connection, with SQLite, and the hash alone in turns on the "
        f"same core. Medians of {plan.rounds} rounds of {plan.logins} each; of CPU, their means. "
        f"{describe(found.machine)}"
    )
    return f"{about}\n\n{markdown(login_lines(found))}"
