"""The verifier finds every kind of violation, and a plan depends on its seed."""

import asyncio
import os
import random
from collections import Counter
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from chat_server.events import Position
from loadtest.accounting import machine
from loadtest.server import Target
from tests.chaos.checker import Verdict, check
from tests.chaos.cli import main
from tests.chaos.config import Config
from tests.chaos.history import (
    Ack,
    Entry,
    GapReceived,
    History,
    Observations,
    Received,
    Rules,
    Subscribed,
)
from tests.chaos.nemesis import ALL, WIPE, Nemesis, kinds
from tests.chaos.payloads import name_of, payload_of
from tests.chaos.report import told
from tests.chaos.run import Outcome, Tell, is_behind, server_faults
from tests.chaos.schedule import Fault, plan
from tests.chaos.system import System, is_fault
from tests.chaos.violation import Violation
from tests.chaos.workload import Counts
from tests.rig.proxy import Proxy

from ..architecture.source import ROOT

RUNS = ROOT / "benchmarks" / "results" / "reliability"

TOPIC = "room:a"
START = Subscribed("e", 0, recovered=False, replayed=0)


def _acks(*seqs: int, epoch: str = "e") -> list[Ack]:
    return [Ack("pub", TOPIC, epoch, seq, f"{epoch}{seq}") for seq in seqs]


def _seen(*seqs: int, epoch: str = "e") -> list[Entry]:
    return [Received(seq, f"{epoch}{seq}") for seq in seqs]


def _resumed(seq: int, to: int, *, epoch: str = "e", reason: str | None = None) -> Subscribed:
    recovered = reason is None
    replayed = to - seq if recovered else 0
    since = Position("e", seq)
    return Subscribed(epoch, to, recovered, replayed=replayed, since=since, reason=reason)


def _history(
    entries: list[Entry],
    acks: list[Ack] | None = None,
    *,
    final: Position | None = None,
    kept: int = 100,
    wipes: int = 0,
) -> History:
    rules = Rules({TOPIC: kept}, max_replay=50, wipes=wipes)
    observed = Observations("ada", TOPIC, entries)
    acks = _acks(1, 2, 3, 4) if acks is None else acks
    return History(rules, acks, [observed], {TOPIC: final or Position("e", 4)})


def _found(history: History) -> list[tuple[str, int]]:
    return sorted({(violation.kind, violation.seq) for violation in check(history).violations})


def test_what_is_as_promised_passes() -> None:
    plain = [START, *_seen(1, 2, 3, 4)]
    resumed = [START, *_seen(1), _resumed(1, 3), *_seen(2, 3, 4)]
    late = [Subscribed("e", 2, recovered=False, replayed=0), *_seen(3, 4)]
    last = [Subscribed("e", 3, recovered=True, replayed=2), *_seen(2, 3, 4)]
    for entries in (plain, resumed, late, last):
        assert _found(_history(entries)) == []


