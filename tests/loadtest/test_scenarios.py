"""Every scenario counts right; how fast the server was is none of a test's business."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from loadtest.report import Report

from ..architecture.source import ROOT
from ..rig.server import ServerProcess

# One scenario of a server started here and one of a running server are enough for `make test`.
extra = pytest.mark.extra
linux = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environ = {name: v for name, v in os.environ.items() if not name.startswith("CHAT_")}
    return subprocess.run(
        [sys.executable, "-m", "loadtest", *arguments],
        cwd=ROOT,
        env=environ | {"CHAT_ENVIRONMENT": "testing"},
        capture_output=True,
        text=True,
        timeout=380,
    )


def _report(*arguments: str) -> Report:
    done = _run(*arguments, "--json", "-")
    assert done.returncode == 0, done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    report = msgspec.json.decode(done.stdout, type=Report)
    assert report.passed
    assert report.scenario == arguments[0]
    assert (report.errors, report.lost_connections) == ({}, {})
    assert (report.lost, report.skipped, report.duplicates) == (0, 0, 0)
    return report


FANOUT = ("fanout", "--subscribers", "20", "--rate", "40", "--seconds", "1")


def _check_fanout(report: Report) -> None:
    assert report.parameters == {"subscribers": 20, "rate": 40, "payload_bytes": 100}
    assert (report.published, report.acknowledged, report.deliveries) == (40, 40, 800)
    for latency in (report.connecting, report.delivery, report.acknowledgement):
        assert latency is not None
        assert 0 < latency.p50 <= latency.p90 <= latency.p99 <= latency.p999 <= latency.max
    assert sum(report.counts["delivery"]) == 800
    assert report.bytes_per_delivery is not None
    assert report.bytes_per_delivery > 100


def test_fanout() -> None:
    report = _report(*FANOUT, "--processes", "2")
    _check_fanout(report)
    if sys.platform == "linux":
        assert report.cpu_us_per_delivery is not None
        assert report.memory_bytes_per_connection is not None


@extra
@pytest.mark.skipif(not shutil.which("redis-server"), reason="needs redis-server")
def test_fanout_of_two_workers_counts_all_of_them() -> None:
    report = _report(*FANOUT, "--workers", "2")
    _check_fanout(report)
    if sys.platform == "linux":
        assert report.redis_cpu_us_per_publish is not None
        # Two interpreters and a supervisor, each of some 30 MiB.
        assert report.memory_bytes is not None
        assert report.memory_bytes > 90 * 2**20


@extra
@linux
def test_pauses_of_the_garbage_collector_are_told() -> None:
    done = _run("idle", "--connections", "200", "--hold-seconds", "0.2", "--pauses")
    assert done.returncode == 0, done.stderr
    assert "garbage, generation 0" in done.stdout
    # A second is too short for heartbeats.
    assert "none: they come every 25 s" in done.stdout


@extra
def test_rooms() -> None:
    options = ("--rooms", "4", "--members", "5", "--rate", "10", "--seconds", "1")
    report = _report("rooms", *options, "--processes", "2")
    assert report.connections == 20
    assert (report.published, report.deliveries) == (40, 200)


@extra
def test_connect() -> None:
    report = _report("connect", "--connections", "30", "--rate", "100")
    assert (report.connections, report.published) == (30, 0)
    assert report.connecting is not None


@extra
def test_idle() -> None:
    report = _report("idle", "--connections", "30", "--hold-seconds", "1")
    assert (report.connections, report.deliveries) == (30, 0)
    if sys.platform == "linux":
        assert report.idle_cpu_us_per_second is not None


@extra
def test_slow_readers_are_cut_off_and_the_others_get_everything() -> None:
    # A megabyte: more than the server and the kernel hold for them; then their time is up.
    options = ("--subscribers", "6", "--stalled-share", "0.5", "--payload-bytes", "20000")
    report = _report("slow", *options, "--rate", "10", "--seconds", "6")
    assert (report.published, report.deliveries) == (60, 180)
    assert (report.stalled, report.stalled_cut) == (3, 3)


@extra
def test_publish() -> None:
    report = _report("publish", "--publishers", "5", "--rate", "50", "--seconds", "1")
    assert (report.published, report.acknowledged, report.deliveries) == (50, 50, 0)


@extra
def test_publish_as_fast_as_answered() -> None:
    report = _report("publish", "--publishers", "5", "--window", "2", "--seconds", "0.5")
    assert report.published == report.acknowledged > 10


@extra
def test_a_running_server_is_measured_and_left_running() -> None:
    with ServerProcess() as server:
        report = _report(*FANOUT, "--url", server.ws_url)
        _check_fanout(report)
        assert report.cpu_us_per_delivery is None
        report = _report(*FANOUT, "--url", server.ws_url, "--server-pid", str(server.pid))
        if sys.platform == "linux":
            assert report.cpu_us_per_delivery is not None
        assert server.is_ready()


@extra
def test_the_table_says_that_all_arrived() -> None:
    done = _run(*FANOUT)
    assert done.returncode == 0, done.stderr
    assert "every message reached every subscriber once and in order" in done.stdout
    for row in ("p99.9", "CPU per delivery", "memory", "busiest generator"):
        assert row in done.stdout


@extra
@pytest.mark.parametrize(
    ("arguments", "axis"),
    [
        (FANOUT, "when it was read"),
        (("publish", "--publishers", "2", "--seconds", "0.2"), "its answer"),
        (("connect", "--connections", "5"), "its subscription"),
    ],
)
def test_a_plot(arguments: tuple[str, ...], axis: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "latency.svg"
    done = _run(*arguments, "--plot", str(picture))
    assert done.returncode == 0, done.stderr
    # Matplotlib leaves each text as a comment beside its shapes.
    assert axis in picture.read_text()


def test_a_server_that_limits_says_why_it_fails() -> None:
    with ServerProcess(environ={"CHAT_LIMITS__MESSAGES_PER_SECOND": "1"}) as server:
        server_options = ("--url", server.ws_url, "--rate", "200", "--publishers", "1")
        done = _run("publish", "--seconds", "1", *server_options)
    assert done.returncode == 1
    assert "rate_limited" in done.stdout
    assert "FAILED" in done.stdout
