"""`front` measures every scenario, and says of every bound what it found; no number is checked."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from loadtest import page as pages
from loadtest.accounting import machine
from loadtest.front import BEFORE, MEMORY, NAMES, OURS, REDIS, STORM, Front, FrontPlan, key_of
from loadtest.front_table import ROWS, front_lines, front_problems, front_text
from loadtest.peers.centrifugo import TITLE, program, version
from loadtest.report import Report
from loadtest.sampling import Samples

from ..architecture.source import ROOT

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
redis = pytest.mark.skipif(not shutil.which("redis-server"), reason="needs redis-server")
there = pytest.mark.skipif(program() is None, reason="needs Centrifugo")

SMALL = (
    *("--rounds", "1", "--seconds", "0.5", "--connections", "20", "--missed", "5"),
    *("--rooms", "2", "--subscribers", "3", "--rate", "20", "--posters", "2"),
    *("--publishers", "2", "--clients", "12", "--client-rooms", "2", "--client-missed", "3"),
)


def _front(folder: Path, *arguments: str, peer: bool = False) -> Front:
    """Run a small front, and check what all of its reports have in common."""
    environ = {name: v for name, v in os.environ.items() if not name.startswith("CHAT_")}
    if not peer:
        # Centrifugo takes part wherever it is found. Without it only our own server is tested.
        environ["CENTRIFUGO"] = ""
        environ["PATH"] = str(_path_without_centrifugo(folder))
    found = folder / "front.json"
    done = subprocess.run(
        [sys.executable, "-m", "loadtest", "front", *SMALL, *arguments, "--json", str(found)],
        cwd=ROOT,
        env=environ | {"CHAT_ENVIRONMENT": "testing"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    front = msgspec.json.decode(found.read_bytes(), type=Front)
    for reports in front.samples.reports.values():
        for report in reports:
            assert report.passed
            assert report.errors == {}
    return front


def _path_without_centrifugo(folder: Path) -> Path:
    path = folder / "path"
    path.mkdir()
    server = shutil.which("redis-server")
    assert server is not None
    (path / "redis-server").symlink_to(server)
    return path


def _check(front: Front, name: str, store: str, server: str) -> None:
    key = key_of(name, store, server)
    (report,) = front.samples.reports[key]
    if name in ("connect", "resume"):
        assert report.connections == 20
        assert report.cpu_us_per_connect
    elif name == "rooms":
        assert report.deliveries == 3 * report.published > 0
        assert report.cpu_us_per_delivery
    elif name == STORM:
        assert report.connections == 12
        assert report.start_cpu_seconds
        assert report.cpu_us_per_connect
    else:
        assert report.acknowledged == report.published > 0
        assert report.cpu_us_per_publish
    if store == REDIS:
        assert (report.redis_cpu_us_per_publish or report.redis_cpu_us_per_connect) is not None


def _stores(name: str) -> tuple[str, ...]:
    return (REDIS,) if name == STORM else (MEMORY, REDIS)


@linux
@redis
@pytest.mark.extra
@pytest.mark.parametrize("name", NAMES)
def test_our_server_is_measured(name: str, tmp_path: Path) -> None:
    front = _front(tmp_path, "--only", name)
    for store in _stores(name):
        _check(front, name, store, OURS)
    assert front.peer is None
    assert front_problems(front)[-1] == f"skipped, not found: {TITLE}"


@linux
@redis
@there
@pytest.mark.extra
@pytest.mark.parametrize("name", NAMES)
def test_centrifugo_is_measured(name: str, tmp_path: Path) -> None:
    front = _front(tmp_path, "--only", name, peer=True)
    for store in _stores(name):
        _check(front, name, store, OURS)
        _check(front, name, store, TITLE)
    assert front.peer == version()


@linux
@redis
def test_an_earlier_build_takes_part_from_its_folder(tmp_path: Path) -> None:
    before = tmp_path / "before"
    for part in ("chat_server", "config"):
        shutil.copytree(ROOT / part, before / part, ignore=shutil.ignore_patterns("__pycache__"))
    ran = tmp_path / "ran"
    main = before / "chat_server" / "__main__.py"
    main.write_text(f"open({str(ran)!r}, 'w').close()\n{main.read_text()}")
    front = _front(tmp_path, "--only", "connect", "--before", str(before))
    for store in (MEMORY, REDIS):
        _check(front, "connect", store, OURS)
        _check(front, "connect", store, BEFORE)
    assert ran.exists()


def test_a_folder_without_a_server_is_refused(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "loadtest", "front", "--before", str(tmp_path)],
        cwd=ROOT,
        env=os.environ | {"CHAT_ENVIRONMENT": "testing"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 2
    assert f"{tmp_path} has no chat_server/__main__.py" in done.stderr


def _report(us: float) -> Report:
    return Report(
        scenario="x",
        target="x",
        parameters={},
        connections=100,
        connect_seconds=us / 100,
        deliveries=10,
        published=1,
        acknowledged=1,
        cpu_us_per_connect=us,
        cpu_us_per_delivery=us,
        cpu_us_per_publish=us,
        redis_cpu_us_per_connect=us / 2,
        redis_cpu_us_per_publish=us / 2,
        start_cpu_seconds=us / 100,
        disturbance=0.25,
    )


def _found(**costs: float) -> Front:
    servers = {"ours": OURS, "before": BEFORE, "theirs": TITLE}
    reports = {row.key(servers[name]): [_report(us)] for row in ROWS for name, us in costs.items()}
    return Front(machine(), FrontPlan(), "v1", Samples(reports))


def test_each_row_is_judged_by_its_own_bound() -> None:
    header, *rows = front_lines(_found(ours=85.0, before=170.0, theirs=100.0))
    assert len(rows) == len(ROWS)
    verdicts = {(row[0], row[1]): row[6] for row in rows}
    assert verdicts["delivery in rooms", MEMORY] == "NOT MET"
    assert verdicts["delivery in rooms", REDIS] == "met"
    assert verdicts["publish with its ack", MEMORY] == "met"
    assert verdicts["publish with its ack", REDIS] == "NOT MET"
    first = dict(zip(header, rows[1], strict=True))
    assert (first["ours"], first["Centrifugo"], first["relative"]) == (
        *("85.0 µs", "100.0 µs", "0.85 ×"),
    )
    assert first["of the build before"] == "0.50 ×"
    assert first["Redis: ours, Centrifugo"] == "42.5 µs, 50.0 µs"
    assert first["other work"] == "0.25 cores"


def test_what_is_not_served_is_said_and_judged_by_nothing() -> None:
    found = _found(ours=85.0, theirs=100.0)
    key = key_of("batch", MEMORY, OURS)
    del found.samples.reports[key]
    found.samples.failures[key] = "not served: HTTP 405"
    row = next(row for row in front_lines(found) if "batch" in row[0])
    assert row[3:7] == ["not served", "1.0 µs", "", ""]
    assert f"{key}: not served: HTTP 405" in front_problems(found)
    assert f"- {key}: not served: HTTP 405" in front_text(found)


def test_a_run_that_lost_something_is_told() -> None:
    found = _found(ours=85.0)
    key = key_of("rooms", REDIS, OURS)
    found.samples.reports[key] = [msgspec.structs.replace(_report(1.0), lost=3)]
    assert front_problems(found) == [f"{key}: in 1 of 1 runs something was lost"]


def test_the_page_has_every_row(tmp_path: Path) -> None:
    (tmp_path / pages.FRONT).write_bytes(msgspec.json.encode(_found(ours=85.0, theirs=100.0)))
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- front -->\nold\n<!-- end of front -->\nz\n")
    pages.write(page, tmp_path)
    text = page.read_text()
    assert "old" not in text
    assert "Centrifugo v1." in text
    assert all(f"| {row.what} | {row.store} | " in text for row in ROWS)