def test_it_counts() -> None:
    gap = GapReceived("e", 1, 3, "expired")
    far = _resumed(3, 4, reason="expired")
    entries = [START, *_seen(1), gap, _resumed(2, 3), *_seen(3), far]
    verdict = check(_history(entries, kept=0))
    assert verdict.violations == []
    assert (verdict.resumes, verdict.recovered, verdict.gaps) == (2, 1, 1)


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        pytest.param([START, *_seen(1, 3, 4)], [("missing", 2), ("skipped", 2)], id="skipped"),
        pytest.param([START, *_seen(1, 2, 2, 3, 4)], [("twice", 2)], id="twice"),
        pytest.param(
            [START, *_seen(1, 3, 2, 4)],
            [("missing", 2), ("out of order", 2), ("skipped", 2)],
            id="out of order",
        ),
        pytest.param([START, *_seen(1, 2)], [("left behind", 3), ("missing", 3), ("missing", 4)]),
        pytest.param(
            [START, *_seen(1), Received(2, "x"), *_seen(3, 4)], [("another event", 2)], id="payload"
        ),
        pytest.param(
            [START, *_seen(1, 2, 3), Received(4, "e1")],
            [("another event", 4)],
            id="another payload",
        ),
        pytest.param(
            [START, *_seen(1), _resumed(1, 3, reason="expired"), *_seen(4)],
            [("not recovered", 2)],
            id="not recovered",
        ),
        pytest.param(
            [START, *_seen(1), _resumed(1, 4), *_seen(3, 4)],
            [("missing", 2), ("skipped", 2)],
            id="hole in a replay",
        ),
        pytest.param(
            [
                START,
                *_seen(1),
                Subscribed("e", 3, True, replayed=1, since=Position("e", 1)),
                *_seen(2, 3, 4),
            ],
            [("wrong resume", 1)],
            id="wrong resume",
        ),
        pytest.param(
            [START, *_seen(1), GapReceived("e", 1, 3, "expired"), *_seen(3, 4)],
            [("needless gap", 2)],
            id="needless gap",
        ),
        pytest.param(
            [START, *_seen(1), GapReceived("e", 2, 4, "expired"), *_seen(4)],
            [("needless gap", 3), ("skipped", 2)],
            id="gap with a hole before it",
        ),
        pytest.param(
            [START, *_seen(1, 2, 3), GapReceived("e", 0, 2, "epoch_changed"), *_seen(4)],
            [("went back", 3)],
            id="went back",
        ),
        pytest.param([*_seen(1), START, *_seen(1, 2, 3, 4)], [("uninvited", 0)], id="uninvited"),
    ],
)
def test_each_violation_is_found(entries: list[Entry], expected: list[tuple[str, int]]) -> None:
    assert _found(_history(entries)) == expected


def test_what_is_no_longer_stored_may_be_missing() -> None:
    acks = _acks(*range(1, 9))
    final = Position("e", 8)
    live = [START, *_seen(1), GapReceived("e", 1, 5, "expired"), *_seen(5, 6, 7, 8)]
    resumed = [START, *_seen(1), _resumed(1, 6, reason="expired"), *_seen(7, 8)]
    for entries in (live, resumed):
        assert _found(_history(entries, acks, final=final, kept=4)) == []
        assert _found(_history(entries, acks, final=final, kept=5)) != []


def test_what_is_too_far_behind_need_not_be_recovered() -> None:
    acks, final = _acks(*range(1, 53)), Position("e", 52)
    for seq, expected in ((1, []), (2, [("not recovered", 3)])):
        entries = [START, *_seen(*range(1, seq + 1)), _resumed(seq, 52, reason="too_far_behind")]
        assert _found(_history(entries, acks, final=final)) == expected


def test_a_wiped_store_may_begin_a_new_epoch_and_nothing_else_may() -> None:
    acks = [*_acks(1, 2, 3), *_acks(1, 2, epoch="f")]
    final = Position("f", 2)
    told_live = [
        START,
        *_seen(1, 2),
        GapReceived("f", 0, 1, "epoch_changed"),
        *_seen(1, 2, epoch="f"),
    ]
    resume = _resumed(2, 0, epoch="f", reason="epoch_changed")
    told_on_resume = [START, *_seen(1, 2), resume, *_seen(1, 2, epoch="f")]
    for entries in (told_live, told_on_resume):
        assert _found(_history(entries, acks, final=final, wipes=1)) == []
        assert _found(_history(entries, acks, final=final)) == [("needless epoch", 0)]
        hole = [entry for entry in entries if entry != Received(1, "f1")]
        found = _found(_history(hole, acks, final=final, wipes=1))
        assert found == [("missing", 1), ("skipped", 1)]


