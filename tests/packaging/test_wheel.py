"""The wheel is whole: built, installed elsewhere and run without the source tree."""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from ..architecture.source import PACKAGE, ROOT


def _run(*command: str | Path, cwd: Path) -> str:
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=cwd, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _pip(*arguments: str | Path, cwd: Path) -> None:
    _run(sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments, cwd=cwd)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    _pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, ROOT, cwd=folder)
    [built] = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel beside the dependencies of this environment, and return the new one."""
    home = tmp_path_factory.mktemp("installed") / "venv"
    venv.create(home, with_pip=False)
    _pip("--python", home, "install", "--no-deps", "--no-index", wheel, cwd=home)
    # A path file of its own does not follow those in the folder it names: this project's editable
    # installation, which would hide what the wheel lacks, stays out.
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site_packages = home / "lib" / version / "site-packages"
    (site_packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return home


def test_the_wheel_has_every_file_of_the_package(wheel: Path) -> None:
    packed = set(zipfile.ZipFile(wheel).namelist())
    expected = {
        str(path.relative_to(ROOT))
        for path in (ROOT / PACKAGE).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    expected |= {f"{PACKAGE}/config/{path.name}" for path in (ROOT / "config").glob("*.toml")}
    assert packed.issuperset(expected)
    assert f"{PACKAGE}/py.typed" in packed
    assert f"{PACKAGE}/config/default.toml" in packed
    assert any(name.endswith(".lua") for name in packed)
    assert f"{PACKAGE}/web/index.html" in packed
    assert {name.partition("/")[0] for name in packed if ".dist-info" not in name} == {PACKAGE}


def test_the_wheel_runs(installed: Path) -> None:
    assert "serve" in _run(installed / "bin" / "chat-server", "--help", cwd=installed)
    python = installed / "bin" / "python"
    assert "serve" in _run(python, "-m", PACKAGE, "--help", cwd=installed)
    where = _run(python, "-c", f"import {PACKAGE}; print({PACKAGE}.__file__)", cwd=installed)
    assert Path(where.strip()).is_relative_to(installed)
    code = f"from {PACKAGE}.settings import load_settings; print(load_settings(environ={{}}))"
    assert "environment='development'" in _run(python, "-c", code, cwd=installed)
