"""The wheels are whole: built from the source archive, installed elsewhere and run."""

import os
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from ..architecture.source import PACKAGE, ROOT
from .test_dependencies import closure

CLIENT = ROOT / "packaging" / "client"
SERVER_ONLY = ["quart", "hypercorn", "redis", "jwt", "click", "h11", "uvloop"]

BOT = """
import asyncio, sys
from chat_server.client import Message, connect

async def main(url, token):
    async with connect(url, token=token) as chat, chat.subscribe("room:bots") as room:
        await chat.publish("room:bots", {"text": "hello"})
        async for event in room:
            assert isinstance(event, Message)
            print(event.data["text"])
            return

asyncio.run(main(*sys.argv[1:]))
"""

IMPORT_ALL = f"""
import importlib, pkgutil, {PACKAGE}
for module in pkgutil.walk_packages({PACKAGE}.__path__, "{PACKAGE}."):
    importlib.import_module(module.name)
    print(module.name)
"""


def _run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, env=_environ(), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _environ() -> dict[str, str]:
    foreign = ("PYTHONPATH", "CHAT_", "CHATCLIENT_")
    return {name: value for name, value in os.environ.items() if not name.startswith(foreign)}


def _pip(*arguments: str | Path, cwd: Path) -> None:
    _run(sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments, cwd=cwd)


def _build_wheel(source: Path, folder: Path) -> Path:
    _pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, source, cwd=folder)
    [built] = folder.glob("*.whl")
    return built


def _install(wheel: Path, project: Path, home: Path) -> Path:
    """Make an environment with a wheel and the distributions it depends on, and nothing else."""
    venv.create(home, with_pip=False)
    _pip("--python", home, "install", "--no-deps", "--no-index", wheel, cwd=home)
    [site_packages] = home.glob("lib/python*/site-packages")
    declared = tomllib.loads((project / "pyproject.toml").read_text("utf-8"))["project"]
    for name in closure(declared["dependencies"]):
        # Not downloaded, but linked from this environment.
        for file in metadata.files(name) or ():
            top = file.parts[0]
            link = site_packages / top
            if top not in ("..", "__pycache__") and not link.is_symlink():
                link.symlink_to(str(metadata.distribution(name).locate_file(top)))
    return home


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of an unpacked source archive."""
    folder = tmp_path_factory.mktemp("sdist")
    _run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", folder, cwd=ROOT)
    [archive] = folder.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    return folder / archive.name.removesuffix(".tar.gz")


@pytest.fixture(scope="module")
def wheel(unpacked: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _build_wheel(unpacked, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def client_wheel(unpacked: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = unpacked / CLIENT.relative_to(ROOT)
    return _build_wheel(source, tmp_path_factory.mktemp("client-wheel"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _install(wheel, ROOT, tmp_path_factory.mktemp("installed") / "venv")


@pytest.fixture(scope="module")
def served(installed: Path) -> Iterator[str]:
    """Start the installed server, and return its address."""
    server = subprocess.Popen(
        [installed / "bin" / "chat-server", "serve", "--bind", "127.0.0.1:0"],
        cwd=installed,
        env=_environ(),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        line = server.stdout.readline()
        assert line.startswith("chat_server listens on "), line
        yield line.split()[3]
    finally:
        server.terminate()
        server.communicate(timeout=240)


def _files(archive: Path) -> set[str]:
    return {name for name in zipfile.ZipFile(archive).namelist() if ".dist-info/" not in name}


def test_the_wheel_has_every_file_of_the_package(wheel: Path) -> None:
    packed = _files(wheel)
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
    assert {name.partition("/")[0] for name in packed} == {PACKAGE}


def test_the_wheel_of_the_client_is_a_part_of_the_other(wheel: Path, client_wheel: Path) -> None:
    client, whole = zipfile.ZipFile(client_wheel), zipfile.ZipFile(wheel)
    assert f"{PACKAGE}/py.typed" in _files(client_wheel)
    for name in _files(client_wheel):
        assert client.read(name) == whole.read(name), name
    assert wheel.name.split("-")[1] == client_wheel.name.split("-")[1], "their versions differ"


def test_the_client_asks_for_the_same_versions_as_the_server() -> None:
    texts = [(folder / "pyproject.toml").read_text("utf-8") for folder in (ROOT, CLIENT)]
    server, client = (tomllib.loads(text)["project"] for text in texts)
    assert set(client["dependencies"]) <= set(server["dependencies"])
    assert client["requires-python"] == server["requires-python"]


def test_the_installed_server_serves_its_own_commands(installed: Path, served: str) -> None:
    command = installed / "bin" / "chat-server"
    _run(command, "publish", "--url", served, "room:lobby", "hello", cwd=installed)
    tail = subprocess.Popen(
        [command, "tail", "--url", served, "--last", "1", "room:lobby"],
        cwd=installed,
        env=_environ(),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert tail.stdout is not None
        assert tail.stdout.readline().endswith(": hello\n")
    finally:
        tail.kill()
        tail.communicate()
    python = installed / "bin" / "python"
    assert "serve" in _run(python, "-m", PACKAGE, "--help", cwd=installed)
    where = _run(python, "-c", f"import {PACKAGE}; print({PACKAGE}.__file__)", cwd=installed)
    assert Path(where.strip()).is_relative_to(installed)


def test_the_client_works_alone(
    client_wheel: Path, installed: Path, served: str, tmp_path: Path
) -> None:
    python = _install(client_wheel, CLIENT, tmp_path / "venv") / "bin" / "python"
    token = _run(installed / "bin" / "chat-server", "token", "--sub", "bot", cwd=installed).strip()
    assert _run(python, "-c", BOT, served, token, cwd=tmp_path) == "hello\n"

    program = f"from importlib.util import find_spec; print([*map(find_spec, {SERVER_ONLY})])"
    assert _run(python, "-c", program, cwd=tmp_path) == f"{[None] * len(SERVER_ONLY)}\n"
    assert f"{PACKAGE}.client.bulk" in _run(python, "-c", IMPORT_ALL, cwd=tmp_path).split()