def test_an_epoch_does_not_come_back() -> None:
    entries = [
        *(START, *_seen(1)),
        *(GapReceived("f", 0, 1, "epoch_changed"), *_seen(1, epoch="f")),
        GapReceived("e", 0, 5, "epoch_changed"),
    ]
    found = _found(_history(entries, _acks(1), wipes=1))
    assert found == [("went back", 4)]


def test_a_publication_is_stored_once() -> None:
    entries = [START, *_seen(1, 2), Received(3, "e1"), Received(4, "e4")]
    assert _found(_history(entries, _acks(1, 2, 4))) == [("stored twice", 3)]
    again = Ack("pub", TOPIC, "e", 3, "e1")
    assert ("stored twice", 3) in _found(_history(entries, [*_acks(1, 2, 4), again]))


def test_a_change_reaches_the_message_that_it_names() -> None:
    published = [Ack("pub", TOPIC, epoch, 1, f"of {epoch}") for epoch in "ef"]
    meant = Ack("pub", TOPIC, "f", 2, "edited", target=1, meant="of f")
    taken_over = Ack("pub", TOPIC, "g", 3, "edited", target=1, meant="of e")
    bare = Ack("pub", TOPIC, "f", 4, "edited", target=1)
    wrong = Ack("pub", TOPIC, "f", 5, "edited", target=1, meant="of e")
    acks = [*published, meant, taken_over, bare, wrong]
    expected = Violation("another message", TOPIC, 1, "pub", "edited meant of e, and changed of f")
    violations = check(_history([], acks)).violations
    assert [each for each in violations if each.kind == expected.kind] == [expected]


def test_a_violation_names_all_that_is_needed_to_look_for_it() -> None:
    line = told(Violation("missing", TOPIC, 7, "ada", "e7"), 42)
    assert line == "VIOLATION (seed 42) missing: room:a 7 ada: e7"


def test_a_payload_that_changed_is_not_taken_for_the_one_that_was_sent() -> None:
    assert name_of(payload_of("pub-1")) == "pub-1"
    for changed in ({**payload_of("pub-1"), "pad": ""}, {"name": "pub-1"}, None, "pub-1"):
        assert name_of(changed) != "pub-1"


def test_a_plan_depends_on_the_seed_alone_and_leaves_no_kind_out() -> None:
    names = kinds("redis", 2, wipe=False)
    plans = [plan(seed, names, faults=30, seconds=60, longest=5) for seed in (1, 1, 2)]
    assert plans[0] == plans[1] != plans[2]
    assert {fault.kind for fault in plans[2]} == set(names)
    assert all(0 <= fault.at <= 60 and 0 <= fault.seconds <= 5 for fault in plans[0])


def test_only_what_a_server_can_survive_is_done_to_it() -> None:
    needs = {each.needs for each in ALL.values()}
    assert set(kinds("cluster", 2, wipe=True, also=needs)) == set(ALL)
    assert {ALL[kind].needs for kind in kinds("cluster", 2, wipe=True)} == {
        *("", "redis", "cluster", "workers")
    }
    assert "slot moved" not in kinds("redis", 2, wipe=True)
    assert WIPE not in kinds("redis", 2, wipe=False)
    assert "worker killed" not in kinds("redis", 1, wipe=False)
    assert {ALL[kind].needs for kind in kinds("memory", 1, wipe=True)} == {""}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("INFO [41] chat_server.broker.redis.broker: Redis is back", True),
        ("WARNING [41] chat_server.realtime.hub: topic room:0: events are missing", True),
        (
            "ERROR [41] chat_server.server.supervisor: worker 1 (42) was ended by SIGKILL;"
            " restarting it in 0 s",
            True,
        ),
        (
            "ERROR [41] chat_server.server.process: worker 1 (42) did nothing for 10 s; killing it",
            True,
        ),
        (
            "ERROR [41] chat_server.broker.redis.diagnosis: Redis takes what is published but does"
            " not deliver it; subscribing anew",
            True,
        ),
        (
            "ERROR [41] chat_server.server.supervisor: worker 1 (42) ended with exit code 1;"
            " restarting it in 0 s",
            False,
        ),
        (
            "ERROR [41] chat_server.server.supervisor: worker 1 (42) was ended by SIGSEGV;"
            " restarting it in 0 s",
            False,
        ),
        ("ERROR [41] chat_server.broker.redis.pipeline: Redis refuses a command: ERR", False),
        ("CRITICAL [41] chat_server: on fire", False),
        ("Traceback (most recent call last):", False),
    ],
)
def test_the_server_may_complain_of_what_was_done_to_it_and_of_nothing_else(
    line: str, expected: bool
) -> None:
    assert is_fault(f"2026-01-02T03:04:05.678Z {line}") is not expected


