"""What is in deploy/ for systemd and the kernel agrees with the code, and systemd takes it."""

import configparser
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from chat_server.server.acceptor import BACKLOG
from chat_server.server.deadlines import STOP_SLACK_SECONDS
from chat_server.server.descriptors import RESERVED_DESCRIPTORS
from chat_server.settings import Settings, load_settings

from ..architecture.source import ROOT
from ..rig.ports import free_port

UNIT = ROOT / "deploy/systemd/chat-server.service"
ENVIRONMENT = ROOT / "deploy/systemd/environment"
LARGE = ROOT / "deploy/large/large.conf"
SYSCTL = ROOT / "deploy/large/60-chat-server.conf"
CONNECTIONS = 100_000


def _service(*files: Path) -> dict[str, list[str]]:
    """Return the section [Service] of a unit and its drop-ins."""
    found: dict[str, list[str]] = {}
    for file in files:
        _, _, section = file.read_text("utf-8").partition("[Service]\n")
        for line in re.split(r"^\[", section, flags=re.MULTILINE)[0].splitlines():
            if line and not line.startswith("#"):
                name, _, value = line.partition("=")
                found.setdefault(name, []).append(value)
    return found


def _settings(service: dict[str, list[str]]) -> Settings:
    parser = configparser.ConfigParser(interpolation=None, strict=True)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string("[file]\n" + ENVIRONMENT.read_text("utf-8"))
    # What EnvironmentFile= says would override a drop-in.
    environ = dict(line.split("=", 1) for line in service["Environment"])
    assert not set(environ) & set(parser["file"])
    return load_settings(environ=dict(parser["file"]) | environ)


@pytest.mark.parametrize("files", [(UNIT,), (UNIT, LARGE)], ids=["unit", "large"])
def test_the_unit_starts_a_server_and_gives_it_time_and_descriptors(files: tuple[Path]) -> None:
    service = _service(*files)
    program, *arguments = shlex.split(service["ExecStart"][0])
    assert Path(program).name == "chat-server"
    assert arguments == ["serve"]
    assert service["Type"] == ["notify"]
    settings = _settings(service)
    assert settings.environment == "production"
    assert settings.server.workers > 1
    needed = settings.server.lame_duck_seconds + settings.server.drain_seconds
    assert float(service["TimeoutStopSec"][-1]) >= needed + 2 * STOP_SLACK_SECONDS
    # To all processes it would be sent twice, by systemd and by the supervisor.
    assert service["KillMode"] == ["mixed"]
    most = settings.limits.max_connections + settings.http.max_connections
    reserved = RESERVED_DESCRIPTORS + settings.redis.max_connections
    assert int(service["LimitNOFILE"][-1]) >= most + reserved


def test_the_large_one_has_room_for_all_connections_while_workers_are_replaced() -> None:
    settings = _settings(_service(UNIT, LARGE))
    assert (settings.server.workers - 1) * settings.limits.max_connections >= CONNECTIONS


def test_the_kernel_has_every_setting_and_queues_what_a_worker_lets_wait() -> None:
    lines = [
        line.partition(" = ")
        for line in SYSCTL.read_text("utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    values = {name: value for name, _, value in lines}
    assert int(values["net.core.somaxconn"]) >= BACKLOG
    assert int(values["-net.netfilter.nf_conntrack_max"]) > 2 * CONNECTIONS
    if not Path("/proc/sys/fs").exists():
        return
    for name in values:
        if not name.startswith("-"):
            assert Path("/proc/sys", *name.split(".")).exists(), name


@pytest.fixture
def analyze() -> str:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd is not installed")
    return program


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The unit with its drop-in, for a program that there is."""
    unit = tmp_path / UNIT.name
    text = UNIT.read_text("utf-8")
    unit.write_text(text.replace("/opt/chat-server/bin/chat-server", shutil.which("true") or ""))
    drop_ins = tmp_path / f"{UNIT.name}.d"
    drop_ins.mkdir()
    shutil.copy(LARGE, drop_ins)
    return unit


def test_systemd_takes_the_unit(analyze: str, installed: Path) -> None:
    environ = {**os.environ, "SYSTEMD_UNIT_PATH": f"{installed.parent}:", "SYSTEMD_LOG_COLOR": "0"}
    done = subprocess.run(
        [analyze, "verify", "--man=no", str(installed)],
        env=environ,
        capture_output=True,
        text=True,
        timeout=90,
    )
    # It warns of what it does not know, and then ends with 0.
    assert (done.returncode, done.stdout, _about(installed, done.stderr)) == (0, "", [])


def _about(unit: Path, text: str) -> list[str]:
    # Other units of the machine may have faults of their own.
    return [line for line in text.splitlines() if unit.stem in line or str(unit.parent) in line]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_socket_unit_is_told_not_to_be_needed(workers: str) -> None:
    activate = shutil.which("systemd-socket-activate")
    if activate is None:
        pytest.skip("systemd is not installed")
    port = free_port()
    address = f"127.0.0.1:{port}"
    serve = [sys.executable, "-m", "chat_server", "serve", "--workers", workers, "--bind", address]
    passed = ["-E", "CHAT_ENVIRONMENT=testing", "-E", "CHAT_REDIS__URL=redis://127.0.0.1:1"]
    with subprocess.Popen(
        [activate, "--listen", address, *passed, *serve],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        assert "Listening" in process.stderr.readline()
        # The first connection starts the server.
        with socket.create_connection(("127.0.0.1", port)):
            _, written = process.communicate(timeout=90)
    assert f"server.bind: cannot listen on {address}" in written
    assert "a socket unit of systemd has it" in written
    assert process.returncode == 1


def test_the_service_may_little(analyze: str, installed: Path) -> None:
    done = subprocess.run(
        [analyze, "security", "--offline=true", "--no-pager", "--threshold=20", str(installed)],
        capture_output=True,
        text=True,
        timeout=90,
    )
    if "unrecognized option" in done.stderr:
        pytest.skip("systemd is older than 250")
    assert done.returncode == 0, done.stdout[-500:] + done.stderr
