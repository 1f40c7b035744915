"""Writes the tables of docs/performance.md from the JSON of runs; no table is written by hand."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from .archive import ArchiveCosts, archive_text
from .bench import BURST, CONNECT, MEMORY, PACKED, REDIS, STEADY, Bench
from .budgets import (
    budget_lines,
    budgets,
    more_lines,
    per_connect,
    per_delivery,
    per_publish,
)
from .compare import (
    Comparison,
    connect_lines,
    idle_lines,
    idle_text,
    lines,
    losses,
    verdicts,
)
from .crowded import Crowded, arrivals, crowded_text
from .front import Front
from .front_table import front_text
from .layout import describe, markdown, replace_section, section_names
from .login import Login, login_text
from .operators import Operators, operators_text
from .presence import Costs
from .presence import lines as presence_lines
from .sampling import Cost
from .verbs import Verbs, verbs_text
from .webhooks import Webhooks, webhooks_text
from .wire import InputError

Study = TypeVar("Study", bound=Struct)

BENCH, COMPARE = "bench.json", "compare.json"
PRESENCE, VERBS, FRONT = "presence.json", "verbs.json", "front.json"
ARCHIVE, LOGIN, WEBHOOKS = "archive.json", "login.json", "webhooks.json"
OPERATORS, CROWDED = "operators.json", "crowded.json"
PICTURE = "compare.svg"

BUSY = 0.6
"""The usable share of a core: latency grows beyond."""

COSTS: list[tuple[str, str, Cost]] = [
    ("a delivery, room of 1,000, 20 messages/s", STEADY, per_delivery),
    ("a delivery, room of 1,000, 500 messages/s", BURST, per_delivery),
    ("a publication with its ack, memory broker", MEMORY, per_publish),
    ("a publication with its ack, Redis", REDIS, per_publish),
    ("the same, CPU of Redis", REDIS, lambda report: report.redis_cpu_us_per_publish),
    ("a connect with its subscription", CONNECT, per_connect),
]
"""The operations of a deployment: name, key of the reports, and CPU time of one operation."""


def write(page: Path, folder: Path) -> None:
    """Write every table that has a section on the page and a file in `folder`.

    Raises:
        InputError: there is no such table.
    """
    sections: dict[str, str] = {}
    for name, (kind, texts) in _STUDIES.items():
        if (path := folder / name).exists():
            sections |= texts(read(path, kind))
    if not sections:
        raise InputError(f"{folder} has no results; measure them with --measure")
    wanted = sections.keys() & section_names(page)
    if not wanted:
        raise InputError(f"{page} has no section for a table; they are {', '.join(sections)}")
    for name in wanted:
        replace_section(page, name, sections[name])


def read(path: Path, kind: type[Study]) -> Study:
    """Return the result of a run from its file.

    Raises:
        InputError: the file has other content.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except msgspec.DecodeError as error:
        raise InputError(f"{path} is no {kind.__name__.lower()} of a run: {error}") from None


def cost_lines(bench: Bench) -> list[list[str]]:
    """Return the rows of the table of one core's capacity per second, the header first.

    Only costs that the bench measured have a row.
    """
    rows = [["what", "cost", "one core busy to 60 % does, a second"]]
    for what, key, cost in COSTS:
        value = bench.samples.median(key, cost)
        if value:
            rows.append([what, f"{value:,.1f} µs", f"{BUSY * 1e6 / value:,.0f}"])
    memory = bench.samples.median(PACKED, lambda report: report.memory_bytes_per_connection)
    if memory:
        rows.append(["memory of a connection", f"{memory / 1024:.1f} KiB", ""])
    length = bench.samples.median(STEADY, lambda report: report.bytes_per_delivery)
    if length:
        rows.append(["a delivery on the wire, headers aside", f"{length:.0f} bytes", ""])
    return rows


def _bench(found: Bench) -> dict[str, str]:
    effort = found.effort
    runs = f"Medians of {effort.rounds} alternating rounds, {effort.seconds:g} s each."
    more = "\n".join(f"- {line}" for line in more_lines(found))
    table = markdown(budget_lines(budgets(found)))
    return {
        "machine": describe(found.machine),
        "bench": f"{runs}\n\n{table}\n\n{more}",
        "costs": markdown(cost_lines(found)),
    }


def _compare(found: Comparison) -> dict[str, str]:
    runs = (
        f"One room of {found.subscribers:,} subscribers, {found.payload_bytes} bytes of data, "
        f"{found.rounds} alternating rounds of {found.seconds:g} s, medians. "
        f"{describe(found.machine)}"
    )
    skipped = [f"- skipped, not installed: {title}" for title in found.missing]
    skipped += [
        f"- failed at {rate.rate:g}/s: {title}"
        for rate in found.rates
        for title in rate.samples.failures
    ]
    text = "\n\n".join([runs, markdown(lines(found)), "\n".join(skipped)])
    return {
        "compare": text,
        "idle": idle_text(found) + "\n\n" + markdown(idle_lines(found)),
        "connect": markdown(connect_lines(found)),
        "verdict": "\n".join(f"- {line}" for line in verdicts(found)),
        "losses": "\n".join(f"- {loss}" for loss in losses(found)) or "Nowhere in these runs.",
    }


def _crowded(found: Crowded) -> dict[str, str]:
    lines = "\n".join(f"- {line}" for line in arrivals(found))
    return {"crowded": crowded_text(found), "arrivals": lines}


_STUDIES: dict[str, tuple[type[Any], Callable[[Any], dict[str, str]]]] = {
    BENCH: (Bench, _bench),
    COMPARE: (Comparison, _compare),
    PRESENCE: (Costs, lambda found: {"presence": markdown(presence_lines(found))}),
    VERBS: (Verbs, lambda found: {"verbs": verbs_text(found)}),
    FRONT: (Front, lambda found: {"front": front_text(found)}),
    ARCHIVE: (ArchiveCosts, lambda found: {"archive": archive_text(found)}),
    LOGIN: (Login, lambda found: {"login": login_text(found)}),
    OPERATORS: (Operators, lambda found: {"operators": operators_text(found)}),
    CROWDED: (Crowded, _crowded),
    WEBHOOKS: (Webhooks, lambda found: {"webhooks": webhooks_text(found)}),
}
"""By file: the type of its content, and the sections of the page made from the content."""