async def test_a_fault_that_finds_nothing_to_strike_does_not_count(tmp_path: Path) -> None:
    async with Proxy(1) as front:
        system = System(Target("chat_server", "chat", 1, pid=os.getpid()), front, tmp_path / "log")
        nemesis = Nemesis(system, seed=1, patience=0.0)
        names = kinds("memory", 1, wipe=False)
        faults = plan(1, names, faults=5, seconds=0.01, longest=0.01)
        await nemesis.run(faults, quiesce=list)
    assert nemesis.injected == {}
    assert nemesis.missed == dict.fromkeys(names, 1)


async def test_a_fault_waits_for_something_to_strike(tmp_path: Path) -> None:
    async def take(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    async with server, Proxy(server.sockets[0].getsockname()[1]) as front:
        system = System(Target("chat_server", "chat", 1, pid=os.getpid()), front, tmp_path / "log")
        nemesis = Nemesis(system, seed=1, patience=60.0)
        fault = Fault(1, at=0.0, kind="clients refused", seconds=0.01, share=1.0)
        striking = asyncio.create_task(nemesis.run([fault], quiesce=list))
        while not striking.done():
            reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
            await reader.read()
            writer.close()
    await striking
    assert nemesis.injected == {"clients refused": 1}
    assert nemesis.missed == {}


def _outcome(config: Config, struck: int, *violations: Violation) -> Outcome:
    verdict = Verdict(list(violations), resumes=0, recovered=0, gaps=0, new_epochs=0)
    return Outcome(
        config=config,
        machine=machine(),
        took_seconds=1.0,
        faults={"clients mute": struck},
        missed={"clients mute": config.faults - struck},
        published=0,
        attempts=0,
        acknowledged=0,
        duplicates=0,
        unheard=0,
        deliveries=0,
        closes={},
        errors={},
        longest_silence=0.0,
        longest_ack=0.0,
        verdict=verdict,
    )


@pytest.mark.parametrize(
    ("struck", "violations", "code", "told"),
    [
        (40, 0, 0, ""),
        (38, 0, 0, ""),
        (37, 0, 1, "only 37 of 40 faults found something to strike; at least 38 have to"),
        (40, 1, 1, "VIOLATION (seed 5) missing: room:a 1 ada: it is"),
    ],
)
def test_a_round_fails_when_something_is_lost_or_too_little_was_struck(
    struck: int, violations: int, code: int, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    violation = Violation("missing", TOPIC, 1, "ada", "it is")

    async def perform(config: Config, tell: Tell) -> Outcome:
        return _outcome(config, struck, *[violation] * violations)

    monkeypatch.setattr("tests.chaos.cli.perform", perform)
    done = CliRunner().invoke(main, ["--seed", "5", "--faults", "40"])
    assert done.exit_code == code
    assert done.stderr.splitlines() == ["seed 5", *([told] if told else [])]


@pytest.mark.parametrize("run", sorted(RUNS.glob("*.json")), ids=lambda run: run.stem)
def test_the_committed_runs_all_have_the_shape_that_is_written_now(run: Path) -> None:
    text = run.read_bytes()
    outcome = msgspec.json.decode(text, type=Outcome)
    assert msgspec.json.format(msgspec.json.encode(outcome), indent=1) == text.rstrip(b"\n")


def test_who_is_further_is_not_behind() -> None:
    """A change whose publisher gave up is stored after the position was read."""
    final = Position("e", 4)
    assert not is_behind(Position("e", 4), final)
    assert not is_behind(Position("e", 5), final)
    assert is_behind(Position("e", 3), final)
    assert is_behind(Position("other", 5), final)


def test_of_few_faults_one_may_miss_and_of_one_none() -> None:
    asked = [Config(broker="redis", seed=1, faults=count) for count in (1, 2, 8, 40, 240)]
    assert [config.least_faults for config in asked] == [1, 1, 7, 38, 228]


async def test_what_the_server_does_wrong_by_itself_is_a_violation(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(
        "2026-01-02T03:04:05.678Z INFO [41] chat_server.broker.redis.broker: Redis is back\n"
        "2026-01-02T03:04:05.678Z CRITICAL [41] chat_server: on fire\n"
    )
    async with Proxy(1) as front:
        system = System(Target("chat_server", "chat", 1, pid=os.getpid()), front, log)
        closes = {"1006": 5, "1012": 4, "1011": 3, "not connected": 2}
        counts = Counts(closes=Counter(closes), errors=Counter({"unavailable": 9, "internal": 8}))
        found = server_faults(system, counts)
    assert [(violation.kind, violation.detail) for violation in found] == [
        (
            "fault of the server",
            "it logged: 2026-01-02T03:04:05.678Z CRITICAL [41] chat_server: on fire",
        ),
        ("fault of the server", "it closed 3 connections with 1011"),
        ("fault of the server", "it answered 8 times internal"),
    ]


async def test_the_proxy_passes_on_holds_cuts_and_refuses() -> None:
    async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data.upper())
        writer.close()

    server = await asyncio.start_server(shout, "127.0.0.1", 0)
    async with server, Proxy(server.sockets[0].getsockname()[1]) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"a")
        assert await reader.read(1) == b"A"
        (link,) = proxy.pick(0.1, random.Random(1))
        link.down.clear()
        writer.write(b"b")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.1)
        link.down.set()
        assert await reader.read(1) == b"B"
        link.cut()
        assert await reader.read(1) == b""
        with proxy.refusing():
            refused, other = await asyncio.open_connection("127.0.0.1", proxy.port)
            assert await refused.read(1) == b""
        for open_ in (writer, other):
            open_.close()


