"""The load test counts right; how fast the server was is none of a test's business."""

import math
import os
import subprocess
import sys

import msgspec
import pytest

from loadtest.report import Latency, Report, table
from loadtest.server import cpu_seconds

from ..architecture.source import ROOT
from ..support.server import ServerProcess, free_port


def _fanout(*arguments: str) -> subprocess.CompletedProcess[str]:
    environ = {name: v for name, v in os.environ.items() if not name.startswith("CHAT_")}
    return subprocess.run(
        [sys.executable, "-m", "loadtest", "fanout", *arguments],
        cwd=ROOT,
        env=environ | {"CHAT_ENVIRONMENT": "testing"},
        capture_output=True,
        text=True,
        timeout=60,
    )


SMALL = ("--subscribers", "20", "--rate", "40", "--seconds", "1", "--json")


def _check(done: subprocess.CompletedProcess[str]) -> Report:
    assert done.returncode == 0, done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    report = msgspec.json.decode(done.stdout, type=Report)
    assert report.passed
    assert (report.published, report.acknowledged, report.errors) == (40, 40, {})
    assert (report.deliveries, report.lost, report.skipped, report.duplicates) == (800, 0, 0, 0)
    assert 0 < report.latency_ms.p50 <= report.latency_ms.p99 <= report.latency_ms.max
    return report


def test_every_delivery_is_counted_on_a_server_of_its_own() -> None:
    report = _check(_fanout(*SMALL, "--processes", "2"))
    if sys.platform == "linux":
        assert report.server_cpu_us_per_delivery is not None


def test_a_running_server_is_left_running() -> None:
    with ServerProcess() as server:
        report = _check(_fanout(*SMALL, "--url", server.ws_url))
        assert report.server_cpu_us_per_delivery is None
        assert server.is_ready()


def test_a_server_that_is_not_there_is_one_line() -> None:
    done = _fanout(*SMALL, "--url", f"ws://127.0.0.1:{free_port()}/ws")
    assert done.returncode == 1
    assert done.stderr.startswith("Error: cannot reach 127.0.0.1")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("url", ["ws://192.0.2.1/ws", "ws://example.org/ws", "wss://localhost/ws"])
def test_load_is_put_on_this_machine_only(url: str) -> None:
    done = _fanout(*SMALL, "--url", url)
    assert done.returncode == 2
    assert "must be a ws:// address of this machine" in done.stderr


def _report(*, lost: int = 0, acknowledged: int = 40) -> Report:
    return Report(
        subscribers=20,
        rate=40.0,
        seconds=1.0,
        payload_bytes=100,
        connect_seconds=0.5,
        published=40,
        acknowledged=acknowledged,
        errors={"rate_limited": 40 - acknowledged} if acknowledged < 40 else {},
        deliveries=800 - lost,
        lost=lost,
        skipped=0,
        duplicates=0,
        lost_connections=[],
        deliveries_per_second=800.0,
        latency_ms=Latency(p50=1.0, p99=2.0, max=3.0),
        server_cpu_us_per_delivery=None,
        busiest_generator=0.1,
    )


def test_a_report_fails_if_anything_is_missing() -> None:
    assert _report().passed
    assert "lost" not in table(_report())

    assert not _report(lost=1).passed
    assert "FAILED" in table(_report(lost=1))
    assert not _report(acknowledged=39).passed
    assert "rate_limited" in table(_report(acknowledged=39))


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_cpu_counts_a_process_and_its_children() -> None:
    burn = "import time\nwhile time.process_time() < 0.3: pass\nprint(flush=True); input()"
    before = cpu_seconds(os.getpid())
    with subprocess.Popen(
        [sys.executable, "-c", burn], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        # The kernel counts in ticks of 10 ms.
        assert cpu_seconds(process.pid) > 0.25
        assert cpu_seconds(os.getpid()) > before + 0.25
        process.communicate(b"\n")


def test_the_cpu_of_an_unknown_server_is_unknown() -> None:
    assert math.isnan(cpu_seconds(None))
