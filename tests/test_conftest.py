"""What tests/conftest.py promises to catch, it catches."""

import subprocess
import sys
from xml.etree import ElementTree

import pytest

from .architecture.source import ROOT

LEAK = """
import asyncio
async def forgotten(): await asyncio.sleep(60)
async def test():
    global task
    task = asyncio.create_task(forgotten())
"""
FAULT = """
import asyncio
async def test():
    asyncio.get_running_loop().call_soon(lambda: 1 / 0)
    await asyncio.sleep(0)
"""
UNRETRIEVED = """
import asyncio
async def fail(): raise ValueError("nobody asked")
async def test():
    task = asyncio.create_task(fail())
    await asyncio.sleep(0)
"""
UNAWAITED = """
async def forgotten(): pass
async def test(): forgotten()
"""
BLOCKING = """
import chat_server
code = compile("import time; time.sleep(0)", chat_server.__path__[0] + "/x.py", "exec")
async def test(): exec(code)
"""
STARTING = """
from chat_server.settings import load_settings
async def test(): load_settings(environ={})
"""
FINE = """
import asyncio, time
async def short(): await asyncio.sleep(0)
async def test():
    task = asyncio.create_task(short())
    time.sleep(0)
"""


SOURCES = {
    "leak": LEAK,
    "fault": FAULT,
    "unretrieved": UNRETRIEVED,
    "unawaited": UNAWAITED,
    "blocking": BLOCKING,
    "starting": STARTING,
    "fine": FINE,
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Run each source as a test of its own; return what was found wrong with it, if anything."""
    folder = tmp_path_factory.mktemp("inner")
    for name, source in SOURCES.items():
        (folder / f"test_{name}.py").write_text(source)
    options = ["-p", "tests.conftest", "-p", "no:cacheprovider", "--rootdir", str(folder)]
    config = ["-c", "pyproject.toml", "--junitxml", str(folder / "report.xml")]
    subprocess.run(
        [sys.executable, "-m", "pytest", *options, *config, folder], cwd=ROOT, capture_output=True
    )
    return {
        case.attrib["classname"].removeprefix("test_"): "".join(case.itertext())
        for case in ElementTree.parse(folder / "report.xml").iter("testcase")
    }


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("leak", "tasks without an owner"),
        ("fault", "errors nobody handled"),
        ("unretrieved", "nobody asked"),
        ("unawaited", "was never awaited"),
        ("blocking", "Blocking call to time.sleep"),
    ],
)
def test_a_test_that_misbehaves_fails(name: str, found: str, outcomes: dict[str, str]) -> None:
    assert found in outcomes[name]


@pytest.mark.parametrize("name", ["starting", "fine"])
def test_a_test_that_does_not_passes(name: str, outcomes: dict[str, str]) -> None:
    assert outcomes[name] == ""