@st.composite
def _kept(draw: st.DrawFn) -> list[Entry]:
    """What a subscriber of a server without fault may see: all of 1 to 20, over connections."""
    entries: list[Entry] = [START]
    seq = 0
    while seq < 20:
        to = draw(st.integers(seq + 1, 20))
        entries += _seen(*range(seq + 1, to + 1))
        seq = to
        if draw(st.booleans()):
            entries.append(_resumed(seq, draw(st.integers(seq, 20))))
    return entries


@given(entries=_kept(), data=st.data())
def test_no_single_change_to_what_was_kept_passes(
    entries: list[Entry], data: st.DataObject
) -> None:
    acks, final = _acks(*range(1, 21)), Position("e", 20)
    assert _found(_history(entries, acks, final=final)) == []
    places = [place for place, entry in enumerate(entries) if isinstance(entry, Received)]
    place = data.draw(st.sampled_from(places))
    event = entries[place]
    assert isinstance(event, Received)
    changed: dict[str, list[Entry]] = {
        "lost": [],
        "repeated": [event, event],
        "altered": [Received(event.seq, "other")],
        "moved": [Received(event.seq % 20 + 1, event.payload)],
        "gap": [GapReceived("e", event.seq - 1, event.seq + 1, "expired")],
    }
    how = data.draw(st.sampled_from(sorted(changed)))
    assert _found(
        _history([*entries[:place], *changed[how], *entries[place + 1 :]], acks, final=final)
    )
