"""The costs of the archive: its writer, a concurrent publication, and a page of history."""

import asyncio
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from chat_server.archive.reader import ArchiveReader
from chat_server.archive.tables import MESSAGES
from chat_server.archive.writer import ArchiveWriter
from chat_server.broker.memory import MemoryBroker
from chat_server.broker.redis.broker import RedisBroker
from chat_server.clock import SystemClock
from chat_server.consumers.ports import Batch
from chat_server.consumers.reading import read_batch
from chat_server.database import schema
from chat_server.database.database import Database
from chat_server.events import Retention, held
from chat_server.realtime.hub import Hub
from chat_server.realtime.ports import Broker
from chat_server.service.drafts import message_draft
from chat_server.settings import BrokerSettings, DatabaseSettings, RedisSettings

from .accounting import Machine, machine
from .layout import describe, markdown
from .scenarios.asks import asks
from .scenarios.publish import publish
from .server import Target, redis_server, started
from .stage import Stage, Tell, perform

AT_ONCE: Final = 500
"""Rows of a batch."""

PAGE: Final = 50
"""Messages on a page of history."""

TOPIC: Final = "room:archive"
KEPT: Final = held(Retention(1_000_000, 86_400.0, changes=1_000_000))

BUDGETS: Final = {"writer": 1.5, "publish": 1.05, "post": 1.05, "writing": 1.05, "page": 3.0}

_ARCHIVED: Final = {
    "CHAT_DATABASE__MIGRATE": "true",
    "CHAT_NAMESPACES__DEFAULT__ARCHIVE": "true",
}


class ArchivePlan(Struct, frozen=True, kw_only=True):
    """The size of the measurement.

    Args:
        rounds: number of alternating rounds.
        events: events written in each round.
        pages: pages of history read in each round.
        seconds: seconds of publishing in each round.
    """

    rounds: int = 5
    events: int = 10_000
    pages: int = 300
    seconds: float = 4.0


class Pair(Struct, frozen=True):
    """The result of one round in microseconds: with the archive, and the reference."""

    mine: float
    theirs: float


class ArchiveCosts(Struct, frozen=True):
    """The result of a run, by the name of the budget."""

    machine: Machine
    plan: ArchivePlan
    rounds: dict[str, list[Pair]]

    def ratio(self, name: str) -> float:
        """Return the median of the rounds' ratios."""
        return median(pair.mine / pair.theirs for pair in self.rounds[name])


def archive(plan: ArchivePlan, tell: Tell) -> ArchiveCosts:
    """Run all measurements, and report the progress.

    Raises:
        LoadError: a server does not start.
    """
    rounds: dict[str, list[Pair]] = {name: [] for name in BUDGETS}
    for number in range(plan.rounds):
        tell(f"round {number + 1} of {plan.rounds}")
        rounds["writer"].append(asyncio.run(_writer(plan)))
        rounds["page"].append(asyncio.run(_page(plan)))
        for name, pair in _publications(plan, tell).items():
            rounds[name].append(pair)
    return ArchiveCosts(machine(["sqlalchemy", "aiosqlite"]), plan, rounds)


async def _said(broker: Broker, count: int) -> None:
    await broker.start(Hub(broker, 1_000))
    for number in range(count):
        # A payload of some 200 bytes.
        data = b'{"text":"the words of message %07d, %s"}' % (number, b"and more of them " * 4)
        sender = b'{"user":"user-%d"}' % (number % 100)
        await broker.publish(message_draft(TOPIC, sender, data, KEPT, None))


async def _batches(broker: Broker) -> list[Batch]:
    found: list[Batch] = []
    while not found or found[-1].more:
        found.append(await read_batch(broker, TOPIC, found[-1].after if found else None))
    return found


async def _writer(plan: ArchivePlan) -> Pair:
    """Write the same rows by the writer, and by a bare `executemany`."""
    broker = MemoryBroker(BrokerSettings(), SystemClock())
    await _said(broker, plan.events)
    batches = await _batches(broker)
    with tempfile.TemporaryDirectory() as folder:
        mine, bare = (Path(folder) / name for name in ("mine.db", "bare.db"))
        database = Database(_settings(mine))
        await database.start()
        writer = ArchiveWriter(database, lambda topic: True)
        begin = time.perf_counter()
        for batch in batches:
            await writer.take([batch])
        took = time.perf_counter() - begin
        await database.stop()
        await schema.upgrade(_settings(bare))
        return Pair(1e6 * took / plan.events, 1e6 * _bare(mine, bare) / plan.events)


