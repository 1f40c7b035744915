"""The set-up scripts say what is missing, and install it only where they may."""

import shutil
import subprocess
from pathlib import Path

import pytest

from ..architecture.source import ROOT

RELEASE = Path("/etc/os-release")
TOOLS = ("bash", "cat", "dirname", "env", "grep")


class Machine:
    """A folder with the scripts, and a PATH on which there is only what a test puts there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.log = folder / "log"
        self.log.touch()
        shutil.copytree(ROOT / "scripts", folder / "scripts")
        for tool in TOOLS:
            (self.bin / tool).symlink_to(shutil.which(tool) or tool)

    def add(self, program: str, line: str = "") -> None:
        """Put a program there that logs its call and runs one line of shell."""
        path = self.bin / program
        path.write_text(f'#!/bin/sh\necho "{program} $*" >> "{self.log}"\n{line}\n')
        path.chmod(0o755)

    def run(self, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.folder / "scripts" / script, *arguments],
            env={"PATH": str(self.bin)},
            capture_output=True,
            text=True,
        )

    @property
    def calls(self) -> list[str]:
        return self.log.read_text().splitlines()


NEEDED = ("redis-server", "postgres", "chromium")
SHELL = "chromium-headless-shell"
SERVICES = ("nginx", "haproxy", "apache2", "varnishd", "caddy", "promtool")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_what_is_there_is_not_installed(machine: Machine) -> None:
    for program in (*NEEDED, SHELL, *SERVICES, "node", "npm", "apt-get"):
        machine.add(program)
    (machine.folder / ".venv/npm/node_modules").mkdir(parents=True)
    done = machine.run("test-programs.sh")
    assert (done.returncode, done.stderr) == (0, "")
    assert machine.calls == []


@pytest.mark.skipif(
    RELEASE.exists() and "ID=ubuntu" in RELEASE.read_text(), reason="playwright installs Chromium"
)
def test_root_installs_what_is_missing(machine: Machine) -> None:
    machine.add("id", "echo 0")
    machine.add("apt-get")
    for program in ("postgres", *SERVICES, "node"):
        machine.add(program)
    done = machine.run("test-programs.sh")
    assert done.returncode == 0, done.stderr
    installs = [call for call in machine.calls if call.startswith("apt-get install")]
    assert [call.split()[-1] for call in installs] == ["redis-server", "chromium", SHELL]


def test_proxies_and_node_are_no_must(machine: Machine) -> None:
    for program in NEEDED:
        machine.add(program)
    machine.add("id", "echo 0")
    machine.add("apt-get", "exit 100")
    done = machine.run("test-programs.sh")
    assert done.returncode == 0
    # Where this very machine has proxies, nobody tries.
    installs = {word for call in machine.calls if " install " in call for word in call.split()}
    assert "nodejs" in installs
    there = [name for name in SERVICES if shutil.which(name, path="/usr/sbin")]
    missing = len(there) < len(SERVICES)
    known = done.stderr
    for program in ("Node", "TypeScript", SHELL):
        assert f"Going on without {program}\n" in known
        known = known.replace(f"without {program}", "")
    assert ("Going on without" in known) is missing


def test_old_package_lists_are_better_than_none(machine: Machine) -> None:
    machine.add("id", "echo 0")
    machine.add("apt-get", '[ "$1" != update ]')
    done = machine.run("apt-install.sh", "redis-server")
    assert done.returncode == 0, done.stderr
    assert machine.calls[-1].startswith("apt-get install")


def test_sudo_is_used_if_it_asks_for_no_password(machine: Machine) -> None:
    machine.add("id", "echo 1000")
    machine.add("sudo")
    machine.add("apt-get")
    done = machine.run("apt-install.sh", "redis-server")
    assert done.returncode == 0, done.stderr
    assert machine.calls[-1].startswith("sudo -n env")
    assert machine.calls[-1].endswith("redis-server")


@pytest.mark.parametrize("apt", [True, False])
def test_who_may_not_install_is_told_what_to_do(machine: Machine, apt: bool) -> None:
    machine.add("id", "echo 1000")
    machine.add("sudo", "exit 1")
    machine.add("postgres")
    if apt:
        machine.add("apt-get")
    done = machine.run("test-programs.sh")
    assert done.returncode == 1
    assert "The tests need: redis-server chromium" in done.stderr
    assert "sudo apt install redis-server chromium" in done.stderr
    assert not any("install" in call for call in machine.calls)


def test_an_old_python_is_refused(machine: Machine) -> None:
    machine.add("python3", 'case "$*" in *exit*) exit 1;; *) echo 3.9;; esac')
    done = machine.run("venv.sh", "python3")
    assert done.returncode == 1
    assert "is Python 3.9, and the project needs 3.11 or later" in done.stderr


def test_a_missing_python_is_said(machine: Machine) -> None:
    done = machine.run("venv.sh", "python3")
    assert done.returncode == 1
    assert "'python3' cannot be run. Install Python 3.11 or later" in done.stderr


def test_a_missing_venv_module_is_said(machine: Machine) -> None:
    machine.add("id", "echo 1000")
    machine.add("python3", 'case "$*" in *ensurepip*) exit 1;; *) echo 3.12;; esac')
    done = machine.run("venv.sh", "python3")
    assert done.returncode == 1
    assert "apt install python3.12-venv" in done.stderr
