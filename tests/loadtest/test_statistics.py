"""Medians, ratios, budgets and tables of made-up reports."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from msgspec.structs import replace

from loadtest import sampling
from loadtest.accounting import Machine
from loadtest.bench import BURST, CROWDED, FLOOR, MEMORY, PACKED, STEADY, Bench, Effort
from loadtest.budgets import budget_lines, budgets, more_lines
from loadtest.compare import OURS, Comparison, Rate, idle_lines, lines, losses, verdicts
from loadtest.layout import columns, markdown, replace_section
from loadtest.pauses import Pauses
from loadtest.report import Latency, Report, table
from loadtest.sampling import Entrant, Rounds, Samples, alternate, median, ratio
from loadtest.server import Target
from loadtest.stage import Stage, Tell
from loadtest.wire import LoadError

MACHINE = Machine("a CPU", 2, 2**30, "Linux 1", "3.11", {})


def _report(
    *, acknowledged: int = 40, lost: int = 0, delivery_us: float | None = None, **costs: float
) -> Report:
    return Report(
        scenario="fanout",
        target="a server",
        parameters={},
        connections=20,
        connect_seconds=0.5,
        published=40,
        acknowledged=acknowledged,
        errors={"rate_limited": 40 - acknowledged} if acknowledged < 40 else {},
        deliveries=800 - lost,
        lost=lost,
        delivery=Latency(1.0, 2.0, 3.0, 4.0, 5.0),
        cpu_us_per_delivery=delivery_us,
        cpu_us_per_publish=costs.get("publish_us"),
        memory_bytes_per_connection=costs.get("memory"),
    )


def test_a_report_fails_if_anything_is_missing() -> None:
    assert _report().passed
    assert "lost" not in table(_report())

    assert not _report(lost=1).passed
    assert "FAILED" in table(_report(lost=1))
    assert not _report(acknowledged=39).passed
    assert "rate_limited" in table(_report(acknowledged=39))


def test_what_is_not_known_does_not_count() -> None:
    assert median([None, 3.0, 1.0, 2.0]) == 2.0
    assert median([None]) is None
    assert ratio(4.0, 2.0) == 2.0
    assert ratio(None, 2.0) is None
    assert ratio(4.0, None) is None
    assert ratio(4.0, 0.0) is None


def test_a_run_in_ticks_that_is_too_short_says_so() -> None:
    measured = replace(_report(), memory_bytes=2**20, cpu_us_per_connect=5.0)
    text = " ".join(table(measured).split())
    assert "CPU per connect 5.0 µs" in text
    assert "CPU per delivery too short a run to tell" in text
    # Of a server whose process is not known nothing is said.
    assert "CPU per" not in table(_report())


def test_ratios_are_taken_within_a_round() -> None:
    samples = Samples(
        reports={
            "a": [_report(delivery_us=cost) for cost in (10.0, 20.0, 90.0)],
            "b": [_report(delivery_us=cost) for cost in (10.0, 10.0, 30.0)],
        }
    )
    assert samples.median("a", lambda report: report.cpu_us_per_delivery) == 20.0
    assert samples.ratio("a", "b", lambda report: report.cpu_us_per_delivery) == 2.0
    assert samples.ratio("a", "c", lambda report: report.cpu_us_per_delivery) is None


def test_entrants_take_turns_and_failures_stay_out(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = []

    @contextmanager
    def running() -> Iterator[Target]:
        yield Target("a server", "chat", 1)

    def perform(stage: Stage, target: Target, tell: Tell) -> Report:
        turns.append(stage.scenario)
        if stage.scenario == "bad":
            raise LoadError("it broke")
        return _report()

    monkeypatch.setattr(sampling, "perform", perform)

    def scenario(key: str, target: Target) -> Stage:
        return Stage(scenario=key, parameters={}, crowds=[])

    entrants = [Entrant(key, running, partial(scenario, key)) for key in ("first", "bad", "last")]
    samples = alternate(entrants, Rounds(3), lambda text: None)
    assert turns == ["first", "bad", "last", "last", "first", "first", "last"]
    assert {key: len(reports) for key, reports in samples.reports.items()} == {
        "first": 3,
        "last": 3,
    }
    assert samples.failures == {"bad": "it broke"}


def test_the_quietest_attempt_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def running() -> Iterator[Target]:
        yield Target("a server", "chat", 1)

    def kept(*disturbances: float) -> float:
        left = iter(disturbances)

        def perform(stage: Stage, target: Target, tell: Tell) -> Report:
            return replace(_report(), disturbance=next(left))

        monkeypatch.setattr(sampling, "perform", perform)
        entrant = Entrant("x", running, lambda _: Stage(scenario="x", parameters={}, crowds=[]))
        samples = alternate([entrant], Rounds(1, attempts=3), lambda text: None)
        assert list(left) == []
        return samples.reports["x"][0].disturbance

    assert kept(0.1) == 0.1
    assert kept(0.9, 0.1) == 0.1
    assert kept(0.9, 0.5, 0.7) == 0.5


def _bench(**reports: Report) -> Bench:
    keys = {
        "floor": FLOOR,
        "steady": STEADY,
        "burst": BURST,
        "crowded": CROWDED,
        "memory": MEMORY,
        "packed": PACKED,
    }
    samples = Samples(reports={keys[name]: [report] for name, report in reports.items()})
    return Bench(MACHINE, Effort(), "the floor", samples, took_seconds=270.0)


def test_budgets_are_judged() -> None:
    found = _bench(
        floor=_report(delivery_us=10.0),
        steady=_report(delivery_us=13.0),
        burst=_report(delivery_us=11.0),
        crowded=_report(delivery_us=14.0),
        memory=_report(publish_us=40.0),
        packed=replace(
            _report(memory=9000.0),
            pauses={"0": Pauses(9, 40.0, 8.0, 8.0), "1": Pauses(2, 30.0, 20.5, 19.0)},
            disturbance=0.25,
        ),
    )
    verdicts = [budget.met for budget in budgets(found)]
    # Fan-out, burst, memory, publish: memory and Redis, connect, p99, growth, pauses.
    assert verdicts == [True, False, False, True, None, None, True, True, False]
    table = columns(budget_lines(budgets(found)))
    assert "NOT MET" in table
    assert "0.25 cores" in table
    # Twenty connections are what the made-up reports have, not what was asked for.
    more = "\n".join(more_lines(found))
    assert "allow 20 connections on this machine, not 20,000" in more
    assert "generation 1: 2, 30 ms in all, the longest 20.5 ms, of CPU time 19.0 ms" in more
    assert "took 4.5 minutes" in more


def test_without_any_report_nothing_is_claimed() -> None:
    assert {budget.met for budget in budgets(_bench())} == {None}


def _comparison(**costs: float) -> Comparison:
    """Return one of a room where a delivery costs what is said of each, by title."""
    samples = Samples(
        reports={
            title: [
                replace(
                    _report(delivery_us=cost),
                    deliveries_per_second=1000.0 / cost,
                    delivery=Latency(cost, 0.0, 100.0, 0.0, 0.0),
                    busiest_generator=0.34,
                )
            ]
            for title, cost in costs.items()
        }
    )
    return Comparison(
        machine=MACHINE,
        rounds=1,
        subscribers=1000,
        seconds=1.0,
        payload_bytes=100,
        rates=[Rate(20.0, samples, {})],
        connects=Samples(),
        floor="floor",
        missing={},
        idle_connections=5,
        hold_seconds=1.0,
        idle=Samples(reports={OURS: [_report(memory=8192.0)], "nats": [_report(memory=4096.0)]}),
    )


def test_the_budget_is_about_peers_and_not_the_floor() -> None:
    [line] = verdicts(_comparison(chat_server=10.0, floor=8.0, nats=12.0, slow=90.0))
    assert "at 20 messages/s, below every peer: 10.00 µs, nats 12.00 µs" in line
    [line] = verdicts(_comparison(chat_server=10.0, floor=8.0, nats=9.0, slow=90.0))
    assert "NOT below every peer: 10.00 µs, nats 9.00 µs" in line
    assert verdicts(_comparison(chat_server=10.0, floor=8.0)) == []


def test_losses_are_of_everything_that_is_compared() -> None:
    assert losses(_comparison(chat_server=10.0, nats=5.0, near=9.95)) == [
        "nats, CPU per delivery at 20 messages/s: 50% of ours",
        "nats, p50 at 20 messages/s: 50% of ours",
        "nats, deliveries/s at 20 messages/s: 200% of ours",
        "nats, memory of an idle connection: 50% of ours",
    ]


def test_the_comparison_says_how_busy_its_readers_were() -> None:
    found = _comparison(chat_server=10.0, floor=8.0)
    assert "34%" in columns(lines(found))
    assert "8.0 KiB" in columns(idle_lines(found))


def test_tables() -> None:
    rows = [["what", "cost"], ["a longer name", "1"]]
    assert columns(rows).splitlines()[0] == "what           cost"
    assert markdown(rows).splitlines() == ["| what | cost |", "|---|---|", "| a longer name | 1 |"]


def test_a_section_of_a_page_is_replaced(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- x -->\nold\n<!-- end of x -->\nz\n")
    replace_section(page, "x", "new")
    assert page.read_text() == "a\n<!-- x -->\nnew\n<!-- end of x -->\nz\n"
    with pytest.raises(LoadError, match="no section"):
        replace_section(page, "y", "new")