def _bare(mine: Path, bare: Path) -> float:
    columns = [column.name for column in MESSAGES.c if column.name != "id"]
    listed = ",".join(columns)
    with _opened(mine) as source, _opened(bare) as sink:
        rows = source.execute(f"SELECT {listed} FROM chat_archive_messages ORDER BY id").fetchall()
        topics = source.execute("SELECT * FROM chat_archive_topics").fetchall()
        sink.execute("PRAGMA foreign_keys = ON")
        sink.execute("PRAGMA secure_delete = ON")
        sink.execute("INSERT INTO chat_archive_topics VALUES (?,?,?,?,?,?,?)", topics[0])
        insert = f"INSERT INTO chat_archive_messages ({listed}) VALUES ({','.join('?' * 13)})"
        begin = time.perf_counter()
        for start in range(0, len(rows), AT_ONCE):
            sink.execute("BEGIN IMMEDIATE")
            sink.executemany(insert, rows[start : start + AT_ONCE])
            sink.execute("COMMIT")
        return time.perf_counter() - begin


@contextmanager
def _opened(file: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(file, isolation_level=None)
    try:
        yield connection
    finally:
        connection.close()


async def _page(plan: ArchivePlan) -> Pair:
    """Read the same pages from the archive, and from Redis."""
    with redis_server() as (url, _), tempfile.TemporaryDirectory() as folder:
        broker = RedisBroker(RedisSettings(url=url), BrokerSettings())
        database = Database(_settings(Path(folder) / "chat.db"))
        try:
            await _said(broker, 20 * PAGE)
            await database.start()
            for batch in await _batches(broker):
                await ArchiveWriter(database, lambda topic: True).take([batch])
            reader = ArchiveReader(database)
            took = [0.0, 0.0]
            for number in range(plan.pages):
                before = PAGE * (2 + number % 18) + 1
                begin = time.perf_counter()
                found = await reader.messages(
                    TOPIC, before=before, limit=PAGE, newest=True, max_bytes=1_000_000
                )
                between = time.perf_counter()
                page = await broker.history(
                    TOPIC, before=before, limit=PAGE, newest=True, folded=True
                )
                took[0] += between - begin
                took[1] += time.perf_counter() - between
                if [each.payload for each in found.events] != [e.payload for e in page.events]:
                    raise AssertionError("the pages differ")
        finally:
            await database.stop()
            await broker.stop()
    return Pair(*(1e6 * seconds / plan.pages for seconds in took))


def _publications(plan: ArchivePlan, tell: Tell) -> dict[str, Pair]:
    """Publish to the worker that writes the archive, and to another worker."""
    with tempfile.TemporaryDirectory() as folder:
        on = _costs(plan, tell, {**_ARCHIVED, "CHAT_DATABASE__URL": _settings(_file(folder)).url})
    off = _costs(plan, tell, {"CHAT_NAMESPACES__DEFAULT__ARCHIVE": "false"})
    return {name: Pair(mine, off[name]) for name, mine in on.items()}


def _costs(plan: ArchivePlan, tell: Tell, environ: Mapping[str, str]) -> dict[str, float]:
    """Return the CPU time of a publication by what is measured; the first server gets the lease."""
    with (
        redis_server() as (url, _),
        started("--redis-url", url, environ=environ) as first,
        started("--redis-url", url, environ=environ) as second,
    ):
        scenarios: dict[str, tuple[Target, Callable[..., Stage]]] = {
            "writing": (first, publish),
            "publish": (second, publish),
            "post": (replace(second, dialect="chat http"), asks),
        }
        return {
            name: perform(scenario(target, seconds=plan.seconds), target, tell).cpu_us_per_publish
            or 0.0
            for name, (target, scenario) in scenarios.items()
        }


def _file(folder: str) -> Path:
    return Path(folder) / "chat.db"


def _settings(file: Path) -> DatabaseSettings:
    return DatabaseSettings(url=f"sqlite+aiosqlite:///{file}", migrate=True)


def archive_lines(found: ArchiveCosts) -> list[list[str]]:
    """Return the rows of a table, the header first."""
    titles = {
        "writer": ("an event written, beside a bare executemany", "time"),
        "publish": ("a publication by WebSocket, beside one without", "CPU of the worker"),
        "post": ("a publication by HTTP, beside one without", "CPU of the worker"),
        "writing": ("the same by WebSocket, on the worker that writes", "CPU of the worker"),
        "page": (f"a page of {PAGE} messages, beside one out of Redis", "time"),
    }
    rows = [["", "of", "with the archive", "beside", "ratio", "at most", ""]]
    for name, limit in BUDGETS.items():
        ratio = found.ratio(name)
        mine, theirs = (
            f"{median(getattr(pair, which) for pair in found.rounds[name]):.1f} µs"
            for which in ("mine", "theirs")
        )
        verdict = "met" if ratio <= limit else "NOT MET"
        rows.append([*titles[name], mine, theirs, f"{ratio:.2f}", f"{limit:g}", verdict])
    return rows


def archive_text(found: ArchiveCosts) -> str:
    """Return the page's text about a run."""
    plan = found.plan
    about = (
        f"{plan.events:,} events of some 200 bytes are written in batches of {AT_ONCE}, and "
        f"{plan.pages} pages read; two workers share a Redis and a SQLite file, and take "
        f"publications of 100 bytes for {plan.seconds:g} s each. Medians of {plan.rounds} rounds, "
        f"the ratios of one round each. {describe(found.machine)}"
    )
    return f"{about}\n\n{markdown(archive_lines(found))}"
